/** What a change of the network config means for a running host. */
import { formatIp, formatPrefix, type Prefix } from '../../model/address'
import {
  formatNetworks,
  type NetworkConfig,
  type SubnetRange,
  subnetRanges,
  type VxlanBackend,
} from '../../model/config/network-config'
import type { LeaseSubnet } from '../../model/lease'
import { isLeasable } from '../lease/allocate'

export type ConfigPlan =
  | { readonly kind: 'nothing' }
  /** One text per field that changes what runs. */
  | { readonly kind: 'apply'; readonly changes: readonly string[] }
  /** The host would get another subnet, and its containers other addresses: an operator decides when. */
  | { readonly kind: 'needs-new-subnet'; readonly reason: string }

/** @param own the subnet of this host; without it the result is the one that applies to every host */
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
    return `${family} subnets become /${after.subnetLength} instead of /${before.subnetLength}`
  }
  if (own === undefined || isLeasable(after, own)) return undefined
  const range = `from ${formatIp(after.subnetMin)} to ${formatIp(after.subnetMax)}`
  return `its subnet ${formatPrefix(own)} is not among those of ${formatPrefix(after.network)} ${range}`
}

/** A part of the config that takes effect on hosts that run. */
interface ConfigFact<T> {
  readonly name: string
  /** A value in words. Two values with the same words are the same. */
  words(value: T): string
  /** Hosts must agree on the part: packets are lost while some hosts have a change and others do not. */
  readonly isLossy?: true
}

/** One entry for each setting of the backend; the compiler demands an entry for a new setting. */
const BACKEND_FACTS: { readonly [F in keyof VxlanBackend]: ConfigFact<VxlanBackend> } = {
  vni: { name: 'VNI', words: ({ vni }) => `${vni}`, isLossy: true },
  port: {
    name: 'port',
    words: ({ port }) => (port === undefined ? "the kernel's" : `${port}`),
    isLossy: true,
  },
  mtu: { name: 'MTU', words: ({ mtu }) => (mtu === undefined ? "the underlay's" : `${mtu}`) },
  gbp: { name: 'GBP', words: ({ gbp }) => onOff(gbp), isLossy: true },
  learning: { name: 'learning', words: ({ learning }) => onOff(learning) },
  directRouting: { name: 'direct routing', words: ({ directRouting }) => onOff(directRouting) },
  multicast: {
    name: 'multicast',
    words: ({ multicast: vni }) => (vni === undefined ? 'off' : `with VNI ${vni}`),
  },
  multicastLimit: {
    name: 'multicast limit',
    words: ({ multicastLimit }) => (multicastLimit === undefined ? 'none' : `${multicastLimit} packets/s`),
  },
  encryption: {
    name: 'encryption',
    words: ({ encryption }) => encryption?.mode ?? 'off',
  },
}

/** A fact whose words do not say alone whether it changes. */
interface WholeFact extends ConfigFact<NetworkConfig> {
  differs?(before: NetworkConfig, after: NetworkConfig): boolean
}

/** Apart from `encryption`, because only this change is lossy. */
const ENCRYPTION_PORTS: WholeFact = {
  name: "encryption's UDP ports",
  words: ({ backend: { encryption } }) =>
    encryption === undefined ? 'none' : `${encryption.port} and ${encryption.port + 1}`,
  differs: ({ backend: before }, { backend: after }) =>
    before.encryption !== undefined &&
    after.encryption !== undefined &&
    before.encryption.port !== after.encryption.port,
  isLossy: true,
}

const FACTS: readonly WholeFact[] = [
  { name: 'network', words: formatNetworks },
  { name: 'subnets', words: describeBounds },
  ...Object.values(BACKEND_FACTS).map(({ words, ...fact }) => ({
    ...fact,
    words: ({ backend }: NetworkConfig) => words(backend),
  })),
  ENCRYPTION_PORTS,
  { name: 'allowed prefixes', words: ({ prefixes = [] }) => prefixes.map(formatPrefix).join() || 'none' },
  { name: 'firewall', words: ({ nftables }) => (nftables ? 'nftables' : 'iptables') },
]

const changedFacts = (before: NetworkConfig, after: NetworkConfig): readonly WholeFact[] =>
  FACTS.filter(({ words, differs }) => differs?.(before, after) ?? words(before) !== words(after))

/** In words, one for each fact that changed: `VNI 5 instead of 1`. */
export const describeConfigChanges = (before: NetworkConfig, after: NetworkConfig): string[] =>
  changedFacts(before, after).map(({ name, words }) => `${name} ${words(after)} instead of ${words(before)}`)

/** Names of the facts that changed and in which hosts must not differ. */
export const lossyChanges = (before: NetworkConfig, after: NetworkConfig): string[] =>
  changedFacts(before, after).flatMap(({ name, isLossy }) => (isLossy === true ? name : []))

function describeBounds(config: NetworkConfig): string {
  return subnetRanges(config)
    .map(
      (range) => `/${range.subnetLength} from ${formatIp(range.subnetMin)} to ${formatIp(range.subnetMax)}`,
    )
    .join(' and ')
}

const onOff = (value: boolean): string => (value ? 'on' : 'off')
