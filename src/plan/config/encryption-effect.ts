/** The effect of a change of `Backend.Encryption` on the existing hosts. */
import { formatIp } from '../../model/address'
import type { NetworkConfig } from '../../model/config/network-config'
import { familyLease, formatLeaseSubnet, isReservation, type Lease, type Peer } from '../../model/lease'
import { type TunnelRefusal, tunnelHosts } from '../encryption/tunnel-hosts'
import { encryptionOverhead, familiesOf } from '../reconcile/desired'

/** A lease whose host gets no packets where encryption is required. */
export interface Unencryptable {
  readonly subnet: string
  readonly publicIp: string
  readonly reason: string
}

const REASONS: Readonly<Record<TunnelRefusal, string>> = {
  'own-key': 'it has the key of another host',
  'key-twin': 'an older lease has the same key',
  'address-twin': 'an older lease has the same source address',
  source: 'its source address belongs to no host',
  differs: 'its families announce different keys',
}

/**
 * The leases without WireGuard keys that other hosts use.
 * @returns none where encryption was required before: their hosts are cut off already
 */
export function findUnencryptable(
  before: NetworkConfig | undefined,
  after: NetworkConfig,
  leases: readonly Lease[],
): Unencryptable[] {
  if (after.backend.encryption?.mode !== 'required') return []
  if (before?.backend.encryption?.mode === 'required') return []
  const oldestFirst = [...leases].sort((a, b) => (a.modRevision < b.modRevision ? -1 : 1))
  const families = familiesOf(after).map((family) =>
    oldestFirst.flatMap((lease): Peer[] => {
      const { subnet, publicIp, vtep } = familyLease(lease, family) ?? {}
      if (subnet === undefined || publicIp === undefined || vtep === undefined) return []
      const { mac, wireguard } = vtep
      return [{ key: lease.key, subnet, publicIp, mac, ...(wireguard !== undefined && { wireguard }) }]
    }),
  )
  const { hosts, refused } = tunnelHosts(families, [])
  const usable = new Set(hosts.flatMap(({ leases: keys }) => keys))
  return leases
    .filter(({ key }) => !usable.has(key))
    .map((lease) => {
      const refusal = refused.get(lease.key)
      const { publicIp, publicIpv6 } = lease.value
      const host = lease.subnet.ipv4 === undefined ? publicIpv6 : publicIp
      return {
        subnet: formatLeaseSubnet(lease.subnet),
        publicIp: host === undefined ? '-' : formatIp(host),
        reason: refusal === undefined ? withoutKeys(lease) : REASONS[refusal],
      }
    })
}

const withoutKeys = (lease: Lease): string =>
  isReservation(lease)
    ? 'it announces no keys; it is reserved, and its host may be away'
    : 'it announces no keys'

/** What a change of encryption does to the MTU of containers; `undefined` if it does nothing. */
export function describeRoomChange(
  before: NetworkConfig | undefined,
  after: NetworkConfig,
): string | undefined {
  if (before === undefined) return undefined
  const bytes = encryptionOverhead(after) - encryptionOverhead(before)
  if (bytes === 0) return undefined
  return bytes > 0
    ? `encryption takes ${bytes} bytes of each packet: containers get an MTU that is ${bytes} bytes less ` +
        'once Docker has restarted; containers that run keep theirs until they are restarted, ' +
        'and learn the smaller MTU of the path from their first large packet'
    : `without encryption each packet has room for ${-bytes} bytes more: containers get an MTU that is ` +
        `${-bytes} bytes more once Docker has restarted, and containers that run keep theirs until then`
}
