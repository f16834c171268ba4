/** What is told when packets to peers begin to leave another way. */
import { formatPrefix } from '../../model/address'
import { count } from '../../model/count'
import type { Peer } from '../../model/lease'
import {
  describeObstacle,
  type EncryptionWord,
  type PeerEncryption,
} from '../../plan/encryption/peer-encryption'

/** A peer with what holds for its packets now. */
export interface ChangedPeer {
  readonly peer: Pick<Peer, 'subnet'>
  readonly encryption: PeerEncryption
}

/** One line of the log, and one event. */
export interface WayNews {
  readonly level: 'info' | 'warn' | 'error'
  readonly kind: 'peer-encrypted' | 'peer-clear' | 'peer-cut'
  readonly text: string
  /** The subnets of the peers. */
  readonly about: readonly string[]
}

/** The kinds of news, in the order in which they are told. */
const KINDS: readonly {
  readonly word: EncryptionWord
  /** Whether the peers are those without keys; `undefined` for all. */
  readonly isKeyless?: boolean
  readonly level: WayNews['level']
  readonly kind: WayNews['kind']
  readonly words: string
}[] = [
  { word: 'encrypted', level: 'info', kind: 'peer-encrypted', words: 'packets encrypted' },
  { word: 'clear', level: 'warn', kind: 'peer-clear', words: 'packets in clear' },
  {
    word: 'none',
    isKeyless: false,
    level: 'warn',
    kind: 'peer-cut',
    words: 'no packets: encryption is required, and no handshake has succeeded',
  },
  {
    word: 'none',
    isKeyless: true,
    level: 'error',
    kind: 'peer-cut',
    words:
      'NO PACKETS: encryption is required, and no key is announced: flannel runs there, or an overlayd ' +
      'that does not encrypt',
  },
]

/** @param changed the peers whose packets leave another way than before */
export function wayNews(changed: readonly ChangedPeer[]): WayNews[] {
  return KINDS.flatMap(({ word, isKeyless, level, kind, words }) => {
    const meant = changed.filter(
      ({ encryption: { word: now, obstacle } }) =>
        now === word && (isKeyless === undefined || (obstacle?.kind === 'no-key') === isKeyless),
    )
    const about = meant.map(({ peer: { subnet } }) => formatPrefix(subnet))
    const [only] = meant
    if (only === undefined) return []
    const who = about.length === 1 ? `${about[0]} gets` : `${count(about.length, 'peer')} get`
    const { obstacle } = only.encryption
    const why =
      word === 'clear' && about.length === 1 && obstacle !== undefined
        ? `: ${describeObstacle(obstacle)}`
        : ''
    return [{ level, kind, text: `${who} ${words}${why}`, about }]
  })
}
