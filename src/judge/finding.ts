/** Checks, and what they answer. */
import type { Problem } from '../model/result'
import { ETCD_UNKNOWN, type FactName, type Known, NEEDLESS, NO_RIGHTS } from './facts'

export type Severity = 'warn' | 'fail'

/** One thing that is wrong, in words for someone who is woken by it. */
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
  /** Commands that carry out the fix. */
  readonly commands?: readonly string[]
  /**
   * Peers ({@link peerKey}) that cannot be reached because of it. Later checks do not report them a second
   * time.
   */
  readonly explains?: 'all' | ReadonlySet<string>
}

/**
 * Why something was not checked. `rights`: this user may not read it. `unknown`: a fact is missing.
 * `needless`: it does not concern this host, or an earlier finding says all there is to say.
 */
export type Because = 'rights' | 'unknown' | 'needless'

/** A finding, and the check that found it. */
export interface MadeFinding extends Finding {
  readonly check: string
}

export type Outcome =
  | {
      readonly findings: readonly Finding[]
      /** What is the case where nothing is wrong. */
      readonly summary: string
      /** A part of it that could not be checked. */
      readonly unmade?: Unmade
    }
  /** It could not be checked, and why; `unknown` where `because` is absent. */
  | { readonly skipped: string; readonly because?: Because }

export interface Unmade {
  readonly what: string
  readonly because: Because
}

export interface Check<
  N extends FactName = FactName,
  U extends FactName = FactName,
  I extends FactName = FactName,
> {
  readonly name: string
  /** What is checked, for help. */
  readonly about: string
  /** Facts without which the check is skipped, with the reason of the first one that is missing. */
  readonly needs: readonly N[]
  /** Facts that are gathered for the check too, and may be missing. */
  readonly uses?: readonly U[]
  /** Facts that count only where another check has them gathered anyway, since probes take long. */
  readonly ifGathered?: readonly I[]
  /**
   * Earlier checks whose findings matter here. `--only` has them made too, and leaves their results out.
   * Without `--only` all checks are made.
   */
  readonly after?: 'all' | readonly string[]
  /**
   * What the daemon must have before the check can tell more than what the daemon waits for: its start, or a
   * usable config. Until then the check is skipped.
   */
  readonly premise?: 'started' | 'config'
  /** @param earlier findings of the checks before it in the list */
  readonly run: (facts: Known<N, U | I>, earlier: readonly MadeFinding[]) => Outcome
}

/** A check that reads only the facts it declares. The compiler holds it to that. */
export const check = <
  const N extends FactName = never,
  const U extends FactName = never,
  const I extends FactName = never,
>(
  made: Check<N, U, I>,
): Check => made

/** What is wrong, where something is; else the summary. */
export const outcome = (
  summary: string,
  findings: readonly (Finding | undefined)[],
  unmade?: Unmade,
): Outcome => ({
  summary,
  findings: findings.filter((finding) => finding !== undefined),
  ...(unmade !== undefined && { unmade }),
})

const BECAUSE: Readonly<Record<string, Because>> = {
  [NO_RIGHTS]: 'rights',
  [ETCD_UNKNOWN]: 'rights',
  [NEEDLESS]: 'needless',
}

/** The outcome of a check that has to do without a fact. */
export const skipFor = ({ text, code }: Problem): Outcome => ({
  skipped: text,
  because: Object.hasOwn(BECAUSE, code) ? (BECAUSE[code] ?? 'unknown') : 'unknown',
})

/** The most lines of evidence of one kind; the others are counted. */
const MOST_LINES = 5

/** The first few, and how many more there are. */
export function few(lines: readonly string[]): string[] {
  const more = lines.length - MOST_LINES
  return more <= 1 ? [...lines] : [...lines.slice(0, MOST_LINES), `and ${more} more`]
}
