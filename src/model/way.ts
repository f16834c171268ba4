/** How packets to a peer leave this host: in clear, or by a WireGuard device. */
import type { IpAddress } from './address'
import type { ForwardingTarget } from './kernel/objects'

/**
 * `tunnel`: by the WireGuard device with the index `link`, to the VXLAN source of the peer. `none`: no
 * packet leaves, because there is no forwarding entry.
 */
export type Way =
  | { readonly kind: 'clear' }
  | { readonly kind: 'tunnel'; readonly link: number; readonly destination: IpAddress }
  | { readonly kind: 'none' }

export const CLEAR: Way = { kind: 'clear' }

/** The way of all peers in a network without encryption. */
export const alwaysClear = (): Way => CLEAR

/**
 * Where the forwarding entry of a peer leads.
 * @param publicIp the underlay address of the peer
 * @returns undefined for no forwarding entry
 */
export function targetBy(way: Way, publicIp: IpAddress): ForwardingTarget | undefined {
  switch (way.kind) {
    case 'clear':
      return { address: publicIp, via: 0 }
    case 'tunnel':
      return { address: way.destination, via: way.link }
    case 'none':
      return undefined
  }
}
