/**
 * Brings the rules of a request into force, by the programs of both modes. Our rules of the unused mode are
 * removed only when those of the used mode are in force, so that a change of mode leaves neither a gap nor a
 * remnant. A failure in one family or mode does not stop the others.
 */
import { Iptables, type Versions } from '../../firewall/iptables'
import { hasLegacyTables } from '../../firewall/legacy-tables'
import { Nftables } from '../../firewall/nftables'
import { findProgram } from '../../firewall/program'
import { type Ruleset, readRuleset } from '../../kernel/nftables/ruleset'
import { FAMILIES, type Family } from '../../model/address'
import { describeError } from '../../model/errors'
import type { DesiredIptables, DesiredTable, FirewallRequest } from '../../model/firewall'
import {
  desiredBeside,
  desiredIptables,
  desiredMark,
  desiredSource,
  desiredTable,
  dockerTable,
  NETAVARK_TABLE,
} from '../../plan/firewall/firewall'
import { diffIptables } from '../../plan/firewall/iptables'
import { diffTable, sameRules } from '../../plan/firewall/nftables'

export interface FirewallOutcome {
  readonly changed: boolean
  /** Why wanted rules are not in force. */
  readonly problems: readonly string[]
  /** Why rules of ours that are not wanted may still be there. */
  readonly remnants: readonly string[]
}

/** Applies the difference that a check found. @returns whether anything was written */
type Change = () => Promise<boolean>

/** @param chains whether our own chains are written, or removed, too */
type IptablesChange = (chains: boolean) => Promise<boolean>

/** The differences that a check of one family found. */
interface Look {
  readonly family: Family
  readonly table: Change
  readonly iptables: IptablesChange
  /** Tables of ours that exist where another program has one. */
  readonly answers: readonly { readonly isWanted: boolean; readonly change: Change }[]
}

/** A table of ours that answers one of another program. */
interface Answer {
  readonly desired: DesiredTable
  /** The other table: family and name. */
  readonly to: string
  /** Whether the other program is on this host. */
  readonly isPossible: () => Promise<boolean>
}

type Step =
  | { readonly kind: 'same' | 'changed' }
  | { readonly kind: 'failed'; readonly needed: boolean; readonly problem: string }

/** Lists a table of nftables. The program is not started for a table that the kernel does not have. */
type ListTable = (nftables: Nftables, name: string) => Promise<string | undefined>

const IN_ORDER: FirewallOutcome = { changed: false, problems: [], remnants: [] }

export class FirewallRules {
  readonly #iptables = new Map<Family, Iptables>()
  readonly #versions: Versions = new Map()
  #nftables: Nftables | undefined
  /**
   * Table name -> a listing that differs from the wanted text, and that writing the text did not change: this
   * nft prints the same rules in other words.
   */
  readonly #synonyms = new Map<string, { readonly wanted: string; readonly printed: string }>()

  /** Names of tables that are not wanted, and known to be gone. */
  readonly #gone = new Set<string>()
  /**
   * The generation of the host's rules at which all rules were in order; `undefined` while a change may
   * have no generation, as with iptables-legacy.
   */
  #settled: number | undefined

  constructor(private readonly request: FirewallRequest) {}

  /** Compares all rules with those of the host, and changes those that differ. One call at a time. */
  async bring(signal: AbortSignal): Promise<FirewallOutcome> {
    // First of all: a change during the check has a later generation.
    const ruleset = await readRuleset(signal)
    const hasLegacy = (await Promise.all(FAMILIES.map(hasLegacyTables))).includes(true)
    if (ruleset !== undefined && ruleset.generation === this.#settled && !hasLegacy) return IN_ORDER
    // The checks run in parallel, for each runs a program or two. The changes are made one after the other.
    const looks = await Promise.all(FAMILIES.map((family) => this.#look(family, ruleset, signal)))
    const steps: Step[] = []
    for (const look of looks) steps.push(...(await this.#bringFamily(look)))
    const isSettled = !hasLegacy && steps.every(({ kind }) => kind === 'same') && (await this.#isNft(signal))
    this.#settled = isSettled ? ruleset?.generation : undefined
    const failed = steps.filter((step) => step.kind === 'failed')
    const textsOf = (needed: boolean): string[] =>
      failed.filter((step) => step.needed === needed).map(({ problem }) => problem)
    return {
      changed: steps.some(({ kind }) => kind === 'changed'),
      problems: [...new Set(textsOf(true))],
      remnants: textsOf(false).map((text) => `cannot clear what a former mode may have left: ${text}`),
    }
  }

  /** Whether all rules that were looked at are in nf_tables, where each change has a generation. */
  async #isNft(signal: AbortSignal): Promise<boolean> {
    const variants = await Promise.all([...this.#iptables.values()].map((each) => each.variant(signal)))
    return variants.every((variant) => variant === 'nft')
  }

  /** A failure of the check is thrown by the change that it stands for. */
  async #look(family: Family, ruleset: Ruleset | undefined, signal: AbortSignal): Promise<Look> {
    const rethrow = (error: unknown) => () => Promise.reject(error)
    const list: ListTable = async (nftables, name) =>
      ruleset === undefined || ruleset.tables.has(name) ? nftables.list(name, signal) : undefined
    const [table, iptables, ...answers] = await Promise.all([
      this.#lookAtTable(family, list, signal).catch(rethrow),
      this.#lookAtIptables(family, signal).catch(rethrow),
      ...this.#answers(family).map(async (answer) => ({
        isWanted: answer.desired.text !== undefined,
        change: await this.#lookAtAnswer(answer, list, signal).catch(rethrow),
      })),
    ])
    return { family, table, iptables, answers }
  }

  /** The used mode first: the rules that it replaces are removed only after that. */
  async #bringFamily(look: Look): Promise<Step[]> {
    const steps = await this.#bringMode(look)
    for (const { isWanted, change } of look.answers) steps.push(await this.#attempt(isWanted, change))
    return steps
  }

  async #bringMode({ family, table, iptables }: Look): Promise<Step[]> {
    const { chains, hooks } = desiredIptables(this.request, family)
    const wantsTable = desiredTable(this.request, family).text !== undefined
    const wantsIptables = hooks.length > 0 || areWanted(chains)
    if (this.request.mode === 'nftables') {
      const first = await this.#attempt(wantsTable, table)
      return [first, await this.#attempt(wantsIptables, () => iptables(!isProblem(first)))]
    }
    const first = await this.#attempt(wantsIptables, () => iptables(true))
    return isProblem(first) ? [first] : [first, await this.#attempt(wantsTable, table)]
  }

  /** @param needed whether a failure is a problem */
  async #attempt(needed: boolean, change: Change): Promise<Step> {
    try {
      return { kind: (await change()) ? 'changed' : 'same' }
    } catch (error) {
      // The next check finds programs that were installed, replaced or moved meanwhile.
      this.#iptables.clear()
      this.#versions.clear()
      this.#nftables = undefined
      return { kind: 'failed', needed, problem: describeError(error) }
    }
  }

  async #lookAtIptables(family: Family, signal: AbortSignal): Promise<IptablesChange> {
    const needed = areWanted(desiredIptables(this.request, family).chains)
    const iptables = await this.#findIptables(family, needed)
    if (iptables === undefined) return async () => false
    // Ask for the program's age in parallel: we will most likely have to write.
    const [observed, recent] = await Promise.all([
      iptables.list(signal),
      needed && iptables.fullyRandom(signal),
    ])
    const fullyRandom = recent && this.request.ipMasq && this.request.fullyRandom
    const desired = desiredIptables({ ...this.request, fullyRandom }, family)
    const beside = await this.#lookBeside(iptables, family, signal)
    return async (chains) => {
      const wanted = chains ? desired : { ...desired, chains: [] }
      const change = diffIptables(wanted, this.request.links, observed)
      if (change !== undefined) await iptables.apply(change, signal)
      return (await beside()) || change !== undefined
    }
  }

  /** Packets meet the rules of both variants, and an accept in one does not undo a drop in the other. */
  async #lookBeside(iptables: Iptables, family: Family, signal: AbortSignal): Promise<Change> {
    const other = await iptables.other(family, signal)
    // The legacy variant needs rights that the service may not have. Without them no rule of ours can be in
    // it.
    const observed = await other?.list(signal).catch(() => undefined)
    if (other === undefined || observed === undefined) return async () => false
    const change = diffIptables(desiredBeside(this.request, family), this.request.links, observed)
    return async () => {
      if (change !== undefined) await other.apply(change, signal)
      return change !== undefined
    }
  }

  async #lookAtTable(family: Family, list: ListTable, signal: AbortSignal): Promise<Change> {
    const { name, text } = desiredTable(this.request, family)
    const needed = text !== undefined
    const nftables = await this.#findNftables(needed)
    if (nftables === undefined) return async () => false
    const masquerades = needed && this.request.ipMasq && this.request.fullyRandom
    const [observed, fullyRandom] = await Promise.all([
      list(nftables, name),
      masquerades && nftables.fullyRandom(signal),
    ])
    const desired = desiredTable({ ...this.request, fullyRandom }, family)
    return () => this.#bringTable(nftables, desired, observed, signal)
  }

  #answers(family: Family): readonly Answer[] {
    const { request } = this
    return [
      {
        desired: desiredMark(request, family),
        to: dockerTable(family),
        isPossible: async () => request.docker,
      },
      {
        desired: desiredSource(request, family),
        to: NETAVARK_TABLE,
        isPossible: async () => (await findProgram('podman')) !== undefined,
      },
    ]
  }

  /**
   * The backend of Docker and of netavark cannot be told from the program being installed. So the table is
   * made when theirs is seen, and stays: dockerd takes its tables away while it starts again.
   */
  async #lookAtAnswer(
    { desired, to, isPossible }: Answer,
    list: ListTable,
    signal: AbortSignal,
  ): Promise<Change> {
    const isOff = desired.text === undefined
    if (isOff ? this.#gone.has(desired.name) : !(await isPossible())) return async () => false
    const nftables = await this.#findNftables(false)
    if (nftables === undefined) return async () => false
    const observed = await list(nftables, desired.name)
    if (isOff || observed !== undefined) {
      return async () => {
        const isChanged = await this.#bringTable(nftables, desired, observed, signal)
        if (isOff) this.#gone.add(desired.name)
        return isChanged
      }
    }
    if ((await list(nftables, to)) === undefined) return async () => false
    return () => this.#bringTable(nftables, desired, observed, signal)
  }

  /** @returns whether anything was changed */
  async #bringTable(
    nftables: Nftables,
    desired: DesiredTable,
    observed: string | undefined,
    signal: AbortSignal,
  ): Promise<boolean> {
    const synonym = this.#synonyms.get(desired.name)
    if (synonym !== undefined && synonym.wanted === desired.text && synonym.printed === observed) return false
    const change = diffTable(desired, observed)
    if (change === undefined) return false
    await nftables.apply(change, signal)
    if (desired.text === undefined || observed === undefined) return true
    const printed = await nftables.list(desired.name, signal)
    if (printed !== observed || !sameRules(printed, desired.text)) return true
    this.#synonyms.set(desired.name, { wanted: desired.text, printed })
    return false
  }

  async #findIptables(family: Family, needed: boolean): Promise<Iptables | undefined> {
    const iptables =
      this.#iptables.get(family) ??
      (await (needed ? Iptables.require(family, this.#versions) : Iptables.find(family, this.#versions)))
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
