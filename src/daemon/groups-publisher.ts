/**
 * Says in etcd which multicast groups this host wants of others, for as long as it knows. What is said is bound to an etcd lease of its own, which
 * is kept alive: a host that is cut off, or whose daemon ends, is soon taken for one that says nothing, and gets everything.
 */
import { performance } from 'node:perf_hooks'
import { EtcdError } from '../etcd/errors'
import type { Registry } from '../etcd/registry'
import type { Kernel, KernelChange } from '../kernel/kernel'
import { GroupsKernel } from '../kernel/mdb'
import type { Family } from '../model/address'
import { type BackoffBounds, backoffDelay } from '../model/backoff'
import { describeError, OverlayError } from '../model/errors'
import type { EtcdLeaseId, Lease, Revision } from '../model/lease'
import { GROUPS_TTL_SECONDS, type GroupsEntry, type HostGroups } from '../model/multicast'
import { GroupLearner, type Learnt } from '../plan/learn-groups'
import { Publication } from '../plan/publication'
import type { Logger } from './logger'
import { Waker } from './waker'

/** What the publisher asks for again and again. */
export interface PublisherView {
  /** Our lease and the VNI of multicast; `undefined` where nothing is to be said. */
  own(): { readonly lease: Lease; readonly vni: number } | undefined
  /** Whether all that is known is what an earlier run remembers: then nothing is asked of etcd. */
  isRemembered(): boolean
  /** Indexes of the bridges that take part. */
  bridges(): readonly number[]
  /** What etcd has under our name, as it was heard last. */
  heard(lease: Lease): GroupsEntry | undefined
}

/** How it stands, for the status. */
export interface PublisherSummary {
  /** What is in etcd. */
  readonly said: HostGroups | undefined
  /** Why a family is not told. */
  readonly why: Readonly<Partial<Record<Family, string>>>
}

/** All times in milliseconds. Between two looks: a querier that goes is told by nobody. */
const PERIOD = 10_000
/** Joins of one container come together. */
const SETTLE = 50
const RENEW = (GROUPS_TTL_SECONDS * 1000) / 3
/** After which what was written has been heard, if it is still there. */
const HEARD_WITHIN = 10_000
/** Others wait ten seconds, after etcd was away for long, for what is said anew. */
const RETRY: BackoffBounds = { first: 200, most: 5000 }

interface Written {
  readonly value: HostGroups
  readonly revision: Revision
  readonly at: number
  isHeard: boolean
}

/** Stands for what someone else has written in our place, or an earlier run: it is not bound to our etcd lease. */
const FOREIGN: HostGroups = { vni: 0, tells: [], groups: [] }

export class GroupsPublisher {
  readonly #waker = new Waker()
  readonly #learner = new GroupLearner()
  readonly #publication = new Publication()
  #kernel: GroupsKernel | undefined
  #etcdLease: EtcdLeaseId | undefined
  #written: Written | undefined
  /** What is heard up to this revision is of before we took it back. */
  #takenBackAt = 0n as Revision
  #learnt: Learnt | undefined
  #due = 0
  #renewAt = Number.POSITIVE_INFINITY
  #failures = 0
  #problem: string | undefined
  /** Why less is told than is known. */
  #complaint: string | undefined

  constructor(
    private readonly kernel: Kernel,
    private readonly registry: Registry,
    private readonly view: PublisherView,
    private readonly log: Logger,
  ) {
    kernel.onChange((change) => this.#kernelChanged(change))
  }

  /** Has this host's bridges looked at, and what is in etcd compared, soon. */
  wake(): void {
    if (this.#failures > 0) return
    this.#due = Math.min(this.#due, performance.now() + SETTLE)
    this.#waker.wake()
  }

  /** Takes in that etcd may have something else of this host. */
  heard(): void {
    const own = this.view.own()
    const isKnown =
      own !== undefined &&
      this.#learnt !== undefined &&
      this.view.heard(own.lease)?.modRevision === this.#written?.revision
    if (!isKnown) this.wake()
  }

  /** Why nothing can be told, so that this host gets all groups; `undefined` when all is well. */
  get problem(): string | undefined {
    return this.#problem
  }

  get summary(): PublisherSummary {
    return { said: this.#written?.value, why: { ...fromAll(this.#complaint), ...this.#learnt?.why } }
  }

  /** Runs until the signal fires. Ending takes nothing back: that is what the etcd lease is for. */
  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener('abort', () => this.#kernel?.close(), { once: true })
    while (!signal.aborted) {
      await this.#waker.sleep(this.#due - performance.now(), signal)
      if (signal.aborted || performance.now() < this.#due) continue
      try {
        await this.#pass(signal)
        if (this.#problem !== undefined) this.log.info('multicast: telling groups works again')
        this.#problem = undefined
        this.#failures = 0
      } catch (error) {
        if (signal.aborted) return
        if (!(error instanceof OverlayError)) throw error
        this.#noteFailure(error)
      }
    }
  }

  #noteFailure(error: OverlayError): void {
    const problem = `this host gets all groups soon: ${describeError(error)}`
    if (this.#problem === undefined) {
      this.log.warn(`multicast: ${problem}; trying again`, { kind: 'multicast-problem' })
    }
    this.#problem = problem
    this.#failures++
    this.#due = performance.now() + backoffDelay(this.#failures, RETRY, Math.random)
  }

  async #pass(signal: AbortSignal): Promise<void> {
    const now = performance.now()
    this.#due = now + PERIOD
    const own = this.view.own()
    if (this.view.isRemembered()) return
    if (own === undefined) {
      this.#learnt = undefined
      await this.#giveLeaseBack(signal)
      return
    }
    const { lease, vni } = own
    const seen = await (await this.#open()).look(this.view.bridges(), signal)
    const learnt = this.#learner.look(seen, now)
    this.#learnt = learnt
    this.#publication.take(learnt, now)
    const step = this.#publication.next(this.#said(lease, now), vni, now)
    this.#noteComplaint(this.#publication.problem(now))
    if (step.kind === 'write') await this.#write(lease, step.value, signal)
    else if (step.kind === 'withdraw') await this.#takeBack(lease, signal)
    else this.#due = Math.min(this.#due, step.due)
    if (this.#renewAt <= performance.now()) await this.#renew(signal)
    this.#due = Math.min(this.#due, learnt.due, this.#renewAt)
  }

  async #open(): Promise<GroupsKernel> {
    const changed = (bridge: number): void => {
      if (this.view.bridges().includes(bridge)) this.wake()
    }
    const report = (error: Error): void => {
      this.log.warn(`multicast: ${describeError(error)}`)
      this.wake()
    }
    this.#kernel ??= await GroupsKernel.open(this.kernel, changed, report)
    return this.#kernel
  }

  /** What etcd has of us, as far as it can be known: our own write comes before the word of it. */
  #said(lease: Lease, now: number): HostGroups | undefined {
    const heard = this.view.heard(lease)
    const written = this.#written
    if (written !== undefined && heard?.modRevision === written.revision) written.isHeard = true
    const isOurs =
      written !== undefined &&
      (heard?.modRevision === written.revision ||
        ((heard === undefined || heard.modRevision < written.revision) &&
          !written.isHeard &&
          now - written.at < HEARD_WITHIN))
    if (isOurs) return written.value
    this.#written = undefined
    return heard === undefined || heard.modRevision <= this.#takenBackAt ? undefined : FOREIGN
  }

  async #write(own: Lease, value: HostGroups, signal: AbortSignal): Promise<void> {
    try {
      if (this.#etcdLease === undefined) {
        this.#etcdLease = await this.registry.grantGroupsLease(signal)
        this.#renewAt = performance.now() + RENEW
      }
      const revision = ifOurs(await this.registry.putGroups(own, value, this.#etcdLease, signal))
      this.#written = { value, revision, at: performance.now(), isHeard: false }
    } catch (error) {
      // It may have ended.
      if (error instanceof EtcdError && error.code === 'etcd-failed') this.#forgetLease()
      throw error
    }
    this.#publication.wrote(performance.now())
    this.log.debug(
      `multicast: this host wants ${value.groups.length} groups, and tells ${value.tells.join(' and ')}`,
    )
  }

  /** Has etcd say nothing of this host, whoever wrote it. */
  async #takeBack(own: Lease, signal: AbortSignal): Promise<void> {
    this.#takenBackAt = ifOurs(await this.registry.deleteGroups(own, signal))
    await this.#giveLeaseBack(signal)
    this.log.debug('multicast: this host tells no groups')
  }

  async #giveLeaseBack(signal: AbortSignal): Promise<void> {
    if (this.#etcdLease === undefined) return
    await this.registry.revoke(this.#etcdLease, signal)
    this.#forgetLease()
  }

  async #renew(signal: AbortSignal): Promise<void> {
    if (this.#etcdLease === undefined) return
    const answer = await this.registry.keepAlive(this.#etcdLease, signal)
    this.#renewAt = performance.now() + RENEW * (0.75 + 0.25 * Math.random())
    if (answer !== 'expired') return
    this.#forgetLease()
    this.#due = 0
  }

  #forgetLease(): void {
    this.#etcdLease = undefined
    this.#written = undefined
    this.#renewAt = Number.POSITIVE_INFINITY
  }

  #noteComplaint(complaint: string | undefined): void {
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

/** @throws {OverlayError} where our lease has changed, of which the watch is about to tell */
function ifOurs(revision: Revision | undefined): Revision {
  if (revision !== undefined) return revision
  throw new OverlayError('groups-not-said', 'the lease of this host has just changed in etcd')
}
