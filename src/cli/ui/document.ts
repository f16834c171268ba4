/**
 * What the page shows, made from a status document: the words of `overlayctl status` and `overlayctl peers`,
 * and for each peer the group of the picture that it is in. All words are made here, and none in the page.
 */
import type { OverlayEvent } from '../../api/events'
import { subnetOf } from '../../api/peer-order'
import type { PeerStatus, Status } from '../../api/status'
import { addressBits, familyOf, type Prefix } from '../../model/address'
import { printable, printableData } from '../../model/printable'
import { pathMtuWords } from '../show/render-mesh'
import { peerColumns } from '../show/render-peers'
import { statusFacts, verdictWords } from '../show/render-status'
import type { Column, Style } from '../show/screen'
import { whyPeersUnknown } from '../show/unknown'
import { GROUPS, type Group, groupOf, type Level } from './groups'

export const PAGE_SCHEMA = 1

/** One peer: a tile of the picture, and a row of the table. */
export interface Row {
  /** Unique in the document, and the same in the next one. */
  readonly id: string
  /** Key of its {@link Group}. */
  readonly group: string
  /** The texts of the columns, in their order. */
  readonly cells: readonly string[]
  /** Levels of the cells that have one, by the columns' numbers. */
  readonly levels: Readonly<Record<number, Level>>
  /** The subnet's address as digits that sort as addresses do; `4` or `6` before them. Absent without one. */
  readonly order?: string
  /** Bits of the subnet's prefix; absent where `order` is. */
  readonly length?: number
  readonly rttMs?: number
  /** From 0 to 1. */
  readonly loss?: number
  /** When the last probe was answered: seconds since 1970. */
  readonly answeredAt?: number
}

/** Everything but the peers. */
export interface Head {
  /** When the status was read; ISO 8601. */
  readonly at: string
  readonly self: {
    readonly name: string
    /** Each with the address that other hosts send to; none before this host has a lease. */
    readonly subnets: readonly { readonly subnet: string; readonly publicIp: string }[]
    /** Of the VXLAN device. */
    readonly mtu?: number
  }
  readonly verdict: { readonly text: string; readonly level: Level }
  readonly problems: readonly string[]
  readonly warnings: readonly string[]
  /** The lines of the status. */
  readonly facts: readonly { readonly name: string; readonly text: string }[]
  /** Why the peers are not known; then there are no rows. */
  readonly unknown?: string
  /** Titles of the columns. `ANSWERED` has times in ISO 8601. */
  readonly columns: readonly string[]
  /** The groups that have peers, the worst first. */
  readonly groups: readonly (Group & { readonly count: number })[]
}

export interface PageDocument {
  readonly schema: typeof PAGE_SCHEMA
  readonly head: Head
  /** In the order of the groups, and in each in that of the subnets. */
  readonly rows: readonly Row[]
}

/** An event, as far as the page shows it. */
export type PageEvent = Pick<OverlayEvent, 'seq' | 'time' | 'level' | 'kind' | 'about' | 'text'>

/** The most events that the page keeps; the daemon keeps 200 of each kind. */
export const MOST_EVENTS = 1000

const LEVELS: Readonly<Record<Style, Level>> = {
  green: 'good',
  yellow: 'warn',
  red: 'bad',
  bold: 'plain',
  gray: 'plain',
}

/**
 * @param at when the status was read
 * @param host the name of this host
 */
export function makePage(document: Status, at: Date, host: string): PageDocument {
  const status = printableData(document)
  const { word, style, more } = verdictWords(status)
  const unknown = whyPeersUnknown(status)
  const { lease, device, ipv6Device } = status
  const mtu = (device ?? ipv6Device)?.mtu
  const rows = unknown === undefined ? makeRows(status, at) : []
  const counts = new Map<string, number>()
  for (const { group } of rows) counts.set(group, (counts.get(group) ?? 0) + 1)
  const halves = [
    { subnet: lease?.subnet, publicIp: lease?.publicIp ?? '' },
    { subnet: lease?.ipv6Subnet, publicIp: lease?.publicIpv6 ?? '' },
  ]
  return {
    schema: PAGE_SCHEMA,
    head: {
      at: at.toISOString(),
      self: {
        name: printable(host),
        subnets: halves.flatMap(({ subnet, publicIp }) =>
          subnet === undefined ? [] : [{ subnet, publicIp }],
        ),
        ...(mtu !== undefined && { mtu }),
      },
      verdict: { text: `${word}${more}`, level: LEVELS[style] },
      problems: status.problems,
      warnings: status.warnings ?? [],
      facts: statusFacts(status),
      ...(unknown !== undefined && { unknown: `not known: ${unknown}` }),
      columns: columnsFor(status, at).map(({ title }) => title),
      groups: GROUPS.flatMap((group) => {
        const count = counts.get(group.key)
        return count === undefined ? [] : [{ ...group, count }]
      }),
    },
    rows,
  }
}

/** An event for the page. Its texts are printable already, unless another program serves the socket. */
export const makeEvent = ({ seq, time, level, kind, about, text }: OverlayEvent): PageEvent => ({
  seq,
  time,
  level,
  kind,
  about: about.map(printable),
  text: printable(text),
})

/**
 * The columns of `overlayctl peers`, with the MTU of the path. The last one, the reason, stays the last. A
 * time since changes each second; a time of day does not.
 */
function columnsFor({ peers, device, ipv6Device }: Status, at: Date): Column<PeerStatus>[] {
  const columns = peerColumns(peers)
  const [why] = columns.splice(-1)
  const isProbed = columns.some(({ title }) => title === SINCE)
  const added: Column<PeerStatus>[] = [
    {
      title: 'MTU',
      cell: (peer) => {
        const subnet = subnetOf(peer)
        const isIpv6 = subnet !== undefined && familyOf(subnet.address) === 'IPv6'
        return pathMtuWords(peer.probe, (isIpv6 ? ipv6Device : device)?.mtu)
      },
    },
    {
      title: 'ANSWERED',
      cell: ({ probe }) => {
        const seconds = answeredAt(probe?.answeredSecondsAgo, at)
        return seconds === undefined ? '' : new Date(seconds * 1000).toISOString()
      },
    },
  ]
  return [
    ...columns.filter(({ title }) => title !== SINCE),
    ...(isProbed ? added : []),
    ...(why === undefined ? [] : [why]),
  ]
}

/** The column with the time since the last answer. */
const SINCE = 'SEEN'

const answeredAt = (secondsAgo: number | undefined, at: Date): number | undefined =>
  secondsAgo === undefined ? undefined : Math.round(at.getTime() / 1000 - secondsAgo)

function makeRows(status: Status, at: Date): Row[] {
  const columns = columnsFor(status, at)
  const ranks = new Map(GROUPS.map(({ key }, rank) => [key, rank]))
  const rows = status.peers.map((peer) => makeRow(peer, columns, at))
  const rankOf = ({ group }: Row): number => ranks.get(group) ?? 0
  rows.sort((a, b) => rankOf(a) - rankOf(b) || compare(a.order ?? '~', b.order ?? '~') || compare(a.id, b.id))
  const seen = new Map<string, number>()
  return rows.map((row) => {
    const times = (seen.get(row.id) ?? 0) + 1
    seen.set(row.id, times)
    return times === 1 ? row : { ...row, id: `${row.id} #${times}` }
  })
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

function makeRow(peer: PeerStatus, columns: readonly Column<PeerStatus>[], at: Date): Row {
  const { probe } = peer
  const levels = columns.flatMap(({ style }, place) => {
    const given = style?.(peer)
    return given === undefined ? [] : [[place, LEVELS[given]] as const]
  })
  const subnet = subnetOf(peer)
  const answered = answeredAt(probe?.answeredSecondsAgo, at)
  return {
    id: peer.key === undefined ? peer.subnet : `key ${peer.key}`,
    group: groupOf(peer),
    cells: columns.map(({ cell }) => cell(peer)),
    levels: Object.fromEntries(levels),
    ...(subnet !== undefined && { order: digitsOf(subnet), length: subnet.length }),
    ...(probe?.rttMs !== undefined && { rttMs: probe.rttMs }),
    ...(probe?.loss !== undefined && { loss: probe.loss }),
    ...(answered !== undefined && { answeredAt: answered }),
  }
}

/** `40a052a00` */
function digitsOf({ address }: Prefix): string {
  const family = familyOf(address)
  return `${family === 'IPv4' ? 4 : 6}${address.toString(16).padStart(addressBits(family) / 4, '0')}`
}
