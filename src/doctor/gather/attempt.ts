/** Reads a fact; what this user may not read is told apart from what cannot be read. */

import { NO_RIGHTS } from '../../judge/facts'
import { describeError, isOverlayError, systemErrorCode } from '../../model/errors'
import { failed, found, problemOf, type Result } from '../../model/result'

/** Errors of the system, and of an OverlayError, that say that this user may not. */
const DENIALS: ReadonlySet<string> = new Set(['EACCES', 'EPERM', 'ping-denied', 'no-net-admin'])

/** As `attempt`, with the code {@link NO_RIGHTS} where this user has no right to it. */
export async function attemptAsUser<T>(part: string, read: () => T | Promise<T>): Promise<Result<T>> {
  try {
    return found(await read())
  } catch (error) {
    const problem = problemOf(part, error)
    const cause = systemErrorCode(isOverlayError(error) ? error.cause : error) ?? ''
    return failed(
      DENIALS.has(problem.code) || DENIALS.has(cause)
        ? { part, code: NO_RIGHTS, text: describeError(error) }
        : problem,
    )
  }
}
