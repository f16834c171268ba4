/** Long work in pieces, so that whoever else waits for the event loop waits for milliseconds. */
import { setImmediate as nextTurn } from 'node:timers/promises'

/**
 * Has timers, sockets and requests take their turn.
 * @throws the signal's reason
 */
export async function giveWay(signal: AbortSignal): Promise<void> {
  await nextTurn()
  signal.throwIfAborted()
}

/**
 * Runs to the end, a piece in each turn of the event loop.
 * @throws the signal's reason; what was done until then stays
 */
export async function inTurns<T>(pieces: Generator<void, T>, signal: AbortSignal): Promise<T> {
  for (;;) {
    const { done, value } = pieces.next()
    if (done) return value
    await giveWay(signal)
  }
}
