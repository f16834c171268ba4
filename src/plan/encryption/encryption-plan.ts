/** The encryption of one host that follows from config, lease and keys: the devices, and the guard. */
import { addressBits, type Family, familyOf, type IpAddress, type Prefix } from '../../model/address'
import { ConfigError, type NetworkConfig } from '../../model/config/network-config'
import type { Guard } from '../../model/guard'
import { KERNEL_VXLAN_PORT, type LinkSpec, WIREGUARD_OVERHEAD } from '../../model/kernel/link'
import type { WireguardKey, WireguardLink } from '../../model/kernel/wireguard'
import { SLOTS, type Slot, type WireguardAnnouncement } from '../../model/lease'

/** Whether this host can encrypt, and with which keys. */
export type Ability =
  /** `port`: the first of the two UDP ports. */
  | {
      readonly kind: 'able'
      readonly turn: number
      readonly port: number
      readonly keys: readonly [WireguardKey, WireguardKey]
    }
  | { readonly kind: 'unable'; readonly reason: string; readonly fix: string }

/** One WireGuard device of this host. */
export interface SlotPlan {
  readonly slot: Slot
  readonly link: WireguardLink
  readonly key: WireguardKey
  /** UDP port that it listens on. */
  readonly port: number
  /** Routing table of its IPv6 packets. */
  readonly table: number
}

export type EncryptionPlan =
  /** The network prefers encryption, and this host cannot encrypt. */
  { readonly kind: 'unable'; readonly reason: string; readonly fix: string } | WireguardPlan

/** The plan of a host that encrypts. */
export interface WireguardPlan {
  readonly kind: 'on'
  readonly mode: 'prefer' | 'required'
  readonly slots: readonly [SlotPlan, SlotPlan]
  /** This host's. */
  readonly turn: number
  readonly families: readonly Family[]
  /** Addresses of the devices: those of the VXLAN devices, so that the kernel accepts their packets. */
  readonly addresses: readonly Prefix[]
  /** Whether the VXLAN packets of this host come from other addresses than those it announces. */
  readonly isBehindNat: boolean
  /** Only where encryption is required. */
  readonly guard: Guard | undefined
}

const SLOT_NAMES = ['fl-wg.', 'fl-wgb.'] as const

/** The name of a slot's device. With any VNI it has at most 15 characters (IFNAMSIZ). */
export const wireguardLinkName = (slot: Slot, vni: number): string => `${SLOT_NAMES[slot]}${vni}`

/** The VNI in the name of an overlay's WireGuard device; `undefined` for any other name. */
export function wireguardVni(name: string): number | undefined {
  const [, vni] = /^fl-wgb?\.(\d+)$/.exec(name) ?? []
  return vni === undefined ? undefined : Number(vni)
}

/** Whether a WireGuard device is one of an overlay, by its name. */
export const isWireguardName = (name: string): boolean => wireguardVni(name) !== undefined

/**
 * The routing table of a slot's IPv6 packets. Its number has the number of our route protocol, or the one
 * after it, above the 24 bits of the VNI.
 */
export const wireguardTable = (slot: Slot, vni: number): number => ((79 + slot) << 24) | vni

/** One family's device, as far as encryption depends on it. */
export interface EncryptedOverlay {
  readonly family: Family
  readonly link: LinkSpec
  readonly publicIp: IpAddress
  readonly subnet: Prefix
}

/** @throws {ConfigError} where the network requires encryption and this host is unable */
export function checkAbility({ backend: { encryption } }: NetworkConfig, ability: Ability | undefined): void {
  if (encryption?.mode !== 'required' || ability?.kind !== 'unable') return
  throw new ConfigError(`the network requires encryption, and ${ability.reason}`, ability.fix)
}

/**
 * @param room the largest outer packet in bytes
 * @returns `undefined` for a network without encryption
 * @throws {ConfigError} as {@link checkAbility}
 */
export function planEncryption(
  config: NetworkConfig,
  overlays: readonly EncryptedOverlay[],
  room: number,
  ability: Ability | undefined,
): EncryptionPlan | undefined {
  checkAbility(config, ability)
  const { encryption, vni, multicast } = config.backend
  const [first] = overlays
  if (encryption === undefined || ability === undefined || first === undefined) return undefined
  if (ability.kind === 'unable') return ability
  const { mode, port } = encryption
  const mtu = room - WIREGUARD_OVERHEAD[first.family]
  const slot = (slot: Slot): SlotPlan => ({
    slot,
    link: { name: wireguardLinkName(slot, vni), mtu },
    key: ability.keys[slot],
    port: port + slot,
    table: wireguardTable(slot, vni),
  })
  return {
    kind: 'on',
    mode,
    slots: [slot(0), slot(1)],
    turn: ability.turn,
    families: overlays.map(({ family }) => family),
    addresses: overlays.map(({ subnet: { address } }) => ({
      address,
      length: addressBits(familyOf(address)),
    })),
    isBehindNat: overlays.some(({ link, publicIp }) => link.local !== publicIp),
    guard:
      mode === 'required'
        ? {
            name: wireguardLinkName(0, vni),
            links: SLOTS.map((slot) => wireguardLinkName(slot, vni)),
            port: first.link.port ?? KERNEL_VXLAN_PORT,
            vnis: multicast === undefined ? [vni] : [vni, multicast],
          }
        : undefined,
  }
}

/**
 * The announcement of one family in this host's lease. A host that leaves encryption announces its keys for a
 * while: other hosts may require them still.
 */
export const announcementOf = (
  ability: Ability | undefined,
  local: IpAddress,
  publicIp: IpAddress,
): WireguardAnnouncement | undefined =>
  ability?.kind === 'able'
    ? {
        turn: ability.turn,
        port: ability.port,
        keys: ability.keys,
        ...(local !== publicIp && { source: local }),
      }
    : undefined
