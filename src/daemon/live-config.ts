/** Brings a changed network config to what runs: by the same parts as at the start, each told what it is to be from now on. */
import { FAMILIES, type Family } from '../model/address'
import type { LinkSpec, ObservedLink } from '../model/kernel'
import type { NetworkConfig, SubnetRange } from '../model/network-config'
import { checkMtu } from '../plan/check-mtu'
import { desiredLink, linkName } from '../plan/desired'
import { leaseValue } from '../plan/own-lease'
import type { PeerChange } from '../plan/peer-table'
import { firewallRequest } from './firewall-request'
import type { Tools } from './join'
import type { MemberParts } from './member'
import type { Overlay } from './overlay'

/** UDP port of a VXLAN device that is made without one (drivers/net/vxlan, vxlan_port). */
const KERNEL_PORT = 8472

export class LiveConfig {
  /** What our devices are or were called; those that there are or were are locked for this process. */
  readonly #names: Set<string>

  constructor(
    private readonly tools: Tools,
    { backend }: NetworkConfig,
  ) {
    this.#names = new Set(linkNames(backend.vni))
  }

  /**
   * Applies a config that keeps this host's subnet. What can be refused is refused before anything is touched.
   * @param changed told which peers are others than before
   * @returns the parts as they are then
   * @throws {OverlayError} when the host cannot use the config: nothing has changed then
   */
  async apply(
    parts: MemberParts,
    config: NetworkConfig,
    changed: (overlay: Overlay, changes: readonly PeerChange[]) => void,
    signal: AbortSignal,
  ): Promise<MemberParts> {
    const { underlay, keeper, firewall } = parts
    checkMtu(config, underlay.current)
    await underlay.check(config, signal)
    const stale = await this.#succeeded(parts, config, signal)
    const networks = parts.overlays.map(({ family, subnet }) => {
      const { network } = rangeOf(config, family)
      return { network, subnet, link: linkName(family, config.backend.vni) }
    })
    const request = await firewallRequest(this.tools, config, networks, [...this.#names])
    signal.throwIfAborted()
    // Nothing waits from here on, so that nobody sees half of it.
    underlay.adopt(config)
    const overlays = parts.overlays.map((overlay): Overlay => {
      const { family, peers, reconciler } = overlay
      const range = rangeOf(config, family)
      const { network } = range
      const { vni, directRouting } = config.backend
      const link = nextLink(parts, config, overlay)
      reconciler.retarget({ link, network, directRouting, stale: stale.get(overlay) ?? [] })
      changed(overlay, peers.moveInto({ range, vni }))
      return { ...overlay, network }
    })
    firewall.retarget(request)
    const links = overlays.map(({ reconciler }) => reconciler.desiredLink)
    keeper.announce(leaseValue(config, underlay.current, links))
    return { ...parts, config, overlays }
  }

  /** Takes the names that the devices get, and finds those that have others now. */
  async #succeeded(
    { overlays }: MemberParts,
    { backend: { vni } }: NetworkConfig,
    signal: AbortSignal,
  ): Promise<Map<Overlay, readonly ObservedLink[]>> {
    const stale = new Map<Overlay, readonly ObservedLink[]>()
    for (const overlay of overlays) {
      const before = overlay.reconciler.desiredLink.name
      const after = linkName(overlay.family, vni)
      await this.tools.locks.take(after)
      this.#names.add(after)
      const link = after === before ? undefined : await this.tools.kernel.link(before, signal)
      if (link !== undefined) stale.set(overlay, [link])
    }
    return stale
  }
}

/** The same device by another config: its MAC and its place on the underlay stay. */
function nextLink(
  { config: { backend }, underlay }: MemberParts,
  config: NetworkConfig,
  { reconciler }: Overlay,
): LinkSpec {
  const { mac, local } = reconciler.desiredLink
  const link = desiredLink(config, underlay.current, local, mac)
  // Without a port of its own a device may keep whatever it has: not if that is the former config's.
  return link.port === undefined && backend.port !== undefined ? { ...link, port: KERNEL_PORT } : link
}

const linkNames = (vni: number): string[] => FAMILIES.map((family) => linkName(family, vni))

function rangeOf(config: NetworkConfig, family: Family): SubnetRange {
  const range = family === 'IPv4' ? config.ipv4 : config.ipv6
  if (range === undefined) throw new TypeError(`the config has no ${family}`)
  return range
}
