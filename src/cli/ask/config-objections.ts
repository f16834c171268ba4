/** Whether the operator's host could use another network config: only a host knows its own network. */

import { endpointAddresses } from '../../etcd/client/endpoints'
import { Kernel, type KernelReader } from '../../kernel/kernel'
import type { Family, IpAddress, Ipv4, Ipv6 } from '../../model/address'
import type { NetworkConfig } from '../../model/config/network-config'
import type { HostNetwork } from '../../model/kernel/link'
import type { Options } from '../../options/schema'
import { objectionsTo } from '../../plan/config/config-effect'
import type { Underlay, UnderlayAddress } from '../../plan/host/underlay'
import { linkName } from '../../plan/reconcile/desired'

/**
 * @param before the config in use: its devices name the underlay
 * @returns none also where this is no host of the network, or where its network cannot be read
 */
export async function objectionsOfHost(
  options: Options,
  before: NetworkConfig,
  after: NetworkConfig,
): Promise<readonly string[]> {
  const host = await readHost()
  const underlay = host && underlayOf(host, before.backend.vni)
  if (host === undefined || underlay === undefined) return []
  return objectionsTo(after, underlay, {
    etcd: options['etcd-discovery-srv'] === '' ? endpointAddresses(options['etcd-endpoints']) : [],
    gateways: host.defaultRoutes.flatMap(({ gateway }) => gateway ?? []),
  })
}

/** @returns undefined on a machine where the network cannot be read: the config may be set from anywhere */
async function readHost(): Promise<HostNetwork | undefined> {
  let kernel: KernelReader | undefined
  try {
    kernel = await Kernel.open()
    return await kernel.hostNetwork()
  } catch {
    return undefined
  } finally {
    kernel?.close()
  }
}

/** The underlay of the devices that exist. */
function underlayOf({ links, addresses }: HostNetwork, vni: number): Underlay | undefined {
  const device = (family: Family) => links.find(({ name }) => name === linkName(family, vni))?.vxlan
  const [four, six] = [device('IPv4'), device('IPv6')]
  const local = four?.local ?? six?.local
  const parent =
    four?.parent ?? six?.parent ?? addresses.find(({ address }) => address.address === local)?.linkIndex
  const link = links.find(({ index }) => index === parent)
  if (link === undefined) return undefined
  const pair = <A extends IpAddress>(address: IpAddress | undefined): UnderlayAddress<A> | undefined =>
    address === undefined ? undefined : { local: address as A, public: address as A }
  return { link, ipv4: pair<Ipv4>(four?.local), ipv6: pair<Ipv6>(six?.local) }
}
