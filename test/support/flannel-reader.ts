/**
 * flanneld's parser of keys and values under `<prefix>/subnets` (pkg/subnet/subnet.go, pkg/lease/lease.go),
 * independent of the code under test. A single Put that flanneld cannot parse makes flanneld lose all its
 * peers, so tests check everything ever put there with this parser.
 */
import { isIP, isIPv4 } from 'node:net'
import type { Etcd3 } from 'etcd3'

/** flannel's pattern: only its end is anchored, and the second and third dot match any character. */
const NAME = /(\d+\.\d+.\d+.\d+)-(\d+)(?:&([a-f\d:]+)-(\d+))?$/
/** flannel parses prefix lengths as numbers of 5 bits (IPv4) and 7 bits (IPv6). */
const LONGEST = { v4: 31, v6: 127 }

/** @throws {Error} if flanneld could not parse the key */
export function assertReadableKey(key: string): void {
  const [, v4 = '', length4, v6, length6] = NAME.exec(key) ?? []
  if (!isIPv4(v4) || Number(length4) > LONGEST.v4) throw unreadable('key', key)
  if (v6 !== undefined && (isIP(v6) !== 6 || Number(length6) > LONGEST.v6)) throw unreadable('key', key)
}

/**
 * Parses key and value as strictly as flannel. The VXLAN data, which flannel parses only later, has to be
 * valid too.
 * @throws {Error} if flanneld could not parse them
 */
export function assertReadable(key: string, value: string): void {
  assertReadableKey(key)
  const lease = goObject(value, value)
  const { publicip: publicIp = '0.0.0.0', publicipv6: publicIpv6 = null, backendtype = '' } = lease
  if (typeof publicIp !== 'string' || !isIPv4(publicIp.replace(/^"*|"*$/g, ''))) {
    throw unreadable('PublicIP in', value)
  }
  if (publicIpv6 !== null && (typeof publicIpv6 !== 'string' || isIP(publicIpv6) === 0)) {
    throw unreadable('PublicIPv6 in', value)
  }
  if (backendtype !== 'vxlan') throw unreadable('BackendType in', value)
  assertVtep(lease['backenddata'], value)
  if (lease['backendv6data'] !== undefined) assertVtep(lease['backendv6data'], value)
}

function assertVtep(data: unknown, value: string): void {
  const { vni = 0, vtepmac } = goObject(JSON.stringify(data) ?? 'null', value)
  const isVni = typeof vni === 'number' && Number.isInteger(vni) && vni >= 0 && vni <= 0xffff_ffff
  if (!isVni) throw unreadable('VNI in', value)
  // Go's net.ParseMAC accepts other notations and lengths too, but no device has such an address.
  if (typeof vtepmac !== 'string' || !/^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i.test(vtepmac)) {
    throw unreadable('VtepMAC in', value)
  }
}

/** Parses a JSON object as Go does: names are matched in any case, and the last of equal names counts. */
function goObject(text: string, value: string): Record<string, unknown> {
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch {
    throw unreadable('value', value)
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) throw unreadable('value', value)
  return Object.fromEntries(Object.entries(parsed).map(([name, field]) => [name.toLowerCase(), field]))
}

const unreadable = (what: string, text: string): Error =>
  new Error(`flanneld cannot read the ${what} ${JSON.stringify(text)}`)

/** One write under the prefix. */
export interface Write {
  readonly kind: 'put' | 'delete'
  readonly key: string
  /** Empty for a deletion. */
  readonly value: string
  /** Id of the etcd lease of the key, `0` for none. */
  readonly etcdLease: string
}

/**
 * All writes since etcd's first revision under `<prefix>/subnets`, oldest first. As in flanneld's watch, the
 * prefix has no slash at its end.
 */
async function historyOfSubnets(client: Etcd3, prefix: string): Promise<readonly Write[]> {
  const mark = `/mark/${process.hrtime.bigint()}`
  await client.put(mark).value('')
  const watcher = await client.watch().prefix('/').startRevision('1').create()
  const writes: Write[] = []
  try {
    await new Promise<void>((resolve, reject) => {
      watcher.on('error', reject)
      watcher.on('data', ({ events }) => {
        for (const { type, kv } of events) {
          const key = kv.key.toString()
          if (key === mark) resolve()
          if (!key.startsWith(`${prefix}/subnets`)) continue
          const kind = type === 'Put' ? 'put' : 'delete'
          writes.push({ kind, key, value: kv.value.toString(), etcdLease: kv.lease })
        }
      })
    })
  } finally {
    await watcher.cancel()
  }
  return writes
}

/**
 * Checks that flanneld can parse all that was ever written, and that keys have an IPv6 part only if the
 * network has IPv6.
 * @returns all writes, oldest first
 * @throws {Error} at the first violation
 */
export async function assertHistoryReadable(
  client: Etcd3,
  prefix: string,
  { ipv6 = false } = {},
): Promise<readonly Write[]> {
  const writes = await historyOfSubnets(client, prefix)
  for (const { kind, key, value } of writes) {
    if (kind === 'put') assertReadable(key, value)
    else assertReadableKey(key)
    if (!ipv6 && key.includes('&')) throw new Error(`flanneld without IPv6 hangs on the key ${key}`)
  }
  return writes
}
