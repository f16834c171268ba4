/**
 * One watch on one stream. The library's own Watcher is not used. After a cut it resumes behind the current
 * revision of the store, which loses the events that it had not delivered yet. It also ends without an error
 * when its revision was compacted.
 */
import type { Revision } from '../../model/lease'
import { CALL_DEADLINE_MS, type EtcdCalls } from '../client/client'
import { grpcError } from '../client/errors'
import { watchBytes } from '../client/raw-calls'
import type { Keys } from '../codec/keys'
import { readWatchAnswer, type WatchAnswer } from '../codec/wire'

export interface WatchHandlers {
  /** The watch is created. Throwing ends it. */
  readonly created: (answer: WatchAnswer) => void
  /**
   * Events, in order; none for a progress notification. An etcd revision never spans two answers. Throwing
   * ends the watch.
   */
  readonly answer: (answer: WatchAnswer) => void
}

/**
 * Watches until something breaks.
 * @param from first revision wanted, included
 * @returns never
 * @throws {EtcdError} `etcd-compacted` when the history no longer reaches back to `from`; or the signal's
 * reason
 */
export async function watch(
  client: EtcdCalls,
  { range }: Keys,
  from: Revision,
  handlers: WatchHandlers,
  signal: AbortSignal,
): Promise<never> {
  const { stream, release, failed } = await client.openStream('watch the leases', watchBytes, signal)
  let timer: NodeJS.Timeout | undefined
  try {
    signal.throwIfAborted()
    return await new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true })
      stream.on('error', (cause) => reject(failed(cause)))
      stream.on('end', () => reject(failed(grpcError(14, 'the stream ended'))))
      stream.on('data', (bytes) => {
        try {
          const answer = readWatchAnswer(bytes)
          if (answer.canceled) throw cancellation(answer)
          if (answer.created) clearTimeout(timer)
          handlers[answer.created ? 'created' : 'answer'](answer)
        } catch (cause) {
          reject(failed(cause))
        }
      })
      timer = setTimeout(
        () => reject(failed(grpcError(4, `no watch within ${CALL_DEADLINE_MS / 1000} s`))),
        CALL_DEADLINE_MS,
      )
      stream.write({
        create_request: {
          key: Buffer.from(range.start),
          range_end: Buffer.from(range.end),
          start_revision: String(from),
          progress_notify: true,
        },
      })
    })
  } finally {
    clearTimeout(timer)
    release()
    // Ended first, for the library takes an error on a writable stream as a failure of the member.
    stream.end()
    stream.cancel()
  }
}

function cancellation({ compactRevision, cancelReason }: WatchAnswer): Error {
  if (compactRevision === 0n)
    return new Error(`the watch was cancelled: ${cancelReason || 'no reason given'}`)
  return grpcError(11, `the revision to go on from is compacted, the history begins at ${compactRevision}`)
}
