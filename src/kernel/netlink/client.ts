/**
 * Requests and answers over one socket: batches of changes, single requests, and dumps. Only one exchange
 * runs at a time, so an answer belongs to it or is stale; sequence numbers tell them apart. An aborted signal
 * takes effect between two exchanges, never within one, so the effect of a send is always known.
 */
import { constants } from 'node:os'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { MessageCursor, MessageWriter } from './bytes'
import { NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR } from './constants'
import { DumpInterruptedError, NetlinkClosedError, NetlinkError, NetlinkTimeoutError } from './errors'
import { readDone, readError } from './replies'
import type { NetlinkHandlers, NetlinkSocket } from './socket'

/**
 * Messages per send. The kernel processes them within the system call, so this limits how long the event loop
 * is blocked (about 1 ms). Larger batches gain nothing.
 */
const BATCH_SIZE = 64
/**
 * Milliseconds to wait for an answer. Changes are done before the send returns, so only a malformed message
 * causes a timeout.
 */
const DEADLINE = 5000
const DUMP_ATTEMPTS = 3
/**
 * Exchanges in one turn of the event loop whose answers are read at once; a peer that joins takes two. The
 * next ones wait for the event loop, so that a long run of them keeps nobody else waiting.
 */
const MOST_AT_ONCE = 3

/** How to encode an item as a message, and how to describe it. */
export interface RequestFormat<T> {
  /** Appends exactly one message, with NLM_F_REQUEST. */
  encode(writer: MessageWriter, item: T): void
  /** The action as text that follows "cannot": `add route 10.5.1.0/24`. Called only after a failure. */
  describe(item: T): string
  /** The message holds a secret: our copies of its bytes are overwritten once the kernel has answered. */
  readonly isSecret?: true
}

export interface BatchFailure<T> {
  readonly item: T
  readonly error: NetlinkError
}

/** A request that is answered by messages. */
export interface Question<T> {
  /** The action as text that follows "cannot": `list routes`. */
  readonly attempted: string
  /** Appends exactly one message, with NLM_F_REQUEST; a dump's NLM_F_DUMP is added. */
  encode(writer: MessageWriter): void
  /** @returns undefined for an answer to ignore */
  decode(view: DataView, start: number, end: number): T | undefined
}

export interface ClientOptions {
  /** Milliseconds. */
  readonly deadline?: number
}

export class NetlinkClient {
  private readonly writer = new MessageWriter()
  private readonly deadline: number
  private socket: NetlinkSocket | undefined
  private sequence = 0
  private turn: Promise<unknown> = Promise.resolve()
  private pending: Pending | undefined
  /** Exchanges of this turn of the event loop whose answers were read at once. */
  private readAtOnce = 0
  /** Datagrams that are not read yet; the first one may be in progress. */
  private readonly received: Buffer[] = []

  private constructor(
    private readonly report: (error: Error) => void,
    options: ClientOptions,
  ) {
    this.deadline = options.deadline ?? DEADLINE
  }

  /**
   * @param connect opens the socket with the given handlers
   * @param report receives errors of the socket while no request is pending that could be rejected
   */
  static async open(
    connect: (handlers: NetlinkHandlers) => Promise<NetlinkSocket>,
    report: (error: Error) => void,
    options: ClientOptions = {},
  ): Promise<NetlinkClient> {
    const client = new NetlinkClient(report, options)
    client.socket = await connect({
      onDatagram: (datagram) => client.receive(datagram),
      onError: (error) => client.fail(error),
    })
    return client
  }

  /** Port id of the socket. Still known after it was closed. */
  get portId(): number {
    return this.socket?.portId ?? 0
  }

  /**
   * Applies changes in the given order, many per send. A refused change does not affect the others. Other
   * requests may run between two sends.
   * @returns the refused changes
   * @throws {NetlinkTimeoutError} if the kernel does not answer; the effect is unknown then
   * @throws the signal's reason
   */
  async batch<T>(
    items: readonly T[],
    format: RequestFormat<T>,
    signal?: AbortSignal,
  ): Promise<BatchFailure<T>[]> {
    const failures: BatchFailure<T>[] = []
    for (let from = 0; from < items.length; from += BATCH_SIZE) {
      // Timers and other sockets get a turn.
      if (from > 0) await nextTurn()
      const chunk = items.slice(from, from + BATCH_SIZE)
      await this.exclusively(signal, () => this.sendChunk(chunk, format, failures))
    }
    return failures
  }

  /**
   * Applies changes as one transaction, in one send: all of them or none.
   * @param frame the messages before the first and after the last one
   * @throws {NetlinkError} for the first refused change; nothing was changed then
   */
  async transaction<T>(
    items: readonly T[],
    format: RequestFormat<T>,
    frame: { begin(writer: MessageWriter): void; end(writer: MessageWriter): void; readonly what: string },
    signal?: AbortSignal,
  ): Promise<void> {
    await this.exclusively(signal, async () => {
      const { writer } = this
      writer.reset()
      frame.begin(writer)
      const first = this.nextSequence()
      writer.stamp(first, 0)
      for (const [index, item] of items.entries()) {
        format.encode(writer, item)
        // The acknowledgement is requested here because older kernels do not answer the final message of the
        // frame.
        writer.stamp(this.nextSequence(), index === items.length - 1 ? NLM_F_ACK : 0)
      }
      frame.end(writer)
      writer.stamp(this.nextSequence(), 0)
      let refusal: NetlinkError | undefined
      await this.exchange(writer.take(), frame.what, (cursor) => {
        const index = cursor.sequence - first - 1
        if (cursor.type !== NLMSG_ERROR || index < -1 || index >= items.length) return false
        const { errno, detail } = readError(cursor)
        const item = items[index]
        if (errno !== 0) {
          refusal ??= new NetlinkError(errno, item === undefined ? frame.what : format.describe(item), detail)
        }
        return index === items.length - 1
      })
      if (refusal !== undefined) throw refusal
    })
  }

  /**
   * Applies one change.
   * @throws {NetlinkError} if the kernel refuses
   */
  async change<T>(item: T, format: RequestFormat<T>, signal?: AbortSignal): Promise<void> {
    const [failure] = await this.batch([item], format, signal)
    if (failure !== undefined) throw failure.error
  }

  /**
   * Requests one object.
   * @throws {NetlinkError} ENODEV, ENOENT, ... if there is none
   */
  async get<T>(question: Question<T>, signal?: AbortSignal): Promise<T | undefined> {
    return this.exclusively(signal, async () => {
      let answer: T | undefined
      // The acknowledgement ends the exchange, with or without an answer before it.
      const [datagram, sequence] = this.encode(question, NLM_F_ACK)
      await this.exchange(datagram, question.attempted, (cursor) => {
        if (cursor.sequence !== sequence) return false
        if (cursor.type === NLMSG_ERROR) return throwRefusal(readError(cursor), question.attempted)
        answer = question.decode(cursor.view, cursor.start, cursor.end) ?? answer
        return false
      })
      return answer
    })
  }

  /**
   * Requests all objects of a kind. The dump is repeated if the kernel's tables changed meanwhile.
   * @throws {DumpInterruptedError} if they changed at every attempt
   */
  async dump<T>(question: Question<T>, signal?: AbortSignal): Promise<T[]> {
    return this.exclusively(signal, async () => {
      for (let attempt = 1; attempt <= DUMP_ATTEMPTS; attempt++) {
        const answers = await this.dumpOnce(question)
        if (answers !== undefined) return answers
        await nextTurn()
        signal?.throwIfAborted()
      }
      throw new DumpInterruptedError(question.attempted, DUMP_ATTEMPTS)
    })
  }

  /** Closes the socket and rejects a pending request. Idempotent. */
  close(): void {
    this.socket?.close()
    const pending = this.pending
    if (pending !== undefined) this.fail(new NetlinkClosedError(pending.attempted))
  }

  private async sendChunk<T>(
    chunk: readonly T[],
    format: RequestFormat<T>,
    failures: BatchFailure<T>[],
  ): Promise<void> {
    const first = this.sequence + 1
    const { writer } = this
    writer.reset()
    for (const [index, item] of chunk.entries()) {
      format.encode(writer, item)
      writer.stamp(this.nextSequence(), index === chunk.length - 1 ? NLM_F_ACK : 0)
    }
    const attempted =
      chunk.length === 1 && chunk[0] !== undefined ? format.describe(chunk[0]) : 'change the network'
    const datagram = writer.take()
    const accept = (cursor: MessageCursor): boolean => {
      const index = cursor.sequence - first
      const item = chunk[index]
      if (cursor.type !== NLMSG_ERROR || item === undefined) return false
      const { errno, detail } = readError(cursor)
      if (errno !== 0) failures.push({ item, error: new NetlinkError(errno, format.describe(item), detail) })
      // The kernel answers only failures and the last message (NLM_F_ACK), in order.
      return index === chunk.length - 1
    }
    try {
      await this.exchange(datagram, attempted, accept, this.reading())
    } finally {
      if (format.isSecret) {
        datagram.fill(0)
        writer.wipe()
      }
    }
  }

  /** How the answers to a change are read: see {@link MOST_AT_ONCE}. */
  private reading(): 'now' | undefined {
    if (this.readAtOnce === MOST_AT_ONCE) return undefined
    if (this.readAtOnce === 0) setImmediate(() => (this.readAtOnce = 0))
    this.readAtOnce += 1
    return 'now'
  }

  /** @returns undefined if the dump must be repeated */
  private async dumpOnce<T>(question: Question<T>): Promise<T[] | undefined> {
    const answers: T[] = []
    let interrupted = false
    let unreadable: unknown
    const [datagram, sequence] = this.encode(question, NLM_F_DUMP)
    await this.exchange(datagram, question.attempted, (cursor) => {
      if (cursor.sequence !== sequence) return false
      if ((cursor.flags & NLM_F_DUMP_INTR) !== 0) interrupted = true
      if (cursor.type === NLMSG_DONE) return throwRefusal(readDone(cursor), question.attempted)
      if (cursor.type === NLMSG_ERROR) {
        const verdict = readError(cursor)
        // EBUSY: an earlier dump that was given up is still being sent. It ends by itself.
        interrupted = verdict.errno === constants.errno.EBUSY
        return interrupted || throwRefusal(verdict, question.attempted)
      }
      try {
        const answer = question.decode(cursor.view, cursor.start, cursor.end)
        if (answer !== undefined) answers.push(answer)
      } catch (error) {
        // Read to the end nevertheless: the kernel starts no dump while another one is running.
        unreadable ??= error
      }
      return false
    })
    if (unreadable !== undefined) throw unreadable
    return interrupted ? undefined : answers
  }

  private encode<T>(question: Question<T>, flags: number): [datagram: Buffer, sequence: number] {
    const sequence = this.nextSequence()
    this.writer.reset()
    question.encode(this.writer)
    this.writer.stamp(sequence, flags)
    return [this.writer.take(), sequence]
  }

  private nextSequence(): number {
    // Never 0, which notifications carry. A batch across the wrap-around would need 2^32 requests: years at
    // any real rate.
    this.sequence = this.sequence === 0xffffffff ? 1 : this.sequence + 1
    return this.sequence
  }

  /** Runs after the exchanges before it have ended. */
  private exclusively<T>(signal: AbortSignal | undefined, run: () => Promise<T>): Promise<T> {
    const result = this.turn.then(() => {
      signal?.throwIfAborted()
      return run()
    })
    // A failure concerns the caller of this exchange, not the next one in the queue.
    this.turn = result.catch(() => undefined)
    return result
  }

  /**
   * Sends a datagram and passes messages to `accept` until that returns true. An exception in `accept`
   * rejects.
   * @param reading as for {@link NetlinkSocket.send}
   */
  private exchange(
    datagram: Buffer,
    attempted: string,
    accept: (cursor: MessageCursor) => boolean,
    reading?: 'now',
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined
      const settle = (finish: () => void): void => {
        if (this.pending !== pending) return
        this.pending = undefined
        clearTimeout(timer)
        finish()
      }
      const pending: Pending = {
        attempted,
        accept,
        resolve: () => settle(resolve),
        reject: (error) => settle(() => reject(error)),
      }
      this.pending = pending
      try {
        if (this.socket === undefined) throw new NetlinkClosedError(attempted)
        this.socket.send(datagram, reading)
      } catch (error) {
        pending.reject(error instanceof NetlinkClosedError ? new NetlinkClosedError(attempted) : error)
      }
      if (this.pending !== pending) return
      // After a suspend of the machine, the timer has expired and the answer is unread: read once more before
      // giving up.
      const expire = (): void => pending.reject(new NetlinkTimeoutError(attempted, this.deadline))
      timer = setTimeout(() => setImmediate(expire), this.deadline)
    })
  }

  /**
   * The library delivers up to 32 datagrams of a dump (16,000 messages) in one turn of the event loop. Each
   * is processed in its own turn.
   */
  private receive(datagram: Buffer): void {
    if (this.received.push(datagram) === 1) this.readNext()
  }

  private readNext(): void {
    const [datagram] = this.received
    if (datagram !== undefined) this.read(datagram)
    this.received.shift()
    if (this.received.length > 0) setImmediate(() => this.readNext())
  }

  private read(datagram: Buffer): void {
    const { pending } = this
    if (pending === undefined) return // A late answer to a request that was given up.
    try {
      const cursor = new MessageCursor(datagram)
      while (cursor.next()) {
        if (!pending.accept(cursor)) continue
        pending.resolve()
        return
      }
    } catch (error) {
      pending.reject(error)
    }
  }

  private fail(error: Error): void {
    if (this.pending === undefined) this.report(error)
    else this.pending.reject(error)
  }
}

interface Pending {
  readonly attempted: string
  readonly accept: (cursor: MessageCursor) => boolean
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

/** @returns true: the answer is complete. @throws {NetlinkError} for an errno */
function throwRefusal(verdict: { errno: number; detail: string | undefined }, attempted: string): true {
  if (verdict.errno !== 0) throw new NetlinkError(verdict.errno, attempted, verdict.detail)
  return true
}
