/** What a network config that takes another's place does to the hosts there are: for an operator to see before it is written. */
import { familyOf, formatIp, formatPrefix, prefixSize } from '../model/address'
import { describeError } from '../model/errors'
import { formatLeaseSubnet, type Lease } from '../model/lease'
import { formatNetworks, type NetworkConfig, type SubnetRange, subnetRanges } from '../model/network-config'
import { checkMtu } from './check-mtu'
import { describeConfigChanges, planConfigChange } from './config-change'
import { fitsConfig } from './own-lease'
import { checkUnderlayOutside, type Surroundings, type Underlay } from './underlay'

/** A lease that the config has no place for. */
export interface Misfit {
  readonly subnet: string
  readonly publicIp: string
  readonly reason: string
}

export interface ConfigEffect {
  /**
   * `first`: none is there, or none that can be used. `same`: it means the same. `live`: hosts that run take it up. `restart`: every host needs another
   * subnet, and goes on as it is until overlayd is restarted there.
   */
  readonly kind: 'first' | 'same' | 'live' | 'restart'
  /** Why every host needs another subnet. */
  readonly reason?: string
  /** In words, one for each field that is another. */
  readonly changes: readonly string[]
  /** Fields among them in which hosts must not differ: between the first host that has it and the last, packets are lost. */
  readonly lossy: readonly string[]
  /** Leases in etcd. */
  readonly leases: number
  /** Those that do not fit any more: their hosts go on as they are until overlayd is restarted there, and get another subnet then. */
  readonly misfits: readonly Misfit[]
  /** Subnets that there are for hosts, when they are fewer than the leases. */
  readonly room?: string
}

/** @param before undefined when there is none, or none that can be read */
export function planConfigEffect(
  before: NetworkConfig | undefined,
  after: NetworkConfig,
  leases: readonly Lease[],
): ConfigEffect {
  const misfits = leases
    .filter((lease) => !fitsConfig(after, lease))
    .map((lease) => describeMisfit(before, after, lease))
  const room = lackOfRoom(after, leases.length)
  const common = {
    leases: leases.length,
    misfits,
    ...(room !== undefined && { room }),
  }
  if (before === undefined) return { kind: 'first', changes: [], lossy: [], ...common }
  const plan = planConfigChange(before, after, undefined)
  const changes = describeConfigChanges(before, after)
  const lossy = lossyFields(before, after)
  if (plan.kind === 'needs-new-subnet') {
    return { kind: 'restart', reason: plan.reason, changes, lossy, ...common }
  }
  return { kind: plan.kind === 'nothing' ? 'same' : 'live', changes, lossy, ...common }
}

/** Whether it takes something from a host that runs, so that nobody should write it without having been asked. */
export const isHarmful = ({ kind, lossy, misfits, room }: ConfigEffect): boolean =>
  misfits.length > 0 || room !== undefined || (kind !== 'first' && lossy.length > 0)

function lossyFields({ backend: old }: NetworkConfig, { backend: next }: NetworkConfig): string[] {
  return [
    ...(old.vni === next.vni ? [] : ['VNI']),
    ...(old.port === next.port ? [] : ['port']),
    ...(old.gbp === next.gbp ? [] : ['GBP']),
  ]
}

function describeMisfit(before: NetworkConfig | undefined, after: NetworkConfig, lease: Lease): Misfit {
  const { publicIp, publicIpv6 } = lease.value
  const host = lease.subnet.ipv4 === undefined ? publicIpv6 : publicIp
  const plan = planConfigChange(before ?? after, after, lease.subnet)
  const reason =
    plan.kind === 'needs-new-subnet' ? plan.reason : `it is no subnet of ${formatNetworks(after)}`
  return {
    subnet: formatLeaseSubnet(lease.subnet),
    publicIp: host === undefined ? '-' : formatIp(host),
    reason,
  }
}

function lackOfRoom(config: NetworkConfig, hosts: number): string | undefined {
  const small = subnetRanges(config).find((range) => countSubnets(range) < BigInt(hosts))
  if (small === undefined) return undefined
  return `${formatPrefix(small.network)} has ${countSubnets(small)} subnets for ${hosts} hosts`
}

/** How many hosts a range has room for. */
export function countSubnets({ network, subnetLength, subnetMin, subnetMax }: SubnetRange): bigint {
  const size = prefixSize(familyOf(network.address), subnetLength)
  return (BigInt(subnetMax) - BigInt(subnetMin)) / size + 1n
}

/** Why a host on that underlay could not use the config, or would not as it says. */
export function objectionsTo(
  config: NetworkConfig,
  underlay: Underlay,
  surroundings: Surroundings,
): string[] {
  const { mtu } = config.backend
  const { name, mtu: most } = underlay.link
  const refusals = [
    () => checkMtu(config, underlay),
    () =>
      checkUnderlayOutside(
        subnetRanges(config).map(({ network }) => network),
        underlay,
        surroundings,
      ),
  ].flatMap((check) => {
    try {
      check()
      return []
    } catch (error) {
      return [describeError(error)]
    }
  })
  const tooLarge =
    mtu !== undefined && mtu > most
      ? [`Backend.MTU is ${mtu}, and ${name} carries ${most}: larger packets are fragmented or lost`]
      : []
  return [...refusals, ...tooLarge]
}
