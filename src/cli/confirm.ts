/** Asks before something is taken away. */
import { createInterface } from 'node:readline/promises'
import { OverlayError } from '../model/errors'

/**
 * Asks on the terminal, unless the answer was given beforehand.
 * @param question a sentence that says what will happen
 * @param yes `--yes`
 * @throws {OverlayError} `not-confirmed` when the answer is not yes, or there is no terminal to ask on
 */
export async function confirm(question: string, yes: boolean): Promise<void> {
  if (yes) return
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw new OverlayError(
      'not-confirmed',
      `not done, for there is no terminal to ask on: ${question}`,
      'give --yes',
    )
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr })
  try {
    const answer = await terminal.question(`${question} Type yes to go on: `)
    if (answer.trim().toLowerCase() === 'yes') return
  } finally {
    terminal.close()
  }
  throw new OverlayError('not-confirmed', 'nothing was done')
}
