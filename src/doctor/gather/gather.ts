/**
 * Gathers the facts that checks need: each as soon as the facts that it depends on are there. Nothing is
 * changed.
 */

import {
  type FactName,
  type Facts,
  type FactValues,
  type Given,
  type Known,
  NOT_ASKED,
  type PeerFact,
} from '../../judge/facts'
import { failed, type Problem, type Result } from '../../model/result'
import { etcdEndpointNames } from '../../options/etcd'
import { attemptAsUser } from './attempt'
import { type DoctorOptions, Edges } from './edges'
import { addressesOfEtcd } from './read-etcd'
import { FACTS } from './sources'

export interface Wanted {
  /** The facts that are to be gathered; those that they depend on are gathered too. */
  readonly facts: readonly FactName[]
  /** Whether a peer is to be probed. */
  readonly isProbed: (peer: PeerFact) => boolean
}

export async function gatherFacts(options: DoctorOptions, wanted: Wanted): Promise<Facts> {
  const edges = new Edges(options, wanted.isProbed)
  try {
    return await new Gathering(edges).gather(wanted.facts)
  } finally {
    await edges.close()
  }
}

/** The reason why a fact that nobody asked for is missing. */
const notAsked = (part: FactName): Problem => ({ part, code: NOT_ASKED, text: 'it was not asked for' })

class Gathering {
  readonly #given: Given
  readonly #found = new Map<FactName, Promise<Result<unknown>>>()

  constructor(private readonly edges: Edges) {
    const { options } = edges
    this.#given = {
      now: Date.now(),
      etcdPrefix: options['etcd-prefix'],
      runDirectory: options['run-dir'],
      etcdEndpoints: etcdEndpointNames(options),
      etcdAddresses: addressesOfEtcd(options),
    }
  }

  async gather(names: readonly FactName[]): Promise<Facts> {
    const left = Object.keys(FACTS).map((name) => [name, failed(notAsked(name as FactName))])
    await Promise.all(names.map((name) => this.#find(name)))
    return { ...this.#given, ...Object.fromEntries(left), ...(await this.#known([...this.#found.keys()])) }
  }

  /** Reads each fact once. No fact depends on itself, so no promise waits for itself. */
  #find(name: FactName): Promise<Result<unknown>> {
    const begun = this.#found.get(name) ?? this.#read(name)
    this.#found.set(name, begun)
    return begun
  }

  async #read(name: FactName): Promise<Result<unknown>> {
    const { needs, uses, read } = FACTS[name]
    const known = { ...this.#given, ...(await this.#known([...needs, ...uses])) } as Known<FactName>
    const missing = needs.map((need) => known[need]).find(({ problem }) => problem !== undefined)
    return missing ?? attemptAsUser<FactValues[FactName]>(name, () => read(known, this.edges))
  }

  async #known(names: readonly FactName[]): Promise<Partial<Facts>> {
    const found = names.map(async (name) => [name, await this.#find(name)] as const)
    return Object.fromEntries(await Promise.all(found))
  }
}
