/** The types of the benchmarks. */
import type { Host, Lab } from '../../test/lab/lab'
import type { FakePeer } from '../../test/lab/leases'
import type { Subject } from './subject'

/**
 * One measurement: numbers by key. Tables show the keys listed in the case's metrics; other keys are only
 * recorded.
 */
export type Sample = Readonly<Record<string, number>>

export interface Metric {
  readonly key: string
  /** The name in a table, with the unit. */
  readonly label: string
  readonly digits: number
  /**
   * Column in a table. With columns, each number of peers has a table of its own, with one row per label.
   * Either all metrics of a case have a column, or none.
   */
  readonly column?: string
  /**
   * Set if two runs can be compared, even on different machines: a ratio to a reference of the same run, or a
   * count. Less is better.
   */
  readonly comparable?: true
  /** Set if a plot over N is useful: the name of the plot. */
  readonly plot?: string
}

/** The amount of work in a measurement. */
export interface Effort {
  /** Number of joins, leaves, moves and repairs that are done one after the other. */
  readonly serial: number
  /** Number of joins, leaves and renewals that are done at the same time. */
  readonly burst: number
  /** Number of joins and leaves for the growth of memory. */
  readonly events: number
  readonly idleSeconds: number
  /** Seconds of each load on the data plane; 0 for the least load that shows that packets arrive. */
  readonly loadSeconds: number
  /** Names of the options that the case `dataplane-options` measures; undefined for all. */
  readonly options: readonly string[] | undefined
  /**
   * Milliseconds from the last peer until CPU time and memory are read, so that late work of the daemon
   * counts too.
   */
  readonly settleMs: number
}

/** The common part of all measurements with one number of peers. */
export interface Stage {
  /** etcd runs and has the leases of the peers. Each measurement adds the hosts that it needs. */
  readonly lab: Lab
  readonly peers: readonly FakePeer[]
  /** Peers that are not in etcd yet: they join and leave. */
  readonly spare: readonly FakePeer[]
  readonly subject: Subject
  readonly effort: Effort
  /** Waits until other work on the machine has ended; prints a complaint if it does not end. */
  readonly quiet: () => Promise<void>
}

/** A stage on which the daemon runs; all peers are in its kernel. */
export interface Running extends Stage {
  readonly host: Host
  readonly pid: number
}

/** The part of a case that tables and plots use. */
export interface Described {
  readonly name: string
  /** What is measured and how, in a few sentences; printed below the table. */
  readonly about: string
  readonly metrics: readonly Metric[]
  /** Measured only if it is named on the command line. */
  readonly onlyNamed?: true
  /** Left out for flanneld, which lacks the feature. */
  readonly ownOnly?: true
}

export interface Case extends Described {
  /** Whether measuring with this number of peers is useless. */
  readonly skips?: (peers: number) => boolean
  /** Measures once, from an empty state, and verifies the result. */
  measure(stage: Stage): Promise<Sample>
}

/** The stage of a case with many real hosts, which makes a lab of its own. */
export interface FleetStage extends Pick<Stage, 'subject' | 'effort' | 'quiet'> {
  /** Number of hosts; N in tables. */
  readonly hosts: number
  /** Prints the progress. */
  readonly say: (text: string) => unknown
}

export interface FleetCase extends Described {
  /** Measures once, from an empty state, and verifies the result. */
  measure(stage: FleetStage): Promise<Sample>
}
