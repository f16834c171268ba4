/** Lists the keys of one network, page by page, within bounds. */
import { performance } from 'node:perf_hooks'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { EtcdCalls } from '../client/client'
import { EtcdError, toEtcdError } from '../client/errors'
import { rangeBytes } from '../client/raw-calls'
import { type KeyRange, type Keys, keyText, placeOf, withoutGroups } from '../codec/keys'
import { type AnswerHeader, RangeAnswer } from '../codec/wire'
import { NEWEST, type ReadSnapshot, SnapshotBuilder } from './snapshot'

/** Which part of the network is read. */
export interface ListingOptions {
  /** Whether the groups of hosts are read in a network with that config. */
  readonly wantsGroups?: (config: string | undefined) => boolean
  /** Whether the last listing had many groups: one more RPC skips them when they are not wanted. */
  readonly hasManyGroups?: boolean
  readonly pageKeys?: number
  readonly bounds?: ListingBounds
}

/**
 * Bounds of one listing. A program that may write under the prefix must not be able to keep the listing from
 * ending, or to fill the memory of hosts.
 */
export interface ListingBounds {
  readonly pages: number
  readonly bytes: number
  readonly milliseconds: number
  /** Leases, including unreadable ones that name a subnet: each is kept. */
  readonly leases: number
}

/** Keys to a page: 10,000 leases are one RPC, and 16,384 about 7 MB. */
const PAGE_KEYS = 16_384
/** For a page of that size on a slow link. */
const PAGE_DEADLINE_MS = 5000
/** A network of 250,000 hosts has 110 MB. Keys that are no leases count for pages, bytes and time only. */
const BOUNDS: ListingBounds = { pages: 1024, bytes: 1024 ** 3, milliseconds: 60_000, leases: 262_144 }
/** Keys that are read in one turn of the event loop: a few milliseconds of work. */
const SLICE = 500
/** The same for long keys and values. */
const SLICE_BYTES = 256 * 1024
/** Compactions a reading may meet before it gives up; they are minutes apart, a page takes milliseconds. */
const ATTEMPTS = 3
/**
 * Reads everything under the prefix: one linearizable Range, and more of the same revision when there are
 * more keys than fit a page.
 * @throws {EtcdError} also when the listing reaches a bound, or does not advance; or the signal's reason
 */
export async function readSnapshot(
  client: EtcdCalls,
  keys: Keys,
  signal: AbortSignal,
  options: ListingOptions = {},
): Promise<ReadSnapshot> {
  const { bounds = BOUNDS } = options
  const deadline = performance.now() + bounds.milliseconds
  for (let attempt = 1; ; attempt++) {
    try {
      return await new Listing(client, keys, options, deadline, signal).read()
    } catch (error) {
      if (!(error instanceof EtcdError) || error.code !== 'etcd-compacted' || attempt === ATTEMPTS)
        throw error
    }
  }
}

/** The text of grpc-js for an answer above the limit that we set. */
const TOO_LARGE = 'Received message larger than max'
const SHRINK = 8

const DOING = 'read the leases'
const NO_PAGE: AnswerHeader = { revision: NEWEST, clusterId: '0' }
/** The next possible key is the last one with this appended. */
const NULL_BYTE = Buffer.alloc(1)

class Listing {
  readonly #builder: SnapshotBuilder
  readonly #bounds: ListingBounds
  #pageKeys: number
  #pages = 0
  #bytes = 0
  /** Of the first page. All other pages are read at its revision. */
  #header: AnswerHeader | undefined
  /** The key that was read last. */
  #last: Buffer | undefined

  constructor(
    private readonly client: EtcdCalls,
    private readonly keys: Keys,
    private readonly options: ListingOptions,
    /** Monotonic milliseconds. */
    private readonly deadline: number,
    private readonly signal: AbortSignal,
  ) {
    const { bounds = BOUNDS, pageKeys = PAGE_KEYS, wantsGroups = () => true } = options
    this.#bounds = bounds
    this.#pageKeys = pageKeys
    this.#builder = new SnapshotBuilder(keys, wantsGroups)
  }

  async read(): Promise<ReadSnapshot> {
    const [before, after] = withoutGroups(this.keys)
    if (this.options.hasManyGroups) {
      await this.#readRange(before)
      await this.#readRange(this.#builder.wantsGroups ? { ...after, start: before.end } : after)
    } else await this.#readRange(this.keys.range)
    const { revision, clusterId } = this.#header ?? NO_PAGE
    return this.#builder.build(revision, clusterId)
  }

  async #readRange(range: KeyRange): Promise<void> {
    const end = Buffer.from(range.end)
    const behindGroups = Buffer.from(withoutGroups(this.keys)[1].start)
    let from = Buffer.from(range.start)
    this.#last = undefined
    for (let more = true; more; ) {
      const page = await this.#readPage(from, end)
      if (page === undefined) continue
      this.#header ??= page.header
      more = page.more
      const last: Buffer | undefined = this.#last
      if (more && last === undefined) throw this.#failed('says that there are more keys, and names none')
      if (!more || last === undefined) return
      from = Buffer.concat([last, NULL_BYTE])
      const isAmongGroups = placeOf(this.keys, last)?.kind === 'groups'
      if (isAmongGroups && !this.#builder.wantsGroups && behindGroups.compare(end) < 0) {
        from = behindGroups
        this.#builder.passGroups()
      }
    }
  }

  /** @returns a page that was taken in; `undefined` when a smaller one has to be asked for */
  async #readPage(from: Buffer, end: Buffer): Promise<RangeAnswer | undefined> {
    this.#check()
    const left = Math.max(1, this.deadline - performance.now())
    const request = {
      key: from,
      range_end: end,
      limit: this.#pageKeys,
      revision: String((this.#header ?? NO_PAGE).revision),
    }
    let bytes: Buffer
    try {
      bytes = await this.client.call(
        DOING,
        (etcd, options) => rangeBytes(etcd, request, options),
        this.signal,
        Math.min(PAGE_DEADLINE_MS, left),
      )
    } catch (error) {
      // A page of hosts with hundreds of multicast groups each, or of long keys of other programs.
      const isTooLarge = error instanceof EtcdError && error.message.includes(TOO_LARGE)
      if (!isTooLarge || this.#pageKeys === 1) throw error
      this.#pageKeys = Math.ceil(this.#pageKeys / SHRINK)
      return undefined
    }
    this.#pages += 1
    this.#bytes += bytes.length
    const page = new RangeAnswer(bytes)
    await this.#takeIn(page, from, end)
    return page
  }

  /** Reads a page in slices: notifications, timers and requests have a turn between two of them. */
  async #takeIn(page: RangeAnswer, from: Buffer, end: Buffer): Promise<void> {
    let count = 0
    let sliceBytes = 0
    let last: Buffer | undefined
    try {
      for (const keyValue of page.keyValues()) {
        const { key, value } = keyValue
        const isNext = last === undefined ? key.compare(from) >= 0 : key.compare(last) > 0
        if (!isNext || key.compare(end) >= 0)
          throw this.#failed(`names the key ${keyText(key)} after ${keyText(last ?? from)}`)
        last = key
        this.#builder.add(keyValue)
        if (this.#builder.leases > this.#bounds.leases)
          throw this.#over(`more than ${this.#bounds.leases} leases`)
        count += 1
        sliceBytes += key.length + value.length
        if (count % SLICE > 0 && sliceBytes < SLICE_BYTES) continue
        sliceBytes = 0
        await nextTurn()
        this.signal.throwIfAborted()
      }
    } catch (cause) {
      this.signal.throwIfAborted()
      throw toEtcdError(cause, { doing: DOING, endpoint: this.client.endpoint })
    }
    // A copy, so that the page can be freed.
    this.#last = last && Buffer.from(last)
  }

  #check(): void {
    const { pages, bytes, milliseconds } = this.#bounds
    if (this.#pages >= pages) throw this.#over(`more than ${pages} pages of an answer`)
    if (this.#bytes >= bytes) throw this.#over(`more than ${bytes} bytes`)
    if (performance.now() >= this.deadline)
      throw this.#over(`it takes more than ${milliseconds / 1000} s to list`)
  }

  #failed(what: string): EtcdError {
    return new EtcdError(
      'etcd-failed',
      `cannot ${DOING}: etcd at ${this.client.endpoint} ${what}: it does not list its keys in their order`,
      { fix: 'look whether something that is no etcd stands between (a proxy, a load balancer)' },
    )
  }

  #over(what: string): EtcdError {
    const { start } = this.keys.range
    return new EtcdError(
      'etcd-failed',
      `cannot ${DOING}: ${start} holds more than can be a network's: ${
        what
      }; it was given up after ${this.#pages} pages of ${this.#bytes} bytes`,
      { fix: `look what fills it, and delete that: etcdctl get ${start} --prefix --keys-only | head` },
    )
  }
}
