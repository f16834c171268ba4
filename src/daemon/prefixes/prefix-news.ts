/** Logs which prefixes move, and which claims are refused: one line for each, or one for many. */
import { formatPrefix } from '../../model/address'
import { count } from '../../model/count'
import { type RouteKey, routePrefix } from '../../model/kernel/route'
import type { PrefixClaim } from '../../model/prefixes'
import type { Refusal, Rejudged } from '../../plan/prefixes/standing-table'
import type { Logger } from '../tell/logger'

/** Changes that are logged one by one. */
const MOST_LOGGED = 20

/** A prefix that has another winner; `undefined` for none. */
interface Move {
  readonly key: RouteKey
  readonly from: string | undefined
  readonly to: string | undefined
}

export class PrefixNews {
  #moves: Move[] = []
  #refusals: Refusal[] = []

  constructor(private readonly log: Logger) {}

  /** Notes what a judgement has changed, until {@link tell}. */
  note(key: RouteKey, { before, winners, refused }: Rejudged): void {
    const [from, to] = [hostsOf(before), hostsOf(winners)]
    if (from !== to) this.#moves.push({ key, from, to })
    this.#refusals.push(...refused)
  }

  /** Logs what was noted. */
  tell(): void {
    const [moves, refusals] = [this.#moves, this.#refusals]
    this.#moves = []
    this.#refusals = []
    if (moves.length > MOST_LOGGED)
      this.log.info(`prefixes: ${count(moves.length, 'prefix', 'prefixes')} moved, came or went`, {
        kind: 'prefix-moved',
      })
    for (const { key, from, to } of moves.length > MOST_LOGGED ? [] : moves) {
      const prefix = formatPrefix(routePrefix(key))
      const was = from === undefined ? '' : `, and was behind ${from}`
      const text = to === undefined ? `is behind no host now${was}` : `is behind ${to} now${was}`
      this.log.info(`prefixes: ${prefix} ${text}`, { kind: 'prefix-moved', about: [prefix] })
    }
    for (const { claim, reason } of refusals.slice(0, MOST_LOGGED))
      this.log.warn(`prefixes: ${claim.name} is not followed: ${reason}`, {
        kind: 'prefix-refused',
        about: [formatPrefix(claim.announcement.prefix)],
      })
  }

  /** Logs that probing has changed which hosts get the packets to a prefix. */
  rerouted(key: RouteKey, hosts: readonly string[]): void {
    const prefix = formatPrefix(routePrefix(key))
    this.log.warn(
      `prefixes: ${prefix}: by what probing has found, its packets go to ${hosts.join(' and ')}`,
      {
        kind: 'prefix-moved',
        about: [prefix],
      },
    )
  }
}

/** The hosts that get the packets, in words; `undefined` for none. */
const hostsOf = (winners: readonly PrefixClaim[]): string | undefined =>
  winners.length === 0 ? undefined : winners.map(({ host }) => host).join(' and ')
