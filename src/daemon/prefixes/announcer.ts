/**
 * Keeps in etcd what this host announces: writes a key again that is gone or was changed, for as long as this
 * host has its lease, and takes it back when its time is over.
 */
import { performance } from 'node:perf_hooks'
import type { Registry } from '../../etcd/registry'
import { racing } from '../../etcd/transactions'
import { type Family, formatPrefix, type Prefix } from '../../model/address'
import { OverlayError } from '../../model/errors'
import type { Lease, Revision } from '../../model/lease'
import {
  type Announcement,
  DEFAULT_PRIORITY,
  MOST_FURTHER,
  MOST_OF_HOST,
  type PrefixClaim,
  prefixName,
} from '../../model/prefixes'
import { valueOrThrow } from '../../model/result'
import { furtherSubnets } from '../../plan/host/own-subnets'
import { chooseBlock } from '../../plan/prefixes/block'
import { ClaimLedger, isBoundTo, type Step } from '../../plan/prefixes/claim-ledger'
import type { LeaseKeeper } from '../keepers/lease-keeper'
import { Loop, type Next } from '../loop/loop'
import type { Logger } from '../tell/logger'
import type { AnnouncedPrefixes } from './announced'
import type { Deliverer } from './deliverer'

/** Longest time between two looks, in milliseconds: a timer of Node takes no more than 24 days. */
const PERIOD = 3_600_000

/** Milliseconds that the choice of a further subnet may take. overlayctl waits longer. */
const CHOICE_DEADLINE = 10_000
/** Races lost to other hosts after which a choice is given up: of so many hosts at once each gets a block. */
const MOST_RACES = 64

export class Announcer {
  readonly #loop: Loop
  readonly #ledger: ClaimLedger
  /** Whether all that is wanted is known: else what an earlier run has announced is kept. */
  #isComplete: boolean
  /** Ends with the last choice of a further subnet: one at a time, so that they are counted. */
  #choosing: Promise<unknown> = Promise.resolve()
  /** Name of a further subnet that is not announced -> the claim of another host that overlaps it. */
  #rivals: ReadonlyMap<string, PrefixClaim> = new Map()
  /** The further subnets of this host, as the last pass found them. */
  #furtherText = ''
  #changed = (): void => undefined

  /** @param remembered what an earlier run has announced; `undefined` when that is not known */
  constructor(
    private readonly registry: Registry,
    private readonly keeper: LeaseKeeper,
    private readonly announced: AnnouncedPrefixes,
    private readonly deliverer: Deliverer,
    private readonly log: Logger,
    remembered: readonly Announcement[] | undefined,
  ) {
    this.#ledger = new ClaimLedger(remembered ?? [])
    this.#isComplete = remembered !== undefined
    deliverer.follow(
      () => this.#ledger.wanted.values(),
      () => {
        this.wake()
        this.#changed()
      },
    )
    this.#loop = new Loop(
      {
        name: 'prefixes',
        pass: (signal) => this.#pass(signal),
        failed: (problem, before) => {
          if (before === undefined) log.warn(`prefixes: ${problem}; trying again`, { kind: 'prefix-problem' })
        },
        recovered: () => log.info('prefixes: etcd has what this host announces', { kind: 'prefix-problem' }),
      },
      log,
    )
  }

  /** What this host announces; `undefined` while that is not known. */
  get wanted(): readonly Announcement[] | undefined {
    return this.#isComplete ? [...this.#ledger.wanted.values()] : undefined
  }

  /** Why etcd does not have what this host announces; `undefined` when it has. */
  get problem(): string | undefined {
    return this.#loop.problem
  }

  /** The further subnets that this host has, in order; `undefined` while that is not known. */
  get further(): readonly Prefix[] | undefined {
    const held = this.wanted?.filter(({ prefix }) => !this.#rivals.has(prefixName(prefix)))
    return held && furtherSubnets(held, (prefix) => this.announced.ownStanding(prefix))
  }

  /** Further subnets of this host that it does not announce, for another host has claimed their addresses. */
  get outrun(): readonly { readonly announcement: Announcement; readonly rival: PrefixClaim }[] {
    return [...this.#rivals].flatMap(([name, rival]) => {
      const announcement = this.#ledger.wanted.get(name)
      return announcement === undefined ? [] : [{ announcement, rival }]
    })
  }

  /** @param changed called after each change that a later run has to know */
  onChange(changed: () => void): void {
    this.#changed = changed
  }

  /** Compares with etcd soon. */
  wake(): void {
    this.#loop.wake()
  }

  run(signal: AbortSignal): Promise<void> {
    return this.#loop.run(signal)
  }

  /**
   * Announces a prefix, or another priority or end of one that is announced.
   * @returns why it waits until it is announced; `undefined` when it is
   * @throws {OverlayError} `announce` with the reason for a refusal; {EtcdError}: nothing is announced then
   */
  async announce(announcement: Announcement, signal: AbortSignal): Promise<string | undefined> {
    const { prefix, priority } = announcement
    const text = formatPrefix(prefix)
    if (this.#isFurther(prefix)) throw isFurther('announce', text)
    const objection = this.announced.objectionToOwn(prefix)
    if (objection !== undefined)
      throw new OverlayError(
        'announce',
        `${text} may not be announced: ${objection}`,
        'see overlayctl prefixes',
      )
    if (!this.#ledger.wanted.has(prefixName(prefix)) && this.#ledger.wanted.size >= MOST_OF_HOST)
      throw new OverlayError('announce', `a host announces at most ${MOST_OF_HOST} prefixes`, 'withdraw some')
    const lease = this.#lease('announce')
    if (announcement.via !== undefined) await this.deliverer.look(signal)
    const obstacle = this.deliverer.obstacle(announcement)
    await this.#ordering(prefix, async () => {
      if (obstacle === undefined) await this.#put(lease, announcement, signal)
      this.#ledger.want(announcement)
    })
    if (obstacle === undefined)
      this.log.info(`prefixes: this host announces ${text} with priority ${priority}`, {
        kind: 'prefix-announced',
        about: [text],
      })
    this.deliverer.update()
    this.#changed()
    this.wake()
    return obstacle?.reason
  }

  /**
   * Takes a free block as a further subnet of this host. Nobody else has announced anything in it: see
   * {@link Registry.prefixes}.
   * @param length of the block; `undefined` for that of the subnets that hosts lease
   * @throws {OverlayError} `lease-add` with the reason for a refusal; {EtcdError}: nothing is taken then
   */
  addSubnet(family: Family, length: number | undefined, signal: AbortSignal): Promise<Prefix> {
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(CHOICE_DEADLINE)])
    const chosen = this.#choosing.then(() => this.#choose(family, length, deadline))
    this.#choosing = chosen.catch(() => undefined)
    return chosen
  }

  async #choose(family: Family, length: number | undefined, signal: AbortSignal): Promise<Prefix> {
    this.#demandRoom()
    const announcement = await racing(MOST_RACES, async () => {
      const known = this.announced.revision
      const basis = this.announced.blockBasis(family)
      if (basis === undefined)
        throw new OverlayError('lease-add', `the network has no ${family}`, 'leave out --ipv6')
      if (known === undefined || !this.#isComplete)
        throw new OverlayError('lease-add', 'etcd has not told yet what hosts announce', 'try again')
      if (this.announced.more > 0)
        throw new OverlayError(
          'lease-add',
          'there are more announced prefixes than are followed, and a block could overlap one of them',
          'see overlayctl prefixes',
        )
      const lease = this.#lease('lease-add')
      const prefix = valueOrThrow(chooseBlock(basis, length ?? basis.subnetLength, Math.random))
      const chosen: Announcement = { ...FURTHER, prefix }
      const claimed = await this.#ordering(prefix, async () => {
        const done = await this.registry.prefixes.claim(lease, chosen, known, signal)
        if (done.kind === 'outrun') return done
        this.#note(prefix, done.kind === 'claimed' ? done.revision : undefined)
        this.#ledger.want(chosen)
        return done
      })
      if (claimed.kind === 'outrun') {
        await this.announced.reached(claimed.by, signal).catch(() => {
          throw new OverlayError(
            'lease-add',
            'etcd does not tell in time what other hosts announce',
            'try again',
          )
        })
        return undefined
      }
      return chosen
    })
    if (announcement === undefined)
      throw new OverlayError('lease-add', 'other hosts announce something all the time', 'try again')
    const { prefix } = announcement
    const text = formatPrefix(prefix)
    this.log.info(`prefixes: this host has ${text} as a further subnet`, {
      kind: 'prefix-announced',
      about: [text],
    })
    this.#changed()
    this.wake()
    return prefix
  }

  #demandRoom(): void {
    const names = [...this.#ledger.wanted].filter(([, { further }]) => further === true).map(([name]) => name)
    const inEtcd = this.announced.ownClaims().filter(({ announcement }) => announcement.further === true)
    const all = new Set([...names, ...inEtcd.map(({ announcement }) => prefixName(announcement.prefix))])
    if (all.size >= MOST_FURTHER)
      throw new OverlayError(
        'lease-add',
        `this host has ${all.size} further subnets, and a host may have ${MOST_FURTHER}`,
        'give one back that nothing uses: overlayctl lease remove',
      )
    if (this.#ledger.wanted.size >= MOST_OF_HOST)
      throw new OverlayError(
        'lease-add',
        `a host announces at most ${MOST_OF_HOST} prefixes`,
        'withdraw some',
      )
  }

  /**
   * Gives a further subnet back.
   * @throws {OverlayError} `lease-remove` when this host has no such subnet; {EtcdError}: it still has it
   */
  async removeSubnet(prefix: Prefix, signal: AbortSignal): Promise<void> {
    const text = formatPrefix(prefix)
    if (!this.#isFurther(prefix))
      throw new OverlayError(
        'lease-remove',
        `${text} is no further subnet of this host`,
        'see which it has: overlayctl lease',
      )
    await this.#end(prefix, 'lease-remove', signal)
  }

  /** Keeps the passes off a prefix while an order changes its key, and what is wanted of it. */
  async #ordering<T>(prefix: Prefix, obey: () => Promise<T>): Promise<T> {
    try {
      return await this.#ledger.ordering(prefixName(prefix), obey)
    } finally {
      this.wake()
    }
  }

  #isFurther(prefix: Prefix): boolean {
    const name = prefixName(prefix)
    const inEtcd = this.announced.ownClaims().map(({ announcement }) => announcement)
    return [...this.#ledger.wanted.values(), ...inEtcd].some(
      (each) => each.further === true && prefixName(each.prefix) === name,
    )
  }

  /** Writes a key. The way to the prefix is there before, so that no packet comes back. */
  async #put(lease: Lease, announcement: Announcement, signal: AbortSignal): Promise<void> {
    await this.deliverer.prepare(announcement, signal)
    try {
      const revision = await this.registry.prefixes.put(lease, announcement, signal)
      this.deliverer.told(announcement, this.#note(announcement.prefix, revision))
    } catch (error) {
      this.deliverer.undo(announcement)
      throw error
    }
  }

  /**
   * Withdraws a prefix, whoever has written its key.
   * @throws {OverlayError} `withdraw` when this host does not announce it; {EtcdError}: nothing has changed
   */
  async withdraw(prefix: Prefix, signal: AbortSignal): Promise<void> {
    const name = prefixName(prefix)
    const text = formatPrefix(prefix)
    const isThere = this.announced.ownClaim(prefix) !== undefined
    if (!this.#ledger.wanted.has(name) && !isThere)
      throw new OverlayError('withdraw', `this host does not announce ${text}`, 'see overlayctl prefixes')
    if (this.#isFurther(prefix)) throw isFurther('withdraw', text)
    await this.#end(prefix, 'withdraw', signal)
  }

  /** @param code of the error when this host has no lease */
  async #end(prefix: Prefix, code: string, signal: AbortSignal): Promise<void> {
    const name = prefixName(prefix)
    const isThere = this.announced.ownClaim(prefix) !== undefined
    const wanted = this.#ledger.wanted.get(name)
    const waits =
      this.#rivals.has(name) || (wanted !== undefined && this.deliverer.obstacle(wanted) !== undefined)
    // One that waits for its way is not in etcd, and may be withdrawn while etcd is away.
    await this.#ordering(prefix, async () => {
      if (isThere || !waits)
        this.#note(prefix, await this.registry.prefixes.delete(this.#lease(code), prefix, signal))
      this.#ledger.unwant(name)
    })
    this.deliverer.update()
    this.#logWithdrawal(formatPrefix(prefix), 'an operator has asked for it')
    this.#changed()
    this.wake()
  }

  async #pass(signal: AbortSignal): Promise<Next> {
    this.#noteFurther()
    const { state } = this.keeper
    if (this.announced.revision === undefined || state.kind !== 'held')
      return { due: performance.now() + PERIOD }
    const { lease } = state
    if (!this.#isComplete) this.#adopt(lease)
    this.#endOld()
    for (const { prefix } of [...this.#ledger.wanted.values()]) {
      const announcement = this.#ledger.wanted.get(prefixName(prefix))
      const step = this.#stepFor(prefix, lease)
      if (announcement === undefined) continue
      if (step === 'claim') await this.#claimAgain(announcement, signal)
      else if (step === 'put') await this.#put(lease, announcement, signal)
    }
    this.#dropRivals()
    for (const { announcement } of this.announced.ownClaims()) {
      const { prefix } = announcement
      if (this.#stepFor(prefix, lease) === 'delete')
        this.#note(prefix, await this.registry.prefixes.delete(lease, prefix, signal))
    }
    return { due: performance.now() + Math.min(PERIOD, this.#nextEnd - Date.now()) }
  }

  /**
   * Writes the key of a further subnet again, as after a drain, unless another host has taken it meanwhile:
   * of two that overlap the longer one would get the packets of the other.
   */
  async #claimAgain(announcement: Announcement, signal: AbortSignal): Promise<void> {
    const { revision: known = 0n as Revision } = this.announced
    const rival = this.announced.rivalOf(announcement.prefix)
    const name = prefixName(announcement.prefix)
    if (rival !== undefined) {
      if (this.#rivals.get(name)?.host !== rival.host)
        this.log.warn(
          `prefixes: ${formatPrefix(announcement.prefix)} is no further subnet of this host any more: ` +
            describeRival(rival),
          { kind: 'prefix-problem', about: [formatPrefix(announcement.prefix)] },
        )
      this.#rivals = new Map([...this.#rivals, [name, rival]])
      return
    }
    const lease = this.#lease('announce')
    const claimed = await this.registry.prefixes.claim(lease, announcement, known, signal)
    // Whoever was faster is reported by the watch, which wakes this loop.
    if (claimed.kind !== 'outrun')
      this.#note(announcement.prefix, claimed.kind === 'claimed' ? claimed.revision : undefined)
  }

  #dropRivals(): void {
    const left = [...this.#rivals].filter(([name]) => {
      const wanted = this.#ledger.wanted.get(name)
      const isRivalled = wanted !== undefined && this.announced.rivalOf(wanted.prefix) !== undefined
      return isRivalled && this.announced.ownClaim(wanted.prefix) === undefined
    })
    if (left.length < this.#rivals.size) this.#rivals = new Map(left)
  }

  #noteFurther(): void {
    const now = (this.further ?? []).map(formatPrefix).join()
    if (now === this.#furtherText) return
    this.#furtherText = now
    this.#changed()
  }

  /** Takes over what an earlier run has announced with this lease, of which no state file tells. */
  #adopt(lease: Lease): void {
    const there = this.announced.ownClaims()
    for (const { announcement, etcdLease } of there)
      if (isBoundTo(etcdLease, lease)) this.#ledger.want(announcement)
    this.#isComplete = true
    if (there.length > 0) this.#changed()
  }

  #endOld(): void {
    for (const [name, { prefix, until }] of this.#ledger.wanted) {
      if (until === undefined || until > Date.now()) continue
      this.#ledger.unwant(name)
      this.#logWithdrawal(formatPrefix(prefix), 'its time is over')
      this.#changed()
    }
  }

  get #nextEnd(): number {
    return Math.min(...[...this.#ledger.wanted.values()].map(({ until = Number.POSITIVE_INFINITY }) => until))
  }

  #stepFor(prefix: Prefix, lease: Lease): Step {
    const name = prefixName(prefix)
    const announcement = this.#ledger.wanted.get(name)
    const hasWay = announcement === undefined || this.deliverer.obstacle(announcement) === undefined
    const { revision = 0n as Revision } = this.announced
    return this.#ledger.step(name, { claim: this.announced.ownClaim(prefix), revision, lease, hasWay })
  }

  /** @throws {OverlayError} when our lease has changed, which the watch is about to report */
  #note(prefix: Prefix, revision: Revision | undefined): Revision {
    if (revision === undefined)
      throw new OverlayError('announce', 'the lease of this host has just changed in etcd', 'try again')
    this.#ledger.noted(prefixName(prefix), revision)
    return revision
  }

  #lease(what: string): Lease {
    const { state } = this.keeper
    if (state.kind === 'held') return state.lease
    const reason = `this host has no lease now (${state.kind})`
    throw new OverlayError(what, reason, 'see why: overlayctl lease')
  }

  #logWithdrawal(text: string, why: string): void {
    this.log.info(`prefixes: ${text} is withdrawn: ${why}`, { kind: 'prefix-withdrawn', about: [text] })
  }
}

/** Further subnets overlap no other claim, so that their priority decides nothing. */
const FURTHER = { priority: DEFAULT_PRIORITY, until: undefined, via: undefined, further: true } as const

const isFurther = (code: string, text: string): OverlayError =>
  new OverlayError(
    code,
    `${text} is a further subnet of this host`,
    'to give it back when nothing uses it: overlayctl lease remove',
  )

/** Why a further subnet of this host is another host's. */
export const describeRival = ({ host, announcement }: PrefixClaim): string =>
  `${host} has taken ${formatPrefix(announcement.prefix)} meanwhile`
