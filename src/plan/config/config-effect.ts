/** The effect of a new network config on the existing hosts, shown to an operator before it is written. */
import { familyOf, formatIp, formatPrefix, prefixSize } from '../../model/address'
import {
  formatNetworks,
  type NetworkConfig,
  type SubnetRange,
  subnetRanges,
} from '../../model/config/network-config'
import { count } from '../../model/count'
import { describeError } from '../../model/errors'
import { formatLeaseSubnet, type Lease } from '../../model/lease'
import { checkUnderlayOutside, type Surroundings, type Underlay } from '../host/underlay'
import { describeShortage } from '../host/underlay-room'
import { fitsConfig } from '../lease/own-lease'
import { checkMtu } from './check-mtu'
import { describeConfigChanges, lossyChanges, planConfigChange } from './config-change'
import { describeRoomChange, findUnencryptable, type Unencryptable } from './encryption-effect'

/** A lease that does not fit the config. */
export interface Misfit {
  readonly subnet: string
  readonly publicIp: string
  readonly reason: string
}

export interface ConfigEffect {
  /**
   * `first`: there is no config yet, or no usable one. `same`: it means the same. `live`: running hosts adopt
   * it. `restart`: every host needs another subnet, and continues unchanged until overlayd is restarted
   * there.
   */
  readonly kind: 'first' | 'same' | 'live' | 'restart'
  /** Why every host needs another subnet. */
  readonly reason?: string
  /** One text per field that differs. */
  readonly changes: readonly string[]
  /**
   * Changed fields that must be equal on all hosts: until the last host has adopted them, packets are lost.
   */
  readonly lossy: readonly string[]
  /** Number of leases in etcd. */
  readonly leases: number
  /**
   * Leases that no longer fit: their hosts continue unchanged until overlayd restarts there, and get another
   * subnet then.
   */
  readonly misfits: readonly Misfit[]
  /** Leases whose hosts are cut off because the config requires encryption. */
  readonly unencryptable?: readonly Unencryptable[]
  /** What the config does to the MTU of containers by encryption. */
  readonly encryptionRoom?: string
  /** How many subnets there are, if fewer than leases. */
  readonly room?: string
}

/** @param before undefined if there is none, or none that can be read */
export function planConfigEffect(
  before: NetworkConfig | undefined,
  after: NetworkConfig,
  leases: readonly Lease[],
): ConfigEffect {
  const misfits = leases
    .filter((lease) => !fitsConfig(after, lease))
    .map((lease) => describeMisfit(before, after, lease))
  const room = lackOfRoom(after, leases.length)
  const unencryptable = findUnencryptable(before, after, leases)
  const encryptionRoom = describeRoomChange(before, after)
  const common = {
    leases: leases.length,
    misfits,
    ...(room !== undefined && { room }),
    ...(unencryptable.length > 0 && { unencryptable }),
    ...(encryptionRoom !== undefined && { encryptionRoom }),
  }
  if (before === undefined) return { kind: 'first', changes: [], lossy: [], ...common }
  const plan = planConfigChange(before, after, undefined)
  const changes = describeConfigChanges(before, after)
  const lossy = lossyChanges(before, after)
  if (plan.kind === 'needs-new-subnet') {
    return { kind: 'restart', reason: plan.reason, changes, lossy, ...common }
  }
  return { kind: plan.kind === 'nothing' ? 'same' : 'live', changes, lossy, ...common }
}

/** Whether the config disturbs a running host, so that an operator must be asked before it is written. */
export const isHarmful = ({ kind, lossy, misfits, room, unencryptable }: ConfigEffect): boolean =>
  misfits.length > 0 ||
  room !== undefined ||
  unencryptable !== undefined ||
  (kind !== 'first' && lossy.length > 0)

function describeMisfit(before: NetworkConfig | undefined, after: NetworkConfig, lease: Lease): Misfit {
  const { publicIp, publicIpv6 } = lease.value
  const host = lease.subnet.ipv4 === undefined ? publicIpv6 : publicIp
  const plan = planConfigChange(before ?? after, after, lease.subnet)
  const reason =
    plan.kind === 'needs-new-subnet' ? plan.reason : `it is not a subnet of ${formatNetworks(after)}`
  return {
    subnet: formatLeaseSubnet(lease.subnet),
    publicIp: host === undefined ? '-' : formatIp(host),
    reason,
  }
}

function lackOfRoom(config: NetworkConfig, hosts: number): string | undefined {
  const small = subnetRanges(config).find((range) => countSubnets(range) < BigInt(hosts))
  if (small === undefined) return undefined
  const subnets = count(countSubnets(small), 'subnet')
  return `${formatPrefix(small.network)} has ${subnets} for ${count(hosts, 'host')}`
}

/** Number of hosts that a range has room for. */
export function countSubnets({ network, subnetLength, subnetMin, subnetMax }: SubnetRange): bigint {
  const size = prefixSize(familyOf(network.address), subnetLength)
  return (BigInt(subnetMax) - BigInt(subnetMin)) / size + 1n
}

/** Why a host on that underlay could not use the config, or not exactly as written. */
export function objectionsTo(
  config: NetworkConfig,
  underlay: Underlay,
  surroundings: Surroundings,
): string[] {
  const shortage = describeShortage(config, underlay)
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
  return [...refusals, ...(shortage === undefined ? [] : [shortage])]
}
