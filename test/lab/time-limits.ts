/** The time limits of tests and hooks, for jest-circus. */
import type { addEventHandler } from 'jest-circus'
import { patience } from './patience'

/**
 * Each wait has a limit of its own, which grows while the machine is busy. That of the test is for all else
 * that hangs, so no test that waits as long as its waits allow may reach it.
 */
const HEADROOM = 2

/**
 * Gives each test and hook a limit by the machine's load when the test or hook begins. A file sets its limit
 * when it is loaded: before all others, as the first files of a suite, the machine may have been idle.
 */
export function timeLimits(): Parameters<typeof addEventHandler>[0] {
  /** The limit of the file, in milliseconds on an idle machine. */
  let limit = 0
  return (event, state) => {
    // Before, jest-circus has taken the limit of `jest.setTimeout`, and after, it reads the one set here.
    if (event.name === 'run_start') limit = state.testTimeout / patience()
    else if (event.name === 'test_fn_start' || event.name === 'hook_start')
      state.testTimeout = Math.ceil(limit * patience() * HEADROOM)
  }
}
