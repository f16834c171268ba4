/** What several checks make of the facts: the config, this host's lease and device, its peers. */
import {
  FAMILIES,
  type Family,
  familyOf,
  formatPrefix,
  type IpAddress,
  mac,
  networkOf,
  type Prefix,
  parseIpv4Prefix,
  parseIpv6Prefix,
  samePrefix,
} from '../../model/address'
import { describeError } from '../../model/errors'
import {
  type KernelObjects,
  type ObservedLink,
  ROUTE_PROTOCOL,
  type RouteTarget,
  routeKey,
} from '../../model/kernel'
import { type Lease, leaseHalf } from '../../model/lease'
import { type NetworkConfig, parseNetworkConfig, type SubnetRange } from '../../model/network-config'
import { linkName } from '../desired'
import { PeerTable } from '../peer-table'
import type { DeviceFacts, Fact, Facts, PeerFact } from './facts'

/** flannel's default, and so the best guess without a config. */
const DEFAULT_VNI = 1

/** How messages and findings name a peer: by its subnet. */
export const peerKey = ({ subnet }: { readonly subnet: Prefix }): string => formatPrefix(subnet)

/** The config in etcd, when it is there and right. */
export function configOf({ etcd, etcdPrefix }: Facts): Fact<NetworkConfig> {
  if (etcd.value === undefined) return { missing: 'etcd cannot be read' }
  if (etcd.value.config === undefined) return { missing: `there is no network config under ${etcdPrefix}` }
  try {
    return { value: parseNetworkConfig(etcd.value.config) }
  } catch (error) {
    return { missing: describeError(error), code: 'config-invalid' }
  }
}

/** The VNI this host uses. */
export const vniOf = (facts: Facts): number =>
  facts.daemon.value?.network?.vni ?? configOf(facts).value?.backend.vni ?? DEFAULT_VNI

export const rangeOf = (config: NetworkConfig | undefined, family: Family): SubnetRange | undefined =>
  family === 'IPv4' ? config?.ipv4 : config?.ipv6

/** The families this host takes part in, as far as that can be told. */
export function familiesOf(facts: Facts): Family[] {
  const config = configOf(facts).value
  const network = facts.daemon.value?.network
  const has = (family: Family): boolean =>
    config !== undefined
      ? rangeOf(config, family) !== undefined
      : network !== undefined
        ? (family === 'IPv4' ? network.network : network.ipv6Network) !== undefined
        : deviceOf(facts, family) !== undefined
  const found = FAMILIES.filter(has)
  return found.length === 0 ? ['IPv4'] : found
}

export const deviceName = (facts: Facts, family: Family): string => linkName(family, vniOf(facts))

export const deviceOf = (facts: Facts, family: Family): DeviceFacts | undefined =>
  facts.kernel.value?.devices.find((device) => device.family === family)

/** The subnet that this host takes for its own: as the daemon has it, else as subnet.env does. */
export function claimedSubnet({ daemon, subnetFile }: Facts, family: Family): Prefix | undefined {
  const { lease } = daemon.value ?? {}
  const told = family === 'IPv4' ? lease?.subnet : lease?.ipv6Subnet
  if (told !== undefined) return parseIpv4Prefix(told) ?? parseIpv6Prefix(told)
  return family === 'IPv4' ? subnetFile.value?.ipv4 : subnetFile.value?.ipv6
}

/** The lease under this host's key, whoever it says it is; without a claim the one with its device's MAC. */
export function ownLease(facts: Facts): Lease | undefined {
  const leases = facts.etcd.value?.leases ?? []
  const claims = FAMILIES.map((family) => [family, claimedSubnet(facts, family)] as const)
  const claimed = leases.find((lease) =>
    claims.some(([family, claim]) => {
      const half = leaseHalf(lease, family)
      return claim !== undefined && half !== undefined && samePrefix(half.subnet, claim)
    }),
  )
  if (claimed !== undefined) return claimed
  if (claims.some(([, claim]) => claim !== undefined)) return undefined
  return leases.find((lease) =>
    FAMILIES.some((family) => {
      const device = deviceOf(facts, family)
      return device !== undefined && leaseHalf(lease, family)?.vtep?.mac === device.link.mac
    }),
  )
}

export function ownSubnet(facts: Facts, family: Family): Prefix | undefined {
  const own = ownLease(facts)
  return claimedSubnet(facts, family) ?? (own && leaseHalf(own, family)?.subnet)
}

/** What leases are held against: what the daemon runs with, where it does not follow a config that was changed. */
function rangeInUse(
  facts: Facts,
  config: NetworkConfig | undefined,
  family: Family,
): SubnetRange | undefined {
  const range = rangeOf(config, family)
  const used = facts.daemon.value?.network
  if (range === undefined || used === undefined) return range
  const network =
    family === 'IPv4' ? parseIpv4Prefix(used.network ?? '') : parseIpv6Prefix(used.ipv6Network ?? '')
  const length = family === 'IPv4' ? used.subnetLength : used.ipv6SubnetLength
  return { ...range, network: network ?? range.network, subnetLength: length ?? range.subnetLength }
}

/** The peers of one family with what is wrong with the leases of the others. */
export function peerTable(facts: Facts, family: Family): PeerTable | undefined {
  const config = configOf(facts).value
  const range = rangeInUse(facts, config, family)
  const { etcd } = facts
  if (config === undefined || range === undefined || etcd.value === undefined) return undefined
  const own = ownLease(facts)
  const half = own && leaseHalf(own, family)
  const device = deviceOf(facts, family)
  const table = new PeerTable(
    { range, vni: vniOf(facts) },
    {
      key: own?.key ?? '',
      subnet: ownSubnet(facts, family) ?? networkOf(range.subnetMin, 32),
      publicIp: half?.publicIp ?? device?.link.vxlan?.local ?? range.subnetMin,
      mac: device?.link.mac ?? half?.vtep?.mac ?? mac(0),
    },
  )
  table.reset(etcd.value.leases, etcd.value.unreadable)
  return table
}

/** The peers as etcd has them; when it cannot be read, as the kernel has them. */
export function peersOf(facts: Facts): PeerFact[] {
  return FAMILIES.flatMap((family): PeerFact[] => {
    const table = peerTable(facts, family)
    if (table !== undefined) {
      return [...table.peers()].map(({ subnet, publicIp, mac }) => ({ family, subnet, publicIp, mac }))
    }
    const device = facts.etcd.value === undefined ? deviceOf(facts, family) : undefined
    return device === undefined ? [] : kernelPeers(device)
  })
}

function kernelPeers({ family, objects }: DeviceFacts): PeerFact[] {
  return [...objects.routes.values()].flatMap(([route]) => {
    if (route === undefined) return []
    const subnet = route.destination
    const mac = objects.neighbours.get(subnet.address)
    const publicIp = mac === undefined ? undefined : objects.fdb.get(mac)?.[0]
    return mac === undefined || publicIp === undefined ? [] : [{ family, subnet, publicIp, mac }]
  })
}

/** The link past our device that a peer is reached over, where it is a direct one. */
export function directLink(objects: KernelObjects, subnet: Prefix): number | undefined {
  const isDirect = (target: RouteTarget) => target.kind === 'direct'
  const route = objects.routes
    .get(routeKey(subnet))
    ?.find(({ protocol, target }) => protocol === ROUTE_PROTOCOL && isDirect(target))
  return route?.target.kind === 'direct' ? route.target.link : undefined
}

/** An address in a subnet that containers may have: the one after the bridge's. */
export function sampleAddress({ address }: Prefix): IpAddress {
  return (typeof address === 'number' ? address + 2 : address + 2n) as IpAddress
}

export const linkNameOf = (facts: Facts, index: number | undefined): string =>
  findLink(facts, index)?.name ?? (index === undefined ? 'nowhere' : `link ${index}`)

export const findLink = (facts: Facts, index: number | undefined): ObservedLink | undefined =>
  facts.kernel.value?.links.find((link) => link.index === index)

/** The interface that the device sends over. */
export function parentOf(facts: Facts, device: DeviceFacts): ObservedLink | undefined {
  const { parent, local } = device.link.vxlan ?? {}
  if (parent !== undefined) return findLink(facts, parent)
  const owner = facts.kernel.value?.addresses.find(({ address }) => address.address === local)
  return findLink(facts, owner?.linkIndex)
}

/** Whether an address is one of this host's. */
export const isOwnAddress = (facts: Facts, address: IpAddress): boolean =>
  facts.kernel.value?.addresses.some((each) => each.address.address === address) ?? false

export const familyWord = (address: IpAddress): '' | '-6 ' => (familyOf(address) === 'IPv4' ? '' : '-6 ')
