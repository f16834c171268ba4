/** Waiting for conditions: never for a fixed time, always with a deadline and a message that says what was missing. */

/** What a probe answers while the condition does not hold: what it saw instead. */
export class Pending {
  constructor(readonly seen: string) {}
}

export interface WaitOptions {
  readonly timeoutMs?: number
  readonly intervalMs?: number
  /** More to print when the deadline passes, e.g. the end of a log. */
  readonly context?: () => string
}

export const sleep = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds))

/**
 * Asks `probe` again and again until it answers something that is not {@link Pending}. A probe that throws ends the wait.
 * @param what completes the sentence "waited 10 s for ..."
 * @throws {Error} at the deadline: what was waited for, what was last seen, and the context
 */
export async function waitFor<T>(
  what: string,
  probe: () => T | Pending | Promise<T | Pending>,
  { timeoutMs = 10_000, intervalMs = 20, context }: WaitOptions = {},
): Promise<T> {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    const answer = await probe()
    if (!(answer instanceof Pending)) return answer
    if (performance.now() >= deadline) {
      const more = context?.() ?? ''
      throw new Error(
        `waited ${timeoutMs / 1000} s for ${what}; last seen: ${answer.seen}${more === '' ? '' : `\n${more}`}`,
      )
    }
    await sleep(intervalMs)
  }
}
