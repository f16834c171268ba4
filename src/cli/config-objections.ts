/** Whether the host an operator is on could use another network config: only a host knows its own network. */
import type { Options } from '../daemon/options'
import { endpointAddresses } from '../etcd/endpoints'
import { Kernel } from '../kernel/kernel'
import type { Family, IpAddress, Ipv4, Ipv6 } from '../model/address'
import type { HostNetwork } from '../model/kernel'
import type { NetworkConfig } from '../model/network-config'
import { objectionsTo } from '../plan/config-effect'
import { linkName } from '../plan/desired'
import type { Underlay, UnderlayAddress } from '../plan/underlay'

/**
 * @param before the config in use, whose devices say what the underlay is
 * @returns none also where this is no host of the network, or its network cannot be read
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
  let kernel: Kernel | undefined
  try {
    kernel = await Kernel.open({ report: () => undefined, readOnly: true })
    return await kernel.hostNetwork()
  } catch {
    return undefined
  } finally {
    kernel?.close()
  }
}

/** What the devices that are there send over. */
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
