/** The vocabulary of the benchmarks. */
import type { Lab } from '../../test/support/lab'
import type { FakePeer } from '../../test/support/leases'

/** One measurement: numbers by name. What a table shows is listed in the case's metrics, the rest is only recorded. */
export type Sample = Readonly<Record<string, number>>

export interface Metric {
  readonly key: string
  /** How a table calls it, with its unit. */
  readonly label: string
  readonly digits: number
}

/** What every measurement of one size shares. */
export interface Stage {
  /** With etcd running and the peers' leases in it; every measurement adds the hosts it needs. */
  readonly lab: Lab
  readonly peers: readonly FakePeer[]
  /** Waits for other work on the machine to end; complains when it does not. */
  readonly quiet: () => Promise<void>
}

export interface Case {
  readonly name: string
  /** What is measured, and how, in a sentence or two: printed under the table. */
  readonly about: string
  readonly metrics: readonly Metric[]
  /** Measures once, from the beginning, and checks that the result is right. */
  measure(stage: Stage): Promise<Sample>
}
