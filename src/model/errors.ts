import { isNativeError } from 'node:util/types'

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
}

/** The message of anything thrown, followed by its fix if it has one. */
export function describeError(error: unknown): string {
  if (error instanceof OverlayError && error.fix !== undefined) return `${error.message}; ${error.fix}`
  return isNativeError(error) ? error.message : String(error)
}

/** The code of an error of Node or the system, such as `ENOENT`. */
export function systemErrorCode(error: unknown): string | undefined {
  return isNativeError(error) && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}
