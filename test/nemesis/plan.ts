/**
 * Plans the faults of a round. The plan depends only on the seed, the number of the round, the kinds and the
 * size of the lab, so a round can be repeated.
 */
import { Random } from '../lab/random'
import type { FaultKind, PlannedFault, World } from './fault'

export const FEWEST = 2
export const MOST = 6

/** @returns the faults by their start. @throws {Error} if `kinds` is empty */
export function planRound(
  kinds: readonly FaultKind[],
  seed: number,
  round: number,
  world: World,
): readonly PlannedFault[] {
  // Mixes seed and round, so that neighbouring seeds or rounds give unrelated plans.
  const random = new Random(Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(round, 0xc2b2ae35))
  const wanted = Math.min(random.integer(FEWEST, MOST), kinds.length)
  const planned: PlannedFault[] = []
  const claimed = new Set<string>()
  // A fault that claims what another one has claimed is drawn again. The number of draws is limited: a short
  // list of kinds may have no further fault without a conflict.
  for (let draws = 0; planned.length < wanted && draws < 100; draws++) {
    const next = random.pick(kinds).plan(random, world)
    if (next.claims.some((claim) => claimed.has(claim))) continue
    for (const claim of next.claims) claimed.add(claim)
    planned.push(next)
  }
  return planned.sort((a, b) => a.start - b.start)
}

/** Numbers of all hosts whose traffic may suffer from the faults. */
export const touchedBy = (faults: readonly PlannedFault[]): ReadonlySet<number> =>
  new Set(faults.flatMap(({ touches }) => touches))

/** The fault in one line. */
export function describeFault({ name, parameters, start, lasts, every }: PlannedFault): string {
  const repeated = every === undefined ? '' : `, every ${every} ms`
  return `${name} ${JSON.stringify(parameters)} at ${start} ms for ${lasts} ms${repeated}`
}
