/** Links and their addresses: our device as we want it, and links as read from the kernel. */
import type { Family, IpAddress, MacAddress, Prefix } from '../address'
import type { DefaultRoute, RouteLookup } from './route'
import type { WireguardLink } from './wireguard'

/** Bytes that VXLAN adds: Ethernet 14 + IPv4 20 or IPv6 40 + UDP 8 + VXLAN 8 (RFC 7348). */
export const VXLAN_OVERHEAD: Readonly<Record<Family, number>> = { IPv4: 50, IPv6: 70 }

/** UDP port of a VXLAN device that is made without one (drivers/net/vxlan/vxlan_core.c, vxlan_port). */
export const KERNEL_VXLAN_PORT = 8472

/**
 * Bytes that WireGuard adds: IPv4 20 or IPv6 40 + UDP 8 + header 16 + tag 16
 * (drivers/net/wireguard/messages.h).
 */
export const WIREGUARD_OVERHEAD: Readonly<Record<Family, number>> = { IPv4: 60, IPv6: 80 }

/** A VXLAN device as we want it. */
export interface LinkSpec {
  readonly name: string
  readonly mac: MacAddress
  readonly mtu: number
  readonly vni: number
  /** UDP port; `undefined` leaves it to the kernel and is equal to any port of an existing device. */
  readonly port: number | undefined
  /** Source address of the outer packets; its family is that of the overlay. */
  readonly local: IpAddress
  /** Interface index of the underlay interface. */
  readonly parent: number
  readonly learning: boolean
  readonly gbp: boolean
}

/** A network interface as read from the kernel. */
export interface ObservedLink {
  readonly index: number
  readonly name: string
  readonly mac: MacAddress
  /** Bytes. */
  readonly mtu: number
  /** Administratively up (IFF_UP). */
  readonly up: boolean
  /** Up, but connected to nothing (no IFF_RUNNING): the kernel drops packets that leave by it. */
  readonly noCarrier?: true
  /** A loopback interface (IFF_LOOPBACK). */
  readonly loopback?: true
  /** Index of the bridge, bond, ... that this link is a port of. */
  readonly master?: number | undefined
  /** IFLA_INFO_KIND: `vxlan`, `bridge`, ...; `undefined` for hardware. */
  readonly kind: string | undefined
  /** Only for `kind` vxlan. */
  readonly vxlan: ObservedVxlan | undefined
}

/** The attributes of an existing VXLAN device; `undefined` if the kernel leaves one out. */
export interface ObservedVxlan {
  readonly vni: number
  readonly port: number
  readonly local: IpAddress | undefined
  readonly parent: number | undefined
  readonly group: IpAddress | undefined
  readonly learning: boolean
  readonly gbp: boolean
  readonly l2miss: boolean
}

/** An interface address. */
export interface InterfaceAddress {
  readonly linkIndex: number
  /** The address with its host bits, and its prefix length. */
  readonly address: Prefix
  /** `host` and `link` scope are not usable between hosts. */
  readonly scope: 'global' | 'link' | 'host' | 'other'
}

/** An interface address with the flags that decide whether it can be announced to other hosts. */
export interface HostAddress extends InterfaceAddress {
  /** Without a limited lifetime. */
  readonly permanent: boolean
  /** A privacy address that is replaced soon (RFC 8981); IPv6 only. */
  readonly temporary: boolean
  /** Its preferred lifetime is over: it serves existing connections, not new ones. */
  readonly deprecated: boolean
  /** Duplicate address detection is still running (RFC 4862). */
  readonly tentative: boolean
  /** Duplicate address detection has found the address on another host. */
  readonly duplicate: boolean
}

/** The parts of the host's network that the choice of an underlay depends on. */
export interface HostNetwork {
  readonly links: readonly ObservedLink[]
  /** In the kernel's order; IPv4 before IPv6. */
  readonly addresses: readonly HostAddress[]
  /** In the kernel's order (ascending metric); IPv4 before IPv6. */
  readonly defaultRoutes: readonly DefaultRoute[]
  /** The lookup of the requested address; `undefined` if no route leads there, or none was requested. */
  readonly reach: RouteLookup | undefined
}

/** One change of a link. Each is idempotent. */
export type LinkOperation =
  | { readonly kind: 'create-link'; readonly link: LinkSpec }
  | { readonly kind: 'create-wireguard'; readonly link: WireguardLink }
  | { readonly kind: 'delete-link'; readonly index: number; readonly name: string }
  | {
      readonly kind: 'change-link'
      readonly index: number
      readonly name: string
      readonly mac?: MacAddress
      readonly mtu?: number
      readonly learning?: boolean
      readonly local?: IpAddress
      readonly parent?: number
      /** Takes the link out of the bridge, bond, ... that it is a port of. */
      readonly detach?: true
    }
  | { readonly kind: 'rename-link'; readonly index: number; readonly name: string }
  | { readonly kind: 'set-link-up'; readonly index: number; readonly name: string }
  | { readonly kind: 'add-address'; readonly index: number; readonly address: Prefix }
  | { readonly kind: 'delete-address'; readonly index: number; readonly address: Prefix }
