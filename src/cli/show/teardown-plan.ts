/** The plan of `overlayctl teardown`. */

import type { Kernel } from '../../kernel/kernel'

/** One step of the removal. */
export interface Removal {
  /** Descriptions of what this step removes. */
  readonly what: readonly string[]
  readonly remove: (kernel: Kernel) => Promise<void>
}

/** The steps, and notes for the operator. */
export interface TeardownPlan {
  readonly removals: readonly Removal[]
  readonly notes: readonly string[]
}
