/**
 * WireGuard devices and their peers (linux/wireguard.h), as we want them and as read from the kernel. A
 * private key is a {@link PrivateKey} of its own file, and never in one of these values.
 */
import type { IpAddress, Prefix } from '../address'

declare const brand: unique symbol
/** A Curve25519 public key: 32 bytes in base64 with padding, 44 characters. */
export type WireguardKey = string & { readonly [brand]: 'WireguardKey' }

/** Bytes of a public and of a private key (RFC 7748). */
export const WIREGUARD_KEY_SIZE = 32

/** Reads a public key: canonical base64 only (RFC 4648, 3.5), and not the null key, which stands for none. */
export function parseWireguardKey(text: string): WireguardKey | undefined {
  if (!/^[A-Za-z0-9+/]{43}=$/.test(text)) return undefined
  const bytes = Buffer.from(text, 'base64')
  const isCanonical = bytes.toString('base64') === text
  return isCanonical && bytes.some((byte) => byte !== 0) ? (text as WireguardKey) : undefined
}

/** Brands a key; for decoders that have read exactly 32 bytes. */
export const wireguardKey = (bytes: Uint8Array): WireguardKey =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64') as WireguardKey

/** Where a peer receives WireGuard's packets. */
export interface Endpoint {
  readonly address: IpAddress
  readonly port: number
}

/** A peer as we want it. */
export interface WireguardPeer {
  readonly publicKey: WireguardKey
  readonly endpoint: Endpoint
  /** The addresses that this peer, and no other of the device, sends from and is sent to. */
  readonly allowedIps: readonly Prefix[]
  /** Seconds between packets that are sent only to keep the way open; 0: off. */
  readonly keepalive: number
}

/** A peer as read from the kernel. */
export interface ObservedWireguardPeer extends Omit<WireguardPeer, 'endpoint'> {
  /** The address that the last authentic packet came from, or the one that was set. */
  readonly endpoint: Endpoint | undefined
  /** Milliseconds since the epoch; `undefined` before the first handshake. */
  readonly lastHandshake: number | undefined
  /** Bytes. */
  readonly received: bigint
  /** Bytes. */
  readonly sent: bigint
}

/** A device as read from the kernel. */
export interface ObservedWireguard {
  readonly index: number
  readonly name: string
  /** `undefined`: the device has no private key yet. */
  readonly publicKey: WireguardKey | undefined
  /** UDP port. */
  readonly port: number
  readonly peers: ReadonlyMap<WireguardKey, ObservedWireguardPeer>
}

/**
 * One change of one peer. Each is idempotent. `set-peer` makes a peer, or changes the fields that are given.
 * The kernel ignores a peer that has the device's own key.
 */
export type WireguardOperation =
  | {
      readonly kind: 'set-peer'
      readonly publicKey: WireguardKey
      readonly endpoint?: Endpoint
      /**
       * Replaces all. Between the old and the new ones the peer has none for some microseconds: leave out
       * what does not change. An address that another peer has moves to this one, without an error.
       */
      readonly allowedIps?: readonly Prefix[]
      /** Seconds; a packet is sent at once when it changes from 0 and the device is up. */
      readonly keepalive?: number
      /** Changes nothing where there is no such peer, and is no failure. */
      readonly updateOnly?: true
    }
  | { readonly kind: 'remove-peer'; readonly publicKey: WireguardKey }

/** The interface that a device is made as. */
export interface WireguardLink {
  readonly name: string
  /** Bytes. */
  readonly mtu: number
}

/** An operation in words that follow "cannot". */
export const describeWireguardOperation = ({ kind, publicKey }: WireguardOperation): string =>
  kind === 'set-peer' ? `set the WireGuard peer ${publicKey}` : `remove the WireGuard peer ${publicKey}`
