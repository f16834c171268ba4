/** Whether packets to a peer are encrypted and, where they are not, what is in the way. */
import { count } from '../../model/count'
import type { Peer } from '../../model/lease'
import type { Way } from '../../model/way'
import { describeRefusal, type TunnelHost, type TunnelRefusal } from './tunnel-hosts'
import { slotWith, type TunnelMemories } from './tunnels'

/** `clear`: packets leave this host in clear. `none`: no packet leaves this host for the peer. */
export type EncryptionWord = 'encrypted' | 'clear' | 'none'

export type EncryptionObstacle =
  /** The peer announces no key: it is a flannel host, or an overlayd that cannot or shall not encrypt. */
  | { readonly kind: 'no-key' }
  /** The peer announces keys that this host does not use. */
  | { readonly kind: 'refused'; readonly refusal: TunnelRefusal }
  /** `tries`: times that the peer was tried for 15 s in vain; 0 during the first one. */
  | { readonly kind: 'no-handshake'; readonly tries: number; readonly port: number }
  /** This host cannot encrypt. */
  | { readonly kind: 'unable' }

export interface PeerEncryption {
  readonly word: EncryptionWord
  /**
   * `undefined` where all is well. An encrypted peer has one while it does not answer: its packets are lost,
   * and not sent in clear.
   */
  readonly obstacle: EncryptionObstacle | undefined
}

/** A sentence about the peer, which begins with "it" or "this host". */
export function describeObstacle(obstacle: EncryptionObstacle): string {
  switch (obstacle.kind) {
    case 'no-key':
      return 'it announces no key'
    case 'refused':
      return `its key is not used: ${describeRefusal(obstacle.refusal)}`
    case 'no-handshake':
      return obstacle.tries === 0
        ? 'no handshake with it yet'
        : `it answers no handshake on UDP port ${obstacle.port} (${count(obstacle.tries, 'try', 'tries')})`
    case 'unable':
      return 'this host cannot encrypt'
  }
}

const WORDS = { tunnel: 'encrypted', clear: 'clear', none: 'none' } as const

export const encryptionWord = ({ kind }: Way): EncryptionWord => WORDS[kind]

/** What a host with WireGuard knows of the others. */
export interface Tunnels {
  /** This host's. */
  readonly turn: number
  /** key of a lease in etcd -> the host whose keys are used */
  readonly hosts: ReadonlyMap<string, TunnelHost>
  /** key of a lease in etcd -> why its keys are not used */
  readonly refused: ReadonlyMap<string, TunnelRefusal>
  readonly memories: TunnelMemories
}

/** How a host with WireGuard sends to a peer. */
export function peerEncryption(
  { key, wireguard }: Peer,
  way: Way,
  { turn, hosts, refused, memories }: Tunnels,
): PeerEncryption {
  const word = encryptionWord(way)
  const refusal = refused.get(key)
  const host = hosts.get(key)
  if (wireguard === undefined) return { word, obstacle: { kind: 'no-key' } }
  if (refusal !== undefined) return { word, obstacle: { kind: 'refused', refusal } }
  const slot = host && slotWith(turn, host)
  const memory = host && slot !== undefined ? memories[slot].get(host.announced.keys[slot]) : undefined
  const tries = memory === undefined || memory.trial.kind === 'none' ? 0 : memory.trial.times
  if (word === 'encrypted' && tries === 0) return { word, obstacle: undefined }
  return { word, obstacle: { kind: 'no-handshake', tries, port: wireguard.port + (slot ?? 0) } }
}
