/**
 * A host's entry about the multicast groups that it wants to receive: a key of ours beside flannel's keys,
 * outside of the range flannel watches.
 *
 *     {"vni":8388609,"families":["IPv4"],"groups":["239.1.2.3"]}
 */
import { z } from 'zod'
import { FAMILIES, familyOf, formatIp, type IpAddress, isGroup, parseIp } from '../../model/address'
import type { GroupsEntry, HostGroups } from '../../model/multicast'
import { type Decoded, parseSubnetName } from './keys'
import { MOST_VNI, parsedBy, refuse } from './lease-codec'
import { readOwnValue } from './own-value'
import type { KeyValue } from './wire'

/** Most bytes of a value. A host of ours writes at most 12 KB. */
const LONGEST = 16_384
/** Most groups in a value. A host of ours writes at most 256. */
const MOST_READ = 1024

const parseGroup = (text: string): IpAddress | undefined => {
  const address = parseIp(text)
  return address !== undefined && isGroup(address) ? address : undefined
}

const schema = z.object({
  vni: z.int().min(1).max(MOST_VNI),
  families: z.array(z.enum(FAMILIES)).max(FAMILIES.length),
  groups: z.array(parsedBy(parseGroup, 'the address of a multicast group')).max(MOST_READ),
})

export const encodeGroups = ({ vni, tells, groups }: HostGroups): string =>
  JSON.stringify({ vni, families: tells, groups: groups.map(formatIp) })

/** Reads a value. Never throws. */
export function decodeGroupsValue(text: string): Decoded<HostGroups> {
  if (text.length > LONGEST) return { reason: `the value has more than ${LONGEST} characters` }
  const read = readOwnValue(schema, text)
  if (read.reason !== undefined) return read
  const { vni, families, groups } = read.value
  const tells = FAMILIES.filter((family) => families.includes(family))
  const stray = groups.find((group) => !tells.includes(familyOf(group)))
  if (stray !== undefined)
    return refuse(`the value has the group ${formatIp(stray)} of a family that it does not list`)
  return { value: { vni, tells, groups: [...new Set(groups)] } }
}

/**
 * Reads a key under `overlay/groups/` with its value. Never throws: an unreadable entry does not affect
 * others.
 * @param name the key's last part
 */
export function decodeGroups(name: string, { value, modRevision }: KeyValue): GroupsEntry {
  const subnet = parseSubnetName(name)
  if (subnet.reason !== undefined) return { name, modRevision, reason: subnet.reason }
  if (value.length > LONGEST) {
    return {
      name,
      modRevision,
      reason: `the value has ${value.length} bytes; at most ${LONGEST} are read`,
    }
  }
  const groups = decodeGroupsValue(value.toString())
  return groups.reason === undefined
    ? { name, modRevision, value: groups.value }
    : { name, modRevision, reason: groups.reason }
}
