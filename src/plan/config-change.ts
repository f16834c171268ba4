/** What a change of the network config means for a host that runs. */
import { formatIp, formatPrefix, type Prefix } from '../model/address'
import type { LeaseSubnet } from '../model/lease'
import {
  formatNetworks,
  type NetworkConfig,
  type SubnetRange,
  type VxlanBackend,
} from '../model/network-config'
import { isLeasable } from './allocate'

export type ConfigPlan =
  | { readonly kind: 'nothing' }
  /** In words, one for each field that takes effect on what runs. */
  | { readonly kind: 'apply'; readonly changes: readonly string[] }
  /** The host would have another subnet, and its containers other addresses: for an operator to decide when. */
  | { readonly kind: 'needs-new-subnet'; readonly reason: string }

/** @param own the subnet this host has; without one, what holds for every host */
export function planConfigChange(
  before: NetworkConfig,
  after: NetworkConfig,
  own: LeaseSubnet | undefined,
): ConfigPlan {
  const reason =
    misfit('IPv4', before.ipv4, after.ipv4, own?.ipv4) ?? misfit('IPv6', before.ipv6, after.ipv6, own?.ipv6)
  if (reason !== undefined) return { kind: 'needs-new-subnet', reason }
  const changes = describeConfigChanges(before, after)
  return changes.length === 0 ? { kind: 'nothing' } : { kind: 'apply', changes }
}

function misfit(
  family: string,
  before: SubnetRange | undefined,
  after: SubnetRange | undefined,
  own: Prefix | undefined,
): string | undefined {
  if (before === undefined && after === undefined) return undefined
  if (after === undefined) return `${family} is switched off`
  if (before === undefined) return `${family} is switched on`
  if (before.subnetLength !== after.subnetLength) {
    return `${family} subnets are to be /${after.subnetLength} and not /${before.subnetLength}`
  }
  if (own === undefined || isLeasable(after, own)) return undefined
  return `its subnet ${formatPrefix(own)} is not among those of ${formatPrefix(after.network)} from ${formatIp(after.subnetMin)} to ${formatIp(after.subnetMax)}`
}

/** In words, one for each field that says something else. */
export function describeConfigChanges(before: NetworkConfig, after: NetworkConfig): string[] {
  const [old, next] = [before.backend, after.backend]
  const facts: [string, string, string][] = [
    ['network', formatNetworks(before), formatNetworks(after)],
    ['subnets', describeBounds(before), describeBounds(after)],
    ['VNI', `${old.vni}`, `${next.vni}`],
    ['port', describePort(old.port), describePort(next.port)],
    ['MTU', describeMtu(old.mtu), describeMtu(next.mtu)],
    ['GBP', onOff(old.gbp), onOff(next.gbp)],
    ['learning', onOff(old.learning), onOff(next.learning)],
    ['direct routing', onOff(old.directRouting), onOff(next.directRouting)],
    ['multicast', describeMulticast(old), describeMulticast(next)],
    ['firewall', firewallMode(before), firewallMode(after)],
  ]
  return facts.filter(([, a, b]) => a !== b).map(([what, a, b]) => `${what} ${b} instead of ${a}`)
}

const describeBounds = ({ ipv4, ipv6 }: NetworkConfig): string =>
  [ipv4, ipv6]
    .filter((range) => range !== undefined)
    .map(
      (range) => `/${range.subnetLength} from ${formatIp(range.subnetMin)} to ${formatIp(range.subnetMax)}`,
    )
    .join(' and ')

const describePort = (port: number | undefined): string => (port === undefined ? "the kernel's" : `${port}`)
const describeMtu = (mtu: number | undefined): string => (mtu === undefined ? "the underlay's" : `${mtu}`)
const describeMulticast = ({ multicast: vni, multicastLimit: limit }: VxlanBackend): string =>
  vni === undefined ? 'off' : `with VNI ${vni}${limit === undefined ? '' : ` and up to ${limit} packets/s`}`
const onOff = (value: boolean): string => (value ? 'on' : 'off')
const firewallMode = ({ nftables }: NetworkConfig): string => (nftables ? 'nftables' : 'iptables')
