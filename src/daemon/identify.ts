/** Gathers what this host knows of itself before it has a lease. */
import type { Kernel } from '../kernel/kernel'
import type { IpAddress, MacAddress } from '../model/address'
import { OverlayError } from '../model/errors'
import type { NetworkConfig } from '../model/network-config'
import { linkName } from '../plan/desired'
import { differenceOf, type Evidence } from '../plan/identity'
import type { Underlay } from '../plan/underlay'
import { gatherFacts, type HostMemory } from './host-memory'

export interface HostIdentification extends Evidence {
  /** The MACs that the state file remembers, where this machine wrote it. */
  readonly rememberedMacs: Evidence['devices']
  /** Why the state file is another machine's, or this one's at another address; `undefined` when it is not, or there is none. */
  readonly difference: string | undefined
}

/** @throws {OverlayError} `no-underlay` */
export async function identify(
  kernel: Kernel,
  { backend: { vni } }: NetworkConfig,
  underlay: Underlay,
  memory: HostMemory | undefined,
  signal: AbortSignal,
): Promise<HostIdentification> {
  const publicIp: IpAddress | undefined = underlay.ipv4?.public ?? underlay.ipv6?.public
  if (publicIp === undefined) throw new OverlayError('no-underlay', 'the underlay has no address')
  const deviceMac = async (family: 'IPv4' | 'IPv6'): Promise<MacAddress | undefined> =>
    (await kernel.link(linkName(family, vni), signal))?.mac
  const none = { ipv4: undefined, ipv6: undefined }
  const difference = memory && differenceOf(memory.host, await gatherFacts(underlay))
  const sameMachine = memory !== undefined && difference === undefined
  return {
    publicIp,
    devices: { ipv4: await deviceMac('IPv4'), ipv6: await deviceMac('IPv6') },
    remembered: memory?.own,
    sameMachine,
    rememberedMacs: sameMachine ? memory.macs : none,
    difference,
  }
}
