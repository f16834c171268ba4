/** How encryption stands on this host, as a value: for status, metrics, /readyz and the log. */
import type { Peer } from '../../model/lease'
import type { EncryptionWord, PeerEncryption } from '../../plan/encryption/peer-encryption'
import type { TunnelRefusal } from '../../plan/encryption/tunnel-hosts'

type Mode = 'prefer' | 'required'

/** Peers by how packets reach them. A host with both families is two peers. */
export type EncryptionCounts = Readonly<Record<EncryptionWord, number>>

/**
 * A peer whose packets have not been encrypted for longer than a handshake takes, or one that gets none
 * because it announces no key.
 */
export interface LackingPeer {
  readonly peer: Peer
  readonly encryption: PeerEncryption
}

export type EncryptionState =
  /** The network prefers encryption, and this host cannot encrypt. */
  | {
      readonly kind: 'unable'
      readonly mode: Mode
      readonly reason: string
      readonly fix: string
      readonly peers: EncryptionCounts
    }
  | {
      readonly kind: 'on'
      readonly mode: Mode
      /** Names and UDP ports of the devices that are there. */
      readonly devices: readonly { readonly name: string; readonly port: number }[]
      readonly peers: EncryptionCounts
      /** Peers that announce no keys. */
      readonly withoutKey: number
      /** Encrypted peers that do not answer handshakes any more: their packets are lost. */
      readonly silent: number
      readonly lacking: readonly LackingPeer[]
      /** key of a lease -> why its keys are not used */
      readonly refused: ReadonlyMap<string, TunnelRefusal>
      /** When the keys in use were chosen, in milliseconds since the epoch. */
      readonly since: number | undefined
      /** Why encryption does not work, or not as it should. */
      readonly problem: string | undefined
    }

/** Milliseconds that a handshake may take: two series of tries (plan/encryption/tunnels.ts, TRIAL). */
const MOMENT = 30_000

/** key of a lease -> since when its packets are not encrypted, in milliseconds */
export type LackingSince = ReadonlyMap<string, number>

/** Since when each of these leases lacks encryption. */
export const stillLacking = (before: LackingSince, keys: Iterable<string>, now: number): LackingSince =>
  new Map([...keys].map((key) => [key, before.get(key) ?? now]))

/**
 * Counts the peers, and finds those that lack encryption for longer than a moment, or that are cut off for
 * good.
 */
export function reviewPeers(
  peers: Iterable<Peer>,
  encryptionOf: (peer: Peer) => PeerEncryption,
  since: LackingSince,
  now: number,
) {
  const counts = { encrypted: 0, clear: 0, none: 0 }
  let [withoutKey, silent] = [0, 0]
  const lacking: LackingPeer[] = []
  for (const peer of peers) {
    const encryption = encryptionOf(peer)
    const { word, obstacle } = encryption
    counts[word] += 1
    if (obstacle?.kind === 'no-key') withoutKey += 1
    if (word === 'encrypted' && obstacle !== undefined) silent += 1
    if (word === 'encrypted') continue
    // No handshake is to come with a host that announces no key, so its cut is told at once.
    const isCut = word === 'none' && obstacle?.kind === 'no-key'
    if (isCut || now - (since.get(peer.key) ?? now) >= MOMENT) lacking.push({ peer, encryption })
  }
  return { peers: counts, withoutKey, silent, lacking }
}
