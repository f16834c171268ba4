import { OverlayError } from '../model/errors'

/** A wrong flag, value or variable: exit code 2. */
export class UsageError extends OverlayError {
  constructor(message: string, fix = 'see --help') {
    super('usage', message, fix)
  }
}
