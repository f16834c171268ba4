/** Gateways of announced prefixes that do not answer: other hosts send packets here, and they are lost. */
import { formatIp, type IpAddress } from '../../model/address'
import type { ObservedLink } from '../../model/kernel/link'
import type { AskedNeighbour } from '../../model/kernel/neighbour'
import type { Announcement } from '../../model/prefixes'
import { deliveryOf, type LocalNetwork } from './delivery'

/** The next hop of an announced prefix. */
export interface Gateway {
  readonly announcement: Announcement
  readonly address: IpAddress
  readonly link: ObservedLink
}

export interface GatewayVerdict {
  /** Those that do not answer. */
  readonly silent: readonly Gateway[]
  /** Since when those that have not answered have not: monotonic milliseconds. For the next look. */
  readonly since: ReadonlyMap<string, number>
}

/** The gateways of those announcements that have a way now. */
export const gatewaysOf = (
  announcements: Iterable<Announcement>,
  network: LocalNetwork,
): readonly Gateway[] =>
  Array.from(announcements).flatMap((announcement): Gateway[] => {
    const { via, prefix } = announcement
    if (via?.kind !== 'gateway') return []
    const delivery = deliveryOf(via, prefix, network)
    return delivery.kind === 'ready' ? [{ announcement, address: via.address, link: delivery.link }] : []
  })

/**
 * Milliseconds. Longer than the kernel asks a neighbour: mcast_solicit times retrans_time, 3 s by default.
 */
const PATIENCE = 4000

/**
 * Which gateways do not answer. One that the kernel is asking may answer the next moment: it is silent once
 * it has not answered for longer than the kernel asks. Then only an answer ends its silence: the kernel may
 * forget that it has asked.
 * @param neighbours by index of the link
 * @param before the verdict of the last look
 * @param now in monotonic milliseconds
 */
export function judgeGateways(
  gateways: readonly Gateway[],
  neighbours: ReadonlyMap<number, readonly AskedNeighbour[]>,
  before: GatewayVerdict,
  now: number,
): GatewayVerdict {
  const silent: Gateway[] = []
  const sinces = new Map<string, number>()
  for (const gateway of gateways) {
    const found = neighbours.get(gateway.link.index)?.find(({ address }) => address === gateway.address)
    const key = `${gateway.link.index} ${gateway.address}`
    const last = before.since.get(key)
    const isOverdue = last !== undefined && now - last >= PATIENCE
    if (found?.state === 'answered' || (found === undefined && !isOverdue)) continue
    // One that has failed, and is asked again, stays silent.
    const since = found?.state === 'failed' ? Number.NEGATIVE_INFINITY : (last ?? now)
    sinces.set(key, since)
    if (now - since >= PATIENCE) silent.push(gateway)
  }
  return { silent, since: sinces }
}

/** Before the first look. */
export const NO_VERDICT: GatewayVerdict = { silent: [], since: new Map() }

export const describeSilence = ({ address, link }: Gateway): string =>
  `the gateway ${formatIp(address)} on ${link.name} does not answer`

/** What ends it. */
export const SILENCE_FIX = 'put the gateway right, announce it with another --via, or withdraw it'
