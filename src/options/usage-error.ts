import { isOverlayError, OverlayError } from '../model/errors'

const USAGE = 'usage'

/** A wrong flag, value or variable: exit code 2. */
export class UsageError extends OverlayError {
  constructor(message: string, fix = 'see --help') {
    super(USAGE, message, fix)
  }
}

/** Whether it is a {@link UsageError}, be its class loaded here or in another bundle of the package. */
export const isUsageError = (error: unknown): boolean => isOverlayError(error) && error.code === USAGE
