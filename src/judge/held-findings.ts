/** Which findings of the daemon count: a look may fall into a change of the host that is not complete. */
import type { WayInFinding } from './way-in'

/** The firewall rules that a look judged. Rules are read more seldom than looked at. */
export interface RulesEvidence {
  /** Compared by identity. */
  readonly reading: unknown
  /** Whether the rules may have changed since that reading. */
  readonly isOutdated: boolean
}

export interface HeldFinding {
  readonly finding: WayInFinding
  /** {@link RulesEvidence.reading} of the last look. */
  readonly reading: unknown
  /** Whether the finding counts. */
  readonly isConfirmed: boolean
}

/** Code and place of each finding of the last look. */
export type HeldFindings = ReadonlyMap<string, HeldFinding>

/**
 * A finding counts once two looks in a row have it: a bridge that is being made has no address yet. A finding
 * about firewall rules counts where the second look read the rules again, or where nothing has changed in
 * them since: rules that are gone by the second look are not confirmed by their own old reading.
 * @param before of the look before
 * @param findings of this look
 */
export function holdFindings(
  before: HeldFindings,
  findings: readonly WayInFinding[],
  { reading, isOutdated }: RulesEvidence,
): HeldFindings {
  const held = new Map<string, HeldFinding>()
  for (const finding of findings) {
    // Of one code there may be several: a rule for each family. Their texts change, and their order does not.
    const place = [...held.values()].filter((each) => each.finding.code === finding.code).length
    const key = `${finding.code} ${place}`
    const last = before.get(key)
    const isNewEvidence = finding.check !== 'firewall' || !isOutdated || last?.reading !== reading
    const isConfirmed = last !== undefined && (last.isConfirmed || isNewEvidence)
    held.set(key, { finding, reading, isConfirmed })
  }
  return held
}
