/** Splits long work into pieces, so that other users of the event loop wait for milliseconds at most. */
import { setImmediate as nextTurn } from 'node:timers/promises'

/**
 * Lets timers, sockets and requests run.
 * @throws the signal's reason
 */
export async function giveWay(signal: AbortSignal): Promise<void> {
  await nextTurn()
  signal.throwIfAborted()
}

/**
 * Runs a generator to its end, one piece per turn of the event loop.
 * @throws the signal's reason; the pieces done until then stay done
 */
export async function inTurns<T>(pieces: Generator<void, T>, signal: AbortSignal): Promise<T> {
  for (;;) {
    const { done, value } = pieces.next()
    if (done) return value
    await giveWay(signal)
  }
}
