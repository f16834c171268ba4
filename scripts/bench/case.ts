/** The vocabulary of the benchmarks. */
import type { Host, Lab } from '../../test/support/lab'
import type { FakePeer } from '../../test/support/leases'
import type { Subject } from './subject'

/** One measurement: numbers by name. What a table shows is listed in the case's metrics, the rest is only recorded. */
export type Sample = Readonly<Record<string, number>>

export interface Metric {
  readonly key: string
  /** How a table calls it, with its unit. */
  readonly label: string
  readonly digits: number
  /** Metrics with columns make a table for each number of peers: one row for each label. Either all of a case have one or none. */
  readonly column?: string
  /** Set where two runs can be compared, on whatever machines: a ratio to a reference of the same run, or a count. Less is better. */
  readonly comparable?: true
  /** Set where a plot over N is worth its place: the name of its picture. */
  readonly plot?: string
}

/** How much is done in a measurement. */
export interface Effort {
  /** Serial joins, leaves and repairs. */
  readonly serial: number
  /** Joins and leaves, and renewals, that come at once. */
  readonly burst: number
  /** Joins and leaves for the growth of memory. */
  readonly events: number
  readonly idleSeconds: number
  /** Of each load on the data plane; 0 for as little as shows that it gets through. */
  readonly loadSeconds: number
  /** What of the case `dataplane-options` is tried, by name; undefined for all. */
  readonly options: readonly string[] | undefined
  /** How long after the last peer CPU time and memory are read: what a daemon does late counts too. */
  readonly settleMs: number
}

/** What every measurement of one size shares. */
export interface Stage {
  /** With etcd running and the peers' leases in it; every measurement adds the hosts it needs. */
  readonly lab: Lab
  readonly peers: readonly FakePeer[]
  /** Peers that are not in etcd, to join and to leave. */
  readonly spare: readonly FakePeer[]
  readonly subject: Subject
  readonly effort: Effort
  /** Waits for other work on the machine to end; complains when it does not. */
  readonly quiet: () => Promise<void>
}

/** A stage on which the daemon runs, with all peers in the kernel. */
export interface Running extends Stage {
  readonly host: Host
  readonly pid: number
}

/** A case as tables and plots know it. */
export interface Described {
  readonly name: string
  /** What is measured, and how, in a sentence or two: printed under the table. */
  readonly about: string
  readonly metrics: readonly Metric[]
  /** Measured only where it is named. */
  readonly onlyNamed?: true
  /** Left out for flanneld, which has no such thing. */
  readonly ownOnly?: true
}

export interface Case extends Described {
  /** Numbers of peers it is no use to measure with. */
  readonly skips?: (peers: number) => boolean
  /** Measures once, from the beginning, and checks that the result is right. */
  measure(stage: Stage): Promise<Sample>
}

/** What a case with many real hosts has: it makes its own lab. */
export interface FleetStage extends Pick<Stage, 'subject' | 'effort' | 'quiet'> {
  /** How many; what a table calls N. */
  readonly hosts: number
  /** Tells how far it is. */
  readonly say: (text: string) => unknown
}

export interface FleetCase extends Described {
  /** Measures once, from the beginning, and checks that the result is right. */
  measure(stage: FleetStage): Promise<Sample>
}
