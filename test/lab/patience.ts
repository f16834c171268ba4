/**
 * How much slower this machine is than an idle machine of the usual speed. All deadlines of tests are
 * multiplied by this factor, so that a slow machine does not fail a test. The speed is measured once, before
 * the first test. The load is read each time because the tests themselves change it.
 */
import { availableParallelism, loadavg } from 'node:os'

/** Milliseconds that the measured work takes on an idle machine of the usual speed. */
const USUAL = 90
/** Highest factor. */
const MOST = 20
/** Environment variable with the measured factor, for child processes. */
const VARIABLE = 'OVERLAYD_TEST_PATIENCE'

/**
 * Measures the duration of 40 million rounds of xorshift, unless a parent process has done so (see
 * {@link VARIABLE}).
 */
export function measurePatience(): void {
  if (process.env[VARIABLE] !== undefined) return
  const started = performance.now()
  let state = 1
  for (let i = 0; i < 40_000_000; i++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
  }
  // Uses the result, so that the compiler cannot drop the loop.
  if (state === 0) throw new Error('xorshift never reaches 0')
  process.env[VARIABLE] = String((performance.now() - started) / USUAL)
}

/**
 * The product of both: a slow processor gives each of its processes a part of its time.
 *
 * @returns 1 on an idle machine of the usual speed or faster, more on a slower one, at most {@link MOST}
 */
export function patience(): number {
  measurePatience()
  const slowness = Math.max(1, Number(process.env[VARIABLE]))
  const loadPerCpu = Math.max(1, (loadavg()[0] ?? 0) / availableParallelism())
  return Math.min(MOST, slowness * loadPerCpu)
}

/**
 * @param milliseconds deadline for an idle machine of the usual speed
 * @returns milliseconds for this machine and its present load
 */
export const patient = (milliseconds: number): number => Math.ceil(milliseconds * patience())

/** The same in whole seconds, for options of programs. */
export const patientSeconds = (seconds: number): number => Math.ceil(seconds * patience())
