import { isNativeError } from 'node:util/types'

/** Marks errors for people. The symbol is the same in all bundles of the package; their classes are not. */
const OURS = Symbol.for('overlayd.OverlayError')

/**
 * An error for people. `message` names the thing, its value and what is wrong with it; `fix` says what to do.
 * `code` is stable, for programs.
 */
export class OverlayError extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly fix?: string,
    options?: ErrorOptions,
  ) {
    super(message, options)
    this.name = new.target.name
  }

  get [OURS](): true {
    return true
  }
}

/** Whether it is an {@link OverlayError}, be its class loaded here or in another bundle of the package. */
export const isOverlayError = (error: unknown): error is OverlayError => isNativeError(error) && OURS in error

/** The message of anything thrown, followed by its fix if it has one. */
export function describeError(error: unknown): string {
  if (isOverlayError(error) && error.fix !== undefined) return `${error.message}; ${error.fix}`
  return isNativeError(error) ? error.message : String(error)
}

/** The code of an error of Node or the system, such as `ENOENT`. */
export function systemErrorCode(error: unknown): string | undefined {
  return isNativeError(error) && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}
