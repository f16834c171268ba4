/**
 * Parts of the status document, made from values: for the daemon, and for overlayctl where no daemon runs.
 */
import {
  type Family,
  formatIp,
  formatMac,
  formatPrefix,
  type Prefix,
  parseIpPrefix,
  parseIpv4Prefix,
  parseIpv6Prefix,
} from '../model/address'
import { nameUnderSubnets } from '../model/commands'
import type { NetworkConfig } from '../model/config/network-config'
import type { ObservedLink } from '../model/kernel/link'
import { isReservation, type Lease, type LeaseSubnet, type RejectedLease } from '../model/lease'
import type { DeviceStatus, PeerStatus, Status } from './status'

/** The network of a config. */
export function reportNetwork(config: NetworkConfig, etcdPrefix: string): NonNullable<Status['network']> {
  return {
    etcdPrefix,
    ...(config.ipv4 !== undefined && {
      network: formatPrefix(config.ipv4.network),
      subnetLength: config.ipv4.subnetLength,
    }),
    ...(config.ipv6 !== undefined && {
      ipv6Network: formatPrefix(config.ipv6.network),
      ipv6SubnetLength: config.ipv6.subnetLength,
    }),
    backend: 'vxlan',
    vni: config.backend.vni,
    ...(config.backend.port !== undefined && { port: config.backend.port }),
  }
}

/** An etcd lease id as etcdctl shows it. */
const formatEtcdLease = (id: string): string => BigInt(id).toString(16)

/** The subnets and addresses of a lease, of the families that it has. */
export function reportSubnets({ subnet: { ipv4, ipv6 }, value }: Lease) {
  return {
    ...(ipv4 !== undefined && { subnet: formatPrefix(ipv4), publicIp: formatIp(value.publicIp) }),
    ...(ipv6 !== undefined && {
      ipv6Subnet: formatPrefix(ipv6),
      ...(value.publicIpv6 !== undefined && { publicIpv6: formatIp(value.publicIpv6) }),
    }),
  }
}

/** The subnets that {@link reportSubnets} has written. */
export const readSubnets = (lease: Status['lease']): LeaseSubnet => ({
  ipv4: parseIpv4Prefix(lease?.subnet ?? ''),
  ipv6: parseIpv6Prefix(lease?.ipv6Subnet ?? ''),
})

/** The network of one family, as {@link reportNetwork} tells it. */
export const readNetwork = (network: Status['network'], family: Family): Prefix | undefined =>
  parseIpPrefix((family === 'IPv4' ? network?.network : network?.ipv6Network) ?? '')

/** The further subnets of that host, of both families, from their texts; in order. */
export const readFurtherSubnets = (texts: readonly string[] = []): readonly Prefix[] =>
  texts
    .flatMap((text): Prefix[] => {
      const prefix = parseIpPrefix(text)
      return prefix === undefined ? [] : [prefix]
    })
    .sort((a, b) => (a.address < b.address ? -1 : 1))

/** Whether a lease is reserved, and its etcd lease. */
export function reportBinding(lease: Lease) {
  return {
    reserved: isReservation(lease),
    modRevision: lease.modRevision.toString(),
    ...(!isReservation(lease) && { etcdLease: formatEtcdLease(lease.etcdLease) }),
  }
}

/** A rejected lease, as far as its key names it. */
export function reportRejected({ key, reason }: RejectedLease): PeerStatus {
  const name = nameUnderSubnets(key)
  return { key: name, subnet: name, publicIp: '-', mac: '-', state: 'rejected', reason }
}

/** A device as the kernel has it. */
export function reportDevice({ name, index, mac, mtu, up, vxlan }: ObservedLink): DeviceStatus {
  const local = vxlan?.local
  return { name, index, mac: formatMac(mac), mtu, up, ...(local !== undefined && { local: formatIp(local) }) }
}

/** The document without its clocks: two of them are equal exactly when nothing has happened. */
export function withoutClocks(status: Status): unknown {
  const { uptimeSeconds, ...daemon } = status.daemon
  const { latencyMs, ...etcd } = status.etcd
  const { lastSyncSecondsAgo, contested, ...convergence } = status.convergence
  return {
    ...status,
    daemon,
    etcd,
    convergence: { ...convergence, contested: contested?.map(({ what, times }) => [what, times]) },
    lease: status.lease && { ...status.lease, expiresInSeconds: undefined },
    stateFile: status.stateFile && { ...status.stateFile, savedAt: undefined },
    encryption: status.encryption && { ...status.encryption, keyAgeSeconds: undefined },
    mesh: status.mesh && [status.mesh.state, status.mesh.reason, status.mesh.unreachable],
    peers: status.peers.map(({ probe, ...peer }) =>
      probe === undefined ? peer : { ...peer, probe: [probe.layer, probe.fullSize] },
    ),
    heldBack: status.heldBack && { ...status.heldBack, secondsLeft: undefined },
  }
}
