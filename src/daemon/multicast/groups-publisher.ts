/**
 * Announces in etcd which multicast groups this host wants of the other hosts, for as long as it knows them
 * all. The announcement is bound to an etcd lease of its own with a short life: a host that is cut off, or
 * whose daemon ends, soon counts as one that announces nothing, and is sent all groups.
 */
import { EtcdError } from '../../etcd/client/errors'
import type { Registry } from '../../etcd/registry'
import { MdbSocket } from '../../kernel/bridges/mdb'
import type { Kernel, KernelChange } from '../../kernel/kernel'
import type { Family } from '../../model/address'
import type { BackoffBounds } from '../../model/backoff'
import { describeError, OverlayError } from '../../model/errors'
import type { Lease, Revision } from '../../model/lease'
import { GROUPS_TTL_SECONDS, type GroupsEntry, type HostGroups } from '../../model/multicast'
import {
  afterReport,
  type GroupsSession,
  NO_SESSION,
  renewalOf,
  valueInEtcd,
} from '../../plan/multicast/groups-session'
import { GroupLearner, type Learnt } from '../../plan/multicast/learn-groups'
import { Publication } from '../../plan/multicast/publication'
import { Loop, type Next } from '../loop/loop'
import type { Logger } from '../tell/logger'

/** The inputs that the publisher reads in each pass. */
export interface PublisherView {
  /** Our lease and the VNI of multicast; `undefined` where this host announces nothing. */
  own(): { readonly lease: Lease; readonly vni: number } | undefined
  /** Whether this host knows only what an earlier run remembers: the publisher does not ask etcd then. */
  isRemembered(): boolean
  /** Indexes of the bridges that take part. */
  bridges(): readonly number[]
  /** The value in etcd under our name, as the watch reported it last. */
  heard(lease: Lease): GroupsEntry | undefined
}

/** The publisher's part of the status. */
export interface PublisherSummary {
  /** The value in etcd. */
  readonly said: HostGroups | undefined
  /** Why the groups of a family are not announced. */
  readonly why: Readonly<Partial<Record<Family, string>>>
}

/** All times in milliseconds. Between two passes: nothing notifies that a querier has gone. */
const PERIOD = 10_000
/** Joins of one container cause one pass. */
const SETTLE = 50
const RENEW = (GROUPS_TTL_SECONDS * 1000) / 3
/** After a long absence of etcd the other hosts wait fifteen seconds for new announcements. */
const RETRY: BackoffBounds = { first: 200, most: 5000 }

export class GroupsPublisher {
  readonly #loop: Loop
  readonly #learner = new GroupLearner()
  readonly #publication = new Publication()
  #kernel: MdbSocket | undefined
  #session: GroupsSession = NO_SESSION
  /** The revision at which we last deleted our value. */
  #takenBackAt = 0n as Revision
  #learnt: Learnt | undefined
  /** Why less is announced than is known. */
  #complaint: string | undefined

  constructor(
    private readonly kernel: Kernel,
    private readonly registry: Registry,
    private readonly view: PublisherView,
    private readonly log: Logger,
  ) {
    this.#loop = new Loop(
      {
        name: 'multicast',
        retry: RETRY,
        settle: SETTLE,
        pass: (signal) => this.#pass(signal),
        describe: (error) =>
          `groups cannot be announced, so this host will receive all multicast: ${describeError(error)}`,
        failed: (problem, before) => {
          if (before === undefined)
            log.warn(`multicast: ${problem}; trying again`, { kind: 'multicast-problem' })
        },
        recovered: () => log.info('multicast: groups are announced again'),
      },
      log,
    )
    kernel.onChange((change) => this.#kernelChanged(change))
  }

  /** Asks for a pass soon, which reads this host's bridges and compares them with etcd. */
  wake(): void {
    this.#loop.wake()
  }

  /** Asks for a pass if the watch has reported another value of this host than we wrote. */
  heard(): void {
    const own = this.view.own()
    const session = this.#session
    const written = session.kind === 'written' ? session.written.revision : undefined
    const isKnown =
      own !== undefined && this.#learnt !== undefined && this.view.heard(own.lease)?.modRevision === written
    if (!isKnown) this.wake()
  }

  /** Why this host cannot announce its groups, and so is sent all; `undefined` when all is well. */
  get problem(): string | undefined {
    return this.#loop.problem
  }

  get summary(): PublisherSummary {
    const session = this.#session
    const said = session.kind === 'written' ? session.written.value : undefined
    return { said, why: { ...fromAll(this.#complaint), ...this.#learnt?.why } }
  }

  /** Runs until the signal fires. The announcement is not taken back at the end: its etcd lease expires. */
  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener('abort', () => this.#kernel?.close(), { once: true })
    await this.#loop.run(signal)
  }

  async #pass(signal: AbortSignal): Promise<Next> {
    const now = performance.now()
    const own = this.view.own()
    if (this.view.isRemembered()) return { due: now + PERIOD }
    if (own === undefined) {
      this.#learnt = undefined
      this.#setComplaint(undefined)
      await this.#giveLeaseBack(signal)
      return { due: now + PERIOD }
    }
    const { lease, vni } = own
    const seen = await (await this.#open()).look(this.view.bridges(), signal)
    const learnt = this.#learner.look(seen, now)
    this.#learnt = learnt
    this.#publication.take(learnt, now)
    const reported = this.view.heard(lease)
    this.#session = afterReport(this.#session, reported, now)
    const step = this.#publication.next(valueInEtcd(this.#session, reported, this.#takenBackAt), vni, now)
    this.#setComplaint(this.#publication.problem(now))
    if (step.kind === 'write') await this.#write(lease, step.value, signal)
    else if (step.kind === 'withdraw') await this.#takeBack(lease, signal)
    const isExpired = renewalOf(this.#session) <= performance.now() && !(await this.#renew(signal))
    // Announced anew at once.
    if (isExpired) return { due: now }
    const stepDue = step.kind === 'wait' ? step.due : Number.POSITIVE_INFINITY
    return { due: Math.min(now + PERIOD, stepDue, learnt.due, renewalOf(this.#session)) }
  }

  async #open(): Promise<MdbSocket> {
    const changed = (bridge: number): void => {
      if (this.view.bridges().includes(bridge)) this.wake()
    }
    const report = (error: Error): void => {
      this.log.warn(`multicast: ${describeError(error)}`)
      this.wake()
    }
    this.#kernel ??= await MdbSocket.open(this.kernel, changed, report)
    return this.#kernel
  }

  async #write(own: Lease, value: HostGroups, signal: AbortSignal): Promise<void> {
    try {
      const { etcdLease, renewAt } = await this.#grant(signal)
      const revision = ifOurs(await this.registry.groups.put(own, value, etcdLease, signal))
      const written = { value, revision, at: performance.now(), isReported: false }
      this.#session = { kind: 'written', etcdLease, renewAt, written }
    } catch (error) {
      // The etcd lease may have expired.
      if (error instanceof EtcdError && error.code === 'etcd-failed') this.#session = NO_SESSION
      throw error
    }
    this.#publication.wrote(performance.now())
    this.log.debug(`multicast: announced ${value.groups.length} groups, of ${value.tells.join(' and ')}`)
  }

  /** @returns the session with an etcd lease, a new one if there was none */
  async #grant(signal: AbortSignal): Promise<Exclude<GroupsSession, { kind: 'none' }>> {
    if (this.#session.kind !== 'none') return this.#session
    const etcdLease = await this.registry.groups.grant(signal)
    const session = { kind: 'granted', etcdLease, renewAt: performance.now() + RENEW } as const
    this.#session = session
    return session
  }

  /** Deletes the value in our place, also one that another program wrote. */
  async #takeBack(own: Lease, signal: AbortSignal): Promise<void> {
    this.#takenBackAt = ifOurs(await this.registry.groups.delete(own, signal))
    await this.#giveLeaseBack(signal)
    this.log.debug('multicast: announced no groups')
  }

  async #giveLeaseBack(signal: AbortSignal): Promise<void> {
    if (this.#session.kind === 'none') return
    await this.registry.etcdLeases.revoke(this.#session.etcdLease, signal)
    this.#session = NO_SESSION
  }

  /** @returns false when the etcd lease has expired, and the value with it */
  async #renew(signal: AbortSignal): Promise<boolean> {
    if (this.#session.kind === 'none') return true
    const answer = await this.registry.etcdLeases.keepAlive(this.#session.etcdLease, signal)
    const renewAt = performance.now() + RENEW * (0.75 + 0.25 * Math.random())
    this.#session = answer === 'expired' ? NO_SESSION : { ...this.#session, renewAt }
    return answer !== 'expired'
  }

  #setComplaint(complaint: string | undefined): void {
    if (complaint !== undefined && this.#complaint === undefined)
      this.log.warn(`multicast: ${complaint}`, { kind: 'multicast-problem' })
    this.#complaint = complaint
  }

  #kernelChanged(change: KernelChange): void {
    const isOurs =
      change.kind === 'overrun' ||
      (change.kind === 'link' &&
        change.linkIndex !== undefined &&
        this.view.bridges().includes(change.linkIndex))
    if (isOurs) this.wake()
  }
}

const fromAll = (why: string | undefined): PublisherSummary['why'] =>
  why === undefined ? {} : { IPv4: why, IPv6: why }

/** @throws {OverlayError} when our lease has changed, which the watch is about to report */
function ifOurs(revision: Revision | undefined): Revision {
  if (revision !== undefined) return revision
  throw new OverlayError('groups-not-said', 'the lease of this host has just changed in etcd')
}
