/** What checks answer. */
import type { Facts } from './facts'

export type Severity = 'warn' | 'fail'

/** One thing that is wrong, for someone who is woken by it. */
export interface Finding {
  /** Stable, for programs: `mtu-black-hole`. */
  readonly code: string
  readonly severity: Severity
  /** A sentence without a full stop. */
  readonly what: string
  readonly evidence: readonly string[]
  /** What does not work because of it. */
  readonly breaks: string
  readonly fix: string
  /** Commands that do it. */
  readonly commands?: readonly string[]
  /** Peers ({@link peerKey}) that cannot be reached because of it, so that they are not reported a second time. */
  readonly explains?: 'all' | ReadonlySet<string>
}

export type Outcome =
  | {
      readonly findings: readonly Finding[]
      /** What is the case where nothing is wrong. */
      readonly summary: string
    }
  /** It could not be checked, and why. */
  | { readonly skipped: string }

export interface Check {
  readonly name: string
  /** What is looked at, for help. */
  readonly about: string
  /** @param earlier findings of the checks before it in the list */
  readonly run: (facts: Facts, earlier: readonly Finding[]) => Outcome
}

/** Wrong things where there are any, else the summary. */
export const outcome = (summary: string, findings: readonly (Finding | undefined)[]): Outcome => ({
  summary,
  findings: findings.filter((finding) => finding !== undefined),
})

/** At most so many lines of evidence of one kind: the rest is counted. */
const MOST_LINES = 5

/** The first few, and how many more there are. */
export function few(lines: readonly string[]): string[] {
  const more = lines.length - MOST_LINES
  return more <= 1 ? [...lines] : [...lines.slice(0, MOST_LINES), `and ${more} more`]
}

/** `1 peer`, `3 peers` */
export const count = (number: number, word: string): string => `${number} ${word}${number === 1 ? '' : 's'}`
