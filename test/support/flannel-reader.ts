/**
 * What a flanneld makes of a key and a value under `<prefix>/subnets` (pkg/subnet/subnet.go, pkg/lease/lease.go), apart from the code under
 * test. One Put that it cannot read takes all its peers from it, so all that is ever put there is held against this.
 */
import { isIP, isIPv4 } from 'node:net'
import type { Etcd3 } from 'etcd3'

/** flannel's pattern is anchored at its end only; the second and third dot stand for any character. */
const NAME = /(\d+\.\d+.\d+.\d+)-(\d+)(?:&([a-f\d:]+)-(\d+))?$/
/** Lengths are read as numbers of 5 and 7 bits. */
const LONGEST = { v4: 31, v6: 127 }

/** @throws when a flanneld could not read the key */
export function assertReadableKey(key: string): void {
  const [, v4 = '', length4, v6, length6] = NAME.exec(key) ?? []
  if (!isIPv4(v4) || Number(length4) > LONGEST.v4) throw unreadable('key', key)
  if (v6 !== undefined && (isIP(v6) !== 6 || Number(length6) > LONGEST.v6)) throw unreadable('key', key)
}

/**
 * Reads key and value as strictly as flannel, and more so in one point: the VXLAN data, which it leaves for later, must be usable.
 * @throws when a flanneld could not read them
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
  // Go reads other forms and lengths too; no device has such an address.
  if (typeof vtepmac !== 'string' || !/^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i.test(vtepmac)) {
    throw unreadable('VtepMAC in', value)
  }
}

/** A JSON object by its names in lower case: Go matches them in any case, and the last of two counts. */
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
  new Error(`a flanneld cannot read the ${what} ${JSON.stringify(text)}`)

/** One write under the prefix. */
export interface Write {
  readonly kind: 'put' | 'delete'
  readonly key: string
  /** Empty for a deletion. */
  readonly value: string
  /** The etcd lease it was bound to, `0` for none. */
  readonly etcdLease: string
}

/** All that was ever written under `<prefix>/subnets`, without a slash at its end, as a flanneld watches it; oldest first. */
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
 * Proves that all that was ever written can be read by a flanneld, and that no key has an IPv6 half unless the network has IPv6.
 * @returns the history
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
    if (!ipv6 && key.includes('&')) throw new Error(`a flanneld without IPv6 hangs on the key ${key}`)
  }
  return writes
}
