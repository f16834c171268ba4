/** A kind of fault, and a fault planned for a round with its parameters drawn at random. */
import type { Random } from '../lab/random'
import type { Site } from './site'

/** The facts about the lab that a plan depends on. */
export interface World {
  /** Faults happen to the hosts 1 to this number. */
  readonly hosts: number
  /** How many members etcd has. */
  readonly members: 1 | 3
  /** Most milliseconds a fault may last. */
  readonly longest: number
}

/** Parameters of a fault: plain data, which is printed as JSON. */
export type Parameters = Readonly<Record<string, unknown>>

export interface Fault<P extends Parameters> {
  readonly name: string
  /** Draws the parameters: which hosts, and how. */
  readonly draw: (random: Random, world: World) => P
  /** Causes the fault; repeated if the fault has `every`. */
  readonly do: (site: Site, parameters: P) => Promise<unknown>
  /** Undoes the part that overlayd does not heal. Harmless if `do` had no effect. */
  readonly undo?: (site: Site, parameters: P) => Promise<unknown>
  /**
   * Undoes the fault again after all faults of the round have ended: a frozen etcd member may have received
   * the write of `do`, and commit it only after `undo`. Harmless if nothing is left.
   */
  readonly after?: (site: Site, parameters: P) => Promise<unknown>
  /**
   * Numbers of hosts whose traffic may suffer; none by default, because traffic goes on without the daemon,
   * without etcd and whatever the config.
   */
  readonly touches?: (parameters: P) => readonly number[]
  /**
   * Numbers of hosts whose daemon may exit by itself, for example because another program has the device lock
   * for a while. As systemd would, the site starts such a daemon again.
   */
  readonly ends?: (parameters: P) => readonly number[]
  /** Names of resources that the fault uses exclusively: two faults of a round never claim the same one. */
  readonly claims: (parameters: P) => readonly string[]
  /** Milliseconds between repetitions; `undefined` for a fault that happens once. */
  readonly every?: (parameters: P) => number | undefined
  /** Most milliseconds between `do` and `undo`; 6 s by default. */
  readonly longest?: number
  /** Why the fault cannot happen on this machine; `undefined` if it can. */
  readonly impossible?: () => string | undefined
}

/** A fault of a round, with its parameters and times drawn. */
export interface PlannedFault {
  readonly name: string
  readonly parameters: Parameters
  /** Milliseconds after the start of the round. */
  readonly start: number
  /** Milliseconds from the first `do` to `undo`. */
  readonly lasts: number
  readonly every: number | undefined
  readonly touches: readonly number[]
  readonly ends: readonly number[]
  readonly claims: readonly string[]
  readonly do: (site: Site) => Promise<unknown>
  readonly undo: (site: Site) => Promise<unknown>
  readonly after: (site: Site) => Promise<unknown>
}

/**
 * A kind of fault, without the type of its parameters: kinds with different parameters fit into one table.
 */
export interface FaultKind {
  readonly name: string
  readonly impossible: () => string | undefined
  readonly plan: (random: Random, world: World) => PlannedFault
}

/** Milliseconds within which all faults of a round begin. */
const SPREAD = 3000
/** Default of {@link Fault.longest}. */
const USUAL_LENGTH = 6000

export function fault<P extends Parameters>(kind: Fault<P>): FaultKind {
  return {
    name: kind.name,
    impossible: kind.impossible ?? (() => undefined),
    plan(random, world) {
      const parameters = kind.draw(random, world)
      const longest = Math.min(kind.longest ?? USUAL_LENGTH, world.longest)
      return {
        name: kind.name,
        parameters,
        start: random.integer(0, SPREAD),
        lasts: random.integer(Math.min(500, longest), longest),
        every: kind.every?.(parameters),
        touches: kind.touches?.(parameters) ?? [],
        ends: kind.ends?.(parameters) ?? [],
        claims: kind.claims(parameters),
        do: (site) => kind.do(site, parameters),
        undo: async (site) => kind.undo?.(site, parameters),
        after: async (site) => kind.after?.(site, parameters),
      }
    },
  }
}

/** Draws one host. */
export const anyHost = (random: Random, { hosts }: World): { readonly host: number } => ({
  host: random.integer(1, hosts),
})

/** Draws 1 to `most` different hosts. */
export function someHosts(
  random: Random,
  { hosts }: World,
  most = hosts,
): { readonly hosts: readonly number[] } {
  const all = Array.from({ length: hosts }, (_, index) => index + 1)
  return { hosts: random.some(all, random.integer(1, Math.min(most, hosts))) }
}

/** Draws two different hosts. */
export function twoHosts(random: Random, world: World): { readonly host: number; readonly other: number } {
  const host = random.integer(1, world.hosts)
  const step = random.integer(1, world.hosts - 1)
  return { host, other: ((host - 1 + step) % world.hosts) + 1 }
}

/** Claims the named things of each host among the fault's parameters, as `daemon of host1`. */
export const of =
  (...things: readonly string[]) =>
  ({ host, hosts = [] }: { readonly host?: number; readonly hosts?: readonly number[] }): string[] =>
    [...hosts, ...(host === undefined ? [] : [host])].flatMap((number) =>
      things.map((thing) => `${thing} of host${number}`),
    )

/** For `touches` and `ends`: the one host that the fault happens to. */
export const itsHost = ({ host }: { readonly host: number }): readonly number[] => [host]
