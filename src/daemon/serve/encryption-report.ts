/** What status and problems say about encryption. */
import type { PeerStatus, Status } from '../../api/status'
import { formatPrefix } from '../../model/address'
import { nameUnderSubnets } from '../../model/commands'
import { count } from '../../model/count'
import { describeObstacle, type PeerEncryption } from '../../plan/encryption/peer-encryption'
import { describeRefusal } from '../../plan/encryption/tunnel-hosts'
import type { Encryption } from '../encryption/encryption'
import type { EncryptionState, LackingPeer } from '../encryption/encryption-state'

/** The part of {@link Encryption} that the document is made of. */
type Source = Pick<Encryption, 'state' | 'dropped'>

/** Refused keys that are listed. */
const MOST_REFUSED = 20
/** Peers that one text names. */
const MOST_NAMED = 5

/** The fields of a peer. */
export function reportPeerEncryption(
  encryption: PeerEncryption | undefined,
): Pick<PeerStatus, 'encryption' | 'encryptionReason'> {
  if (encryption === undefined) return {}
  const { word, obstacle } = encryption
  return {
    encryption: word,
    ...(obstacle !== undefined && { encryptionReason: describeObstacle(obstacle) }),
  }
}

/** @param now milliseconds since 1970 */
export async function reportEncryption(
  source: Source | undefined,
  now: number,
): Promise<Pick<Status, 'encryption'>> {
  const state = source?.state()
  if (source === undefined || state === undefined) return {}
  const { kind, mode, peers } = state
  if (state.kind === 'unable') {
    const { reason, fix } = state
    return { encryption: { mode, state: kind, reason, fix, devices: [], peers } }
  }
  const { devices, withoutKey, silent, refused, since, problem } = state
  const dropped = await source.dropped()
  return {
    encryption: {
      mode,
      state: kind,
      devices: [...devices],
      peers,
      withoutKey,
      silent,
      ...(refused.size > 0 && {
        refused: [...refused].slice(0, MOST_REFUSED).map(([key, refusal]) => ({
          key: nameUnderSubnets(key),
          reason: describeRefusal(refusal),
        })),
      }),
      ...(since !== undefined && { keyAgeSeconds: Math.max(0, Math.round((now - since) / 1000)) }),
      ...(dropped !== undefined && {
        dropped: { in: Number(dropped.droppedIn), out: Number(dropped.droppedOut) },
      }),
      ...(problem !== undefined && { problem }),
    },
  }
}

/** Peers that get no packets, as one text; `undefined` if there are none. */
export function describeCut(state: EncryptionState | undefined): string | undefined {
  const cut = lackingOf(state, ({ encryption: { word } }) => word === 'none')
  if (cut.length === 0) return undefined
  const who = count(cut.length, 'peer gets', 'peers get')
  return `required, and ${who} no packets: ${names(cut)}`
}

/** Things that a person should check although this host works. */
export function encryptionWarnings(state: EncryptionState | undefined): string[] {
  if (state === undefined) return []
  if (state.kind === 'unable')
    return [`encryption: packets go in clear, because ${state.reason}; ${state.fix}`]
  // A host without keys is no failure where encryption is only preferred.
  const clear = lackingOf(
    state,
    ({ encryption: { word, obstacle } }) => word === 'clear' && obstacle?.kind !== 'no-key',
  )
  if (clear.length === 0) return []
  const get = clear.length === 1 ? 'peer with keys gets' : 'peers with keys get'
  return [`encryption: ${clear.length} ${get} packets in clear: ${names(clear)}`]
}

const lackingOf = (
  state: EncryptionState | undefined,
  isMeant: (lacking: LackingPeer) => boolean,
): LackingPeer[] => (state?.kind === 'on' ? state.lacking.filter(isMeant) : [])

function names(lacking: readonly LackingPeer[]): string {
  const named = lacking.slice(0, MOST_NAMED).map(({ peer: { subnet }, encryption: { obstacle } }) => {
    return `${formatPrefix(subnet)}${obstacle === undefined ? '' : ` (${describeObstacle(obstacle)})`}`
  })
  const more = lacking.length - named.length
  return `${named.join(', ')}${more > 0 ? `, and ${more} more` : ''}`
}
