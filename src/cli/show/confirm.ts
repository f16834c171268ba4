/** Asks before something is removed. */
import { ask, canAsk } from '../../host/streams'
import { OverlayError } from '../../model/errors'

/**
 * Asks on the terminal, unless the answer was given beforehand.
 * @param question a sentence that says what will happen
 * @param yes the flag `--yes`
 * @throws {OverlayError} `not-confirmed` if the answer is not yes, or there is no terminal to ask on
 */
export async function confirm(question: string, yes: boolean): Promise<void> {
  if (yes) return
  if (!canAsk()) {
    throw new OverlayError(
      'not-confirmed',
      `not done, because there is no terminal to ask on: ${question}`,
      'give --yes',
    )
  }
  const answer = await ask(`${question} Type yes to continue: `)
  if (answer.trim().toLowerCase() === 'yes') return
  throw new OverlayError('not-confirmed', 'nothing was done')
}
