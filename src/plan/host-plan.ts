/**
 * All that follows for one host from the network config, its underlay, its lease and its options, as one
 * value. Everything that executes adopts a plan; nothing else decides.
 */
import {
  type Family,
  familyOf,
  type IpAddress,
  type Ipv4Prefix,
  type Ipv6Prefix,
  type MacAddress,
  type Prefix,
} from '../model/address'
import { type NetworkConfig, type SubnetRange, subnetRanges } from '../model/config/network-config'
import { OverlayError } from '../model/errors'
import { ofFamily, type PerFamily } from '../model/family'
import type { FirewallRequest } from '../model/firewall'
import { KERNEL_VXLAN_PORT, type LinkSpec } from '../model/kernel/link'
import type { LeaseSubnet, LeaseValue } from '../model/lease'
import { type Ability, type EncryptionPlan, planEncryption } from './encryption/encryption-plan'
import type { Underlay } from './host/underlay'
import { leaseValue } from './lease/own-lease'
import { multicastLink } from './multicast/multicast'
import { desiredLink, overlayMtu, roomFor } from './reconcile/desired'

/** Options that shape the plan. */
export interface HostPolicy {
  /** flannel's --ip-masq. */
  readonly ipMasq: boolean
  /** Whether masquerading picks ports at random. */
  readonly fullyRandom: boolean
  /** flannel's --iptables-forward-rules. */
  readonly forwardRules: boolean
  /** See {@link FirewallRequest.dockerMark}. */
  readonly dockerMark: number | undefined
  /** Whether the host is kept forwarding. */
  readonly forward: boolean
  /** Whether packets to containers of ours that do not exist are dropped by a route. */
  readonly blackhole: boolean
  /** Sets names of a further network on the same host apart, see {@link FirewallRequest.scope}. */
  readonly scope: string | undefined
}

/** The device of one family: known before the host has a lease. */
export interface DevicePlan {
  readonly family: Family
  readonly range: SubnetRange
  readonly link: LinkSpec
  /** Announced to other hosts. */
  readonly publicIp: IpAddress
}

/** What one family's device is, and carries. */
export interface OverlaySpec extends DevicePlan {
  /** This host's. */
  readonly subnet: Prefix
  /** Ranges in which hosts may announce further prefixes. */
  readonly allowed: readonly Prefix[]
  readonly vni: number
  /** Whether peers that are reached without a gateway are routed past the device. */
  readonly directRouting: boolean
  readonly blackhole: boolean
  readonly forward: boolean
}

/** The multicast device and its limits. */
export interface MulticastSpec {
  readonly link: LinkSpec
  readonly vni: number
  /** Senders' addresses are inside one of them, or link-local. */
  readonly networks: readonly Prefix[]
  /** This host's: a bridge with an address in one of them has containers of the overlay. */
  readonly subnets: readonly Prefix[]
  /** Packets in a second to other hosts; `undefined` for any number. */
  readonly limit: number | undefined
}

/** Content of subnet.env. */
interface SubnetFilePlan {
  readonly ipv4: { readonly network: Ipv4Prefix; readonly subnet: Ipv4Prefix } | undefined
  readonly ipv6: { readonly network: Ipv6Prefix; readonly subnet: Ipv6Prefix } | undefined
  /** Of containers, in bytes. */
  readonly mtu: number
  readonly ipMasq: boolean
}

export interface HostInputs {
  readonly config: NetworkConfig
  readonly underlay: Underlay
  /** MAC of each family's device. */
  readonly macs: PerFamily<MacAddress>
  readonly lease: LeaseSubnet
  readonly policy: HostPolicy
  /** `undefined` where the network has no encryption, but for a while after it was switched off. */
  readonly ability: Ability | undefined
}

export interface HostPlan {
  /** What it was made from. */
  readonly inputs: HostInputs
  /** One for each family of the network, IPv4 first. */
  readonly overlays: readonly OverlaySpec[]
  /** Of a request to the firewall all that does not depend on the programs of this host. */
  readonly firewall: Omit<FirewallRequest, 'docker' | 'links'>
  /** Value of this host's lease. */
  readonly announced: LeaseValue
  /** `undefined` where the network has no multicast across hosts. */
  readonly multicast: MulticastSpec | undefined
  /** `undefined` where the network has no encryption. */
  readonly encryption: EncryptionPlan | undefined
  readonly subnetFile: SubnetFilePlan
}

/**
 * The devices.
 * @param before those of the plan that is in force: a family without an address on the underlay keeps its
 *   device as it is
 * @throws {OverlayError} `no-underlay` for a family that has neither an address nor a device
 */
export function planDevices(
  { config, underlay, macs }: Pick<HostInputs, 'config' | 'underlay' | 'macs'>,
  before: readonly DevicePlan[] = [],
): DevicePlan[] {
  return subnetRanges(config).map((range) => {
    const family = familyOf(range.network.address)
    const former = before.find((each) => each.family === family)
    const address = ofFamily(underlay, family)
    const mac = ofFamily(macs, family)
    const [local, publicIp] = [address?.local ?? former?.link.local, address?.public ?? former?.publicIp]
    if (local === undefined || publicIp === undefined || mac === undefined) {
      throw new OverlayError('no-underlay', `interface ${underlay.link.name} has no ${family} address`)
    }
    const link = desiredLink(config, underlay, local, mac)
    return {
      family,
      range,
      link: former === undefined ? link : succeed(link, former, address !== undefined),
      publicIp,
    }
  })
}

/** The device after another one of the same family. */
function succeed(link: LinkSpec, { link: former }: DevicePlan, hasAddress: boolean): LinkSpec {
  // A device that is made without a port may keep any port. A device that had one goes back to the kernel's.
  const port = link.port ?? (former.port === undefined ? undefined : KERNEL_VXLAN_PORT)
  return hasAddress ? { ...link, port } : { ...link, port, parent: former.parent, mtu: former.mtu }
}

/**
 * @param before the plan that is in force
 * @throws {OverlayError} `no-underlay`
 * @throws {ConfigError} where the network requires encryption and this host is unable
 */
export function planHost(inputs: HostInputs, before?: HostPlan): HostPlan {
  const { config, underlay, lease, policy, ability } = inputs
  const { backend } = config
  const overlays = planDevices(inputs, before?.overlays).map((device): OverlaySpec => {
    const subnet = ofFamily(lease, device.family)
    if (subnet === undefined) throw new TypeError(`the lease has no ${device.family} subnet`)
    const { vni, directRouting } = backend
    const { blackhole, forward } = policy
    const allowed = allowedIn(config, device.family)
    return { ...device, subnet, allowed, vni, directRouting, blackhole, forward }
  })
  return {
    inputs,
    overlays,
    firewall: {
      mode: config.nftables ? 'nftables' : 'iptables',
      networks: overlays.map(({ range, subnet, allowed, link }) => ({
        network: range.network,
        subnet,
        link: link.name,
        ...(allowed.length > 0 && { allowed }),
      })),
      ipMasq: policy.ipMasq,
      fullyRandom: policy.fullyRandom,
      forwardRules: policy.forwardRules,
      dockerMark: policy.dockerMark,
      ...(policy.scope !== undefined && { scope: policy.scope }),
    },
    announced: leaseValue(config, underlay, overlays, ability),
    multicast: planMulticast(config, overlays),
    encryption: planEncryption(config, overlays, roomFor(config, underlay), ability),
    subnetFile: {
      ipv4: config.ipv4 && lease.ipv4 && { network: config.ipv4.network, subnet: lease.ipv4 },
      ipv6: config.ipv6 && lease.ipv6 && { network: config.ipv6.network, subnet: lease.ipv6 },
      mtu: overlayMtu(config, underlay),
      ipMasq: policy.ipMasq,
    },
  }
}

const allowedIn = ({ prefixes = [] }: NetworkConfig, family: Family): readonly Prefix[] =>
  prefixes.filter(({ address }) => familyOf(address) === family)

function planMulticast(
  { backend: { multicast: vni, multicastLimit: limit } }: NetworkConfig,
  overlays: readonly OverlaySpec[],
): MulticastSpec | undefined {
  // One device carries the multicast of both families: that of the family which comes first in the lease.
  const [carrier] = overlays
  if (vni === undefined || carrier === undefined) return undefined
  return {
    link: multicastLink(carrier.link, vni),
    vni,
    networks: overlays.map(({ range }) => range.network),
    subnets: overlays.map(({ subnet }) => subnet),
    limit,
  }
}
