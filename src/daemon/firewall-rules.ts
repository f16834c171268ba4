/**
 * Brings the rules of a request into force, by the programs of both modes. The mode that is not used is cleared of what is ours only when the rules
 * of the other are in force, so that a change of mode leaves neither a gap nor a remnant. What fails costs nothing else.
 */
import { Iptables } from '../firewall/iptables'
import { Nftables } from '../firewall/nftables'
import { FAMILIES, type Family } from '../model/address'
import { describeError } from '../model/errors'
import type { DesiredIptables, FirewallRequest } from '../model/firewall'
import { desiredIptables, desiredTable } from '../plan/firewall'
import { diffIptables } from '../plan/firewall-iptables'
import { diffTable, sayTheSame } from '../plan/firewall-nftables'

export interface FirewallOutcome {
  readonly changed: boolean
  /** Why wanted rules are not in force. */
  readonly problems: readonly string[]
  /** Why rules of ours that are not wanted may still be there. */
  readonly remnants: readonly string[]
}

type Step =
  | { readonly kind: 'same' | 'changed' }
  | { readonly kind: 'failed'; readonly needed: boolean; readonly problem: string }

export class FirewallRules {
  readonly #iptables = new Map<Family, Iptables>()
  #nftables: Nftables | undefined
  /** name -> a listing that differs from the wanted text but that writing did not change: this nft puts it in other words. */
  readonly #synonyms = new Map<string, { readonly wanted: string; readonly printed: string }>()

  constructor(private readonly request: FirewallRequest) {}

  /** Compares all of it with what there is, and changes what differs. One call at a time. */
  async bring(signal: AbortSignal): Promise<FirewallOutcome> {
    const steps: Step[] = []
    for (const family of FAMILIES) steps.push(...(await this.#bringFamily(family, signal)))
    const failed = steps.filter((step) => step.kind === 'failed')
    const textsOf = (needed: boolean): string[] =>
      failed.filter((step) => step.needed === needed).map(({ problem }) => problem)
    return {
      changed: steps.some(({ kind }) => kind === 'changed'),
      problems: [...new Set(textsOf(true))],
      remnants: textsOf(false).map((text) => `cannot clear what a former mode may have left: ${text}`),
    }
  }

  /** The mode in use first: what it replaces goes only after that. */
  async #bringFamily(family: Family, signal: AbortSignal): Promise<Step[]> {
    const { chains, hooks } = desiredIptables(this.request, family)
    const wantsTable = desiredTable(this.request, family).text !== undefined
    const wantsIptables = hooks.length > 0 || areWanted(chains)
    const table = (): Promise<Step> =>
      this.#attempt(wantsTable, () => this.#bringTable(family, wantsTable, signal))
    const iptables = (withChains: boolean): Promise<Step> =>
      this.#attempt(wantsIptables, () => this.#bringIptables(family, withChains, signal))
    if (this.request.mode === 'nftables') {
      const first = await table()
      return [first, await iptables(!isProblem(first))]
    }
    const first = await iptables(true)
    return isProblem(first) ? [first] : [first, await table()]
  }

  /** @param needed whether a failure is a problem */
  async #attempt(needed: boolean, change: () => Promise<boolean>): Promise<Step> {
    try {
      return { kind: (await change()) ? 'changed' : 'same' }
    } catch (error) {
      // The next look finds programs that were installed, replaced or moved meanwhile.
      this.#iptables.clear()
      this.#nftables = undefined
      return { kind: 'failed', needed, problem: describeError(error) }
    }
  }

  /**
   * @param chains whether our own chains are to be brought, or cleared, too
   * @returns whether anything was written
   */
  async #bringIptables(family: Family, chains: boolean, signal: AbortSignal): Promise<boolean> {
    const plan = desiredIptables(this.request, family)
    const needed = chains && areWanted(plan.chains)
    const iptables = await this.#findIptables(family, needed)
    if (iptables === undefined) return false
    const masquerades = needed && this.request.ipMasq && this.request.fullyRandom
    const fullyRandom = masquerades && (await iptables.fullyRandom(signal))
    const desired = desiredIptables({ ...this.request, fullyRandom }, family)
    const change = diffIptables(
      chains ? desired : { ...desired, chains: [] },
      this.request.links,
      await iptables.list(signal),
    )
    if (change === undefined) return false
    await iptables.apply(change, signal)
    return true
  }

  /**
   * @param needed whether nft has to be there
   * @returns whether anything was changed
   */
  async #bringTable(family: Family, needed: boolean, signal: AbortSignal): Promise<boolean> {
    const nftables = await this.#findNftables(needed)
    if (nftables === undefined) return false
    const masquerades = needed && this.request.ipMasq && this.request.fullyRandom
    const fullyRandom = masquerades && (await nftables.fullyRandom(signal))
    const desired = desiredTable({ ...this.request, fullyRandom }, family)
    const observed = await nftables.list(desired.name, signal)
    const synonym = this.#synonyms.get(desired.name)
    if (synonym !== undefined && synonym.wanted === desired.text && synonym.printed === observed) return false
    const change = diffTable(desired, observed)
    if (change === undefined) return false
    await nftables.apply(change, signal)
    if (desired.text === undefined || observed === undefined) return true
    const printed = await nftables.list(desired.name, signal)
    if (printed !== observed || !sayTheSame(printed, desired.text)) return true
    this.#synonyms.set(desired.name, { wanted: desired.text, printed })
    return false
  }

  async #findIptables(family: Family, needed: boolean): Promise<Iptables | undefined> {
    const iptables =
      this.#iptables.get(family) ?? (await (needed ? Iptables.require(family) : Iptables.find(family)))
    if (iptables !== undefined) this.#iptables.set(family, iptables)
    return iptables
  }

  async #findNftables(needed: boolean): Promise<Nftables | undefined> {
    this.#nftables ??= await (needed ? Nftables.require() : Nftables.find())
    return this.#nftables
  }
}

const areWanted = (chains: DesiredIptables['chains']): boolean =>
  chains.some(({ rules }) => rules !== undefined)

const isProblem = (step: Step): boolean => step.kind === 'failed' && step.needed
