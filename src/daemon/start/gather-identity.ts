/** Gathers what this host knows of its identity before it has a lease: addresses, devices, state file. */
import type { PreviousSubnets } from '../../host/subnet-env'
import type { Kernel } from '../../kernel/kernel'
import {
  type Family,
  familyOf,
  type IpAddress,
  type Ipv4,
  type Ipv6,
  type MacAddress,
} from '../../model/address'
import type { NetworkConfig } from '../../model/config/network-config'
import { OverlayError } from '../../model/errors'
import type { ObservedLink } from '../../model/kernel/link'
import type { LeaseSubnet } from '../../model/lease'
import type { Underlay } from '../../plan/host/underlay'
import { differenceOf, type Evidence, hasMemory, rememberedSubnet } from '../../plan/lease/identity'
import { linkName } from '../../plan/reconcile/desired'
import { gatherFacts, type HostMemory } from './host-memory'

export interface HostIdentification extends Evidence {
  /** The MACs in the state file; both `undefined` if another machine wrote the file. */
  readonly rememberedMacs: Evidence['devices']
  /**
   * Why the state file does not describe this machine as it is: it is from another machine, or from this one
   * at another address. `undefined` if it does describe it, or if there is no state file.
   */
  readonly difference: string | undefined
  /** The subnet that this host had last, even if the config no longer allows it. */
  readonly had: LeaseSubnet
}

/**
 * Gathers the identity of this host.
 * @param subnetFile the subnets in subnet.env, which Docker was started with
 * @throws {OverlayError} `no-underlay`; or the kernel's refusal
 */
export async function gatherIdentity(
  kernel: Kernel,
  config: NetworkConfig,
  underlay: Underlay,
  memory: HostMemory | undefined,
  subnetFile: PreviousSubnets,
  signal: AbortSignal,
): Promise<HostIdentification> {
  const publicIp: IpAddress | undefined = underlay.ipv4?.public ?? underlay.ipv6?.public
  if (publicIp === undefined) throw new OverlayError('no-underlay', 'the underlay has no address')
  const four = await findDevice(kernel, 'IPv4', config, traces(memory, subnetFile, 'ipv4'), signal)
  const six = await findDevice(kernel, 'IPv6', config, traces(memory, subnetFile, 'ipv6'), signal)
  const none = { ipv4: undefined, ipv6: undefined }
  const difference = memory && differenceOf(memory.host, await gatherFacts(underlay))
  const sameMachine = memory !== undefined && difference === undefined
  const subnet = rememberedSubnet(config, {
    devices: { ipv4: four.addresses.filter(isIpv4), ipv6: six.addresses.filter(isIpv6) },
    state: sameMachine ? memory.own.subnet : undefined,
    subnetEnv: subnetFile,
  })
  return {
    publicIp,
    devices: { ipv4: four.mac, ipv6: six.mac },
    remembered: memory?.own,
    sameMachine,
    rememberedMacs: sameMachine ? memory.macs : none,
    subnet,
    difference,
    had: sameMachine ? memory.own.subnet : hasMemory(subnet) ? { ...none, ...subnet } : subnetFile,
  }
}

interface Device {
  readonly mac: MacAddress | undefined
  readonly addresses: readonly IpAddress[]
}

/** By what a device of ours is recognised after it was renamed. */
interface Traces {
  readonly mac: MacAddress | undefined
  /** Addresses of the remembered subnets: the first address of a subnet is the device's own. */
  readonly addresses: readonly IpAddress[]
}

function traces(memory: HostMemory | undefined, subnetFile: PreviousSubnets, half: 'ipv4' | 'ipv6'): Traces {
  const subnets = [memory?.own.subnet[half], subnetFile[half]]
  return { mac: memory?.macs[half], addresses: subnets.flatMap((subnet) => subnet?.address ?? []) }
}

/**
 * Finds our device by its name; failing that, by its VNI and traces, as it may have been renamed meanwhile.
 */
async function findDevice(
  kernel: Kernel,
  family: Family,
  { backend: { vni } }: NetworkConfig,
  known: Traces,
  signal: AbortSignal,
): Promise<Device> {
  const link = await kernel.link(linkName(family, vni), signal)
  const read = async ({ mac, index }: ObservedLink): Promise<Device> => {
    const addresses = await kernel.linkAddresses(family, index, signal)
    return { mac, addresses: addresses.map(({ address }) => address.address) }
  }
  if (link !== undefined) return link.vxlan === undefined ? { mac: link.mac, addresses: [] } : read(link)
  for (const other of await kernel.links(signal)) {
    if (other.vxlan?.vni !== vni) continue
    const device = await read(other)
    const isOurs =
      device.mac === known.mac || device.addresses.some((address) => known.addresses.includes(address))
    if (device.mac !== undefined && isOurs) return device
  }
  return { mac: undefined, addresses: [] }
}

const isIpv4 = (address: IpAddress): address is Ipv4 => familyOf(address) === 'IPv4'
const isIpv6 = (address: IpAddress): address is Ipv6 => familyOf(address) === 'IPv6'
