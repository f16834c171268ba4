/** The groups of the picture: each peer is in one, by the worst that is known of it. */
import type { PeerStatus } from '../../api/status'

/** How good or bad something is. The page has a sign and a colour for each. */
export type Level = 'good' | 'warn' | 'bad' | 'plain'

export interface Group {
  readonly key: string
  /** As `overlayctl status` and `overlayctl peers` call it. */
  readonly title: string
  /** What the title means. */
  readonly about: string
  readonly level: Level
}

interface Kind extends Group {
  readonly holds: (peer: PeerStatus) => boolean
}

/** The worst first. A peer is in the first group that it fits. */
const KINDS: readonly Kind[] = [
  {
    key: 'unreachable',
    title: 'unreachable',
    about: 'three probes or more in a row were lost; nothing is taken away for it',
    level: 'bad',
    holds: ({ probe }) => probe?.reach === 'unreachable',
  },
  {
    key: 'failing',
    title: 'failing',
    about: 'the kernel refuses the change; it is tried again',
    level: 'bad',
    holds: ({ state }) => state === 'failing',
  },
  {
    key: 'none',
    title: 'without packets',
    about: 'no packets, since encryption is required and not possible yet',
    level: 'bad',
    holds: ({ encryption }) => encryption === 'none',
  },
  {
    key: 'rejected',
    title: 'rejected',
    about: 'the lease is not valid, or clashes with an older one; the host is not reached by it',
    level: 'bad',
    holds: ({ state }) => state === 'rejected',
  },
  {
    key: 'held',
    title: 'held',
    about: 'gone from etcd together with most others, and kept for a time',
    level: 'warn',
    holds: ({ state }) => state === 'held',
  },
  {
    key: 'pending',
    title: 'pending',
    about: 'not in the kernel yet as etcd has it',
    level: 'warn',
    holds: ({ state }) => state === 'pending',
  },
  {
    key: 'suspect',
    title: 'suspect',
    about: 'the last one or two probes were lost',
    level: 'warn',
    holds: ({ probe }) => probe?.reach === 'suspect',
  },
  {
    key: 'path-mtu',
    title: 'smaller path MTU',
    about: 'large packets do not get through',
    level: 'warn',
    holds: ({ probe }) => probe?.fullSize === 'lost' || probe?.pathMtu !== undefined,
  },
  {
    key: 'unknown',
    title: 'not probed yet',
    about: 'in the kernel; the turn to be probed has not come',
    level: 'plain',
    holds: ({ probe }) => probe?.reach === 'unknown',
  },
  {
    key: 'ok',
    title: 'ok',
    about: 'in the kernel; not probed',
    level: 'good',
    holds: ({ probe }) => probe === undefined,
  },
  {
    key: 'answering',
    title: 'answering',
    about: 'the last probe through the overlay was answered',
    level: 'good',
    holds: () => true,
  },
]

/** All groups, the worst first. */
export const GROUPS: readonly Group[] = KINDS.map(({ holds: _, ...group }) => group)

/** @returns the key of the peer's group */
export const groupOf = (peer: PeerStatus): string => KINDS.find(({ holds }) => holds(peer))?.key ?? ''
