/**
 * What rules do with a packet, in the order in which the packet meets them (nft(8), net/netfilter). A drop is
 * final wherever it is. An accept ends only its base chain. Chains of NAT see the first packet of a
 * connection until one of them has translated it. Where it cannot be decided whether a rule matches, the walk
 * goes on as if the rule did not match, and keeps what the rule would have done as a doubt.
 */
import type { Family } from '../../model/address'
import type { FilterChain, FilterRule, Hook, PacketFilter, Step, Verdict } from '../../model/packet-filter'
import { anyHolds, evaluate, type Holds, rowHolds } from './match'
import { type Packet, withFields } from './packet'

/** A rule; or the policy of the base chain, where no rule matched. */
export interface Place {
  readonly base: FilterChain
  readonly chain: FilterChain
  readonly rule: FilterRule | undefined
}

export interface Doubt {
  /** The rule that may match or not. */
  readonly at: Place
  /** The part of the rule that cannot be decided. */
  readonly what: string
  /**
   * The rule that would drop the packet: the undecided one itself, or one of a chain that it would jump to.
   */
  readonly drops: Place
}

export type Fate =
  | { readonly kind: 'passes' }
  | { readonly kind: 'dropped'; readonly by: Place }
  | { readonly kind: 'undecided'; readonly doubts: readonly Doubt[] }

export interface Passage {
  readonly fate: Fate
  /** The packet after the hook: its marks and its connection state may be others. */
  readonly packet: Packet
  /** Rules that change the addresses of the packet. */
  readonly translations: readonly Translation[]
}

export interface Translation {
  readonly at: Place
  readonly how: 'masquerade' | 'snat' | 'dnat' | 'redirect'
  /** The part of the rule that cannot be decided; absent where the rule matches for certain. */
  readonly undecided?: string
}

/** What a rule of NAT does: a translation, or nothing that can be seen. */
type Choice = Omit<Translation, 'how'> & { readonly how: Translation['how'] | 'keep' }
const isTranslation = (choice: Choice): choice is Translation => choice.how !== 'keep'

/** The most rules that one packet meets at one hook. With kube-proxy it is some 10,000 of 50,000. */
const MOST_RULES = 500_000
/** The most jumps within jumps: the kernel's NFT_JUMP_STACK_SIZE. */
const DEEPEST = 16
/** The most doubts that are kept for one hook. */
const MOST_DOUBTS = 20
/**
 * The priority of connection tracking (NF_IP_PRI_CONNTRACK). At the hooks where packets enter the stack,
 * rules before it do not know the connection.
 */
const CONNTRACK = -200

/** The chains of a ruleset, found by hook and by name. */
export class FilterIndex {
  readonly #bases: readonly FilterChain[]
  /** table -> name of a chain -> the chain */
  readonly #tables = new Map<string, Map<string, FilterChain>>()

  constructor(filter: PacketFilter) {
    for (const chain of filter.chains) {
      const key = tableKey(chain)
      const table = this.#tables.get(key) ?? new Map<string, FilterChain>()
      this.#tables.set(key, table.set(chain.name, chain))
    }
    this.#bases = filter.chains
      .filter(({ base }) => base !== undefined)
      .sort((a, b) => (a.base?.priority ?? 0) - (b.base?.priority ?? 0))
  }

  find(from: FilterChain, name: string): FilterChain | undefined {
    return this.#tables.get(tableKey(from))?.get(name)
  }

  /** Names of the chains in the table of a chain. */
  tableNames(chain: FilterChain): readonly string[] {
    return [...(this.#tables.get(tableKey(chain))?.keys() ?? [])]
  }

  /** The base chains of a hook, in the order in which a packet meets them. */
  at(layer: Layer, hook: Hook): readonly FilterChain[] {
    const families: readonly string[] = LAYERS[layer]
    return this.#bases.filter(({ family, base }) => base?.hook === hook && families.includes(family))
  }
}

const tableKey = ({ program, family, table }: FilterChain): string => `${program} ${family} ${table}`

/** The part of the stack that a hook belongs to. */
export type Layer = Family | 'bridge' | 'device'
const LAYERS: Readonly<Record<Layer, readonly string[]>> = {
  IPv4: ['ip', 'inet'],
  IPv6: ['ip6', 'inet'],
  bridge: ['bridge'],
  device: ['netdev', 'inet'],
}

/** Sends a packet through one hook. */
export function passHook(index: FilterIndex, layer: Layer, hook: Hook, packet: Packet): Passage {
  const walk = new Walk(index)
  const translations: Translation[] = []
  const doubts: Doubt[] = []
  let current = packet
  let isTranslated = false
  for (const base of index.at(layer, hook)) {
    const { type = 'filter', priority = 0, devices } = base.base ?? {}
    const isNat = type === 'nat'
    if (isNat && (isTranslated || current.fields['ct-state'] !== 'new')) continue
    const device = current.fields[hook === 'ingress' ? 'iifname' : 'oifname']
    if (layer === 'device' && devices !== undefined && !devices.includes(String(device))) continue
    const early = priority <= CONNTRACK && (hook === 'prerouting' || hook === 'output')
    const state = current.fields['ct-state']
    const seen = early
      ? withFields(current, { 'ct-state': state === 'untracked' ? state : 'invalid' })
      : current
    const end = walk.base(base, seen, layer === 'device' && devices === undefined)
    const changed = end.packet.fields['ct-state']
    current = early && changed === 'invalid' ? withFields(end.packet, { 'ct-state': state }) : end.packet
    doubts.push(...end.doubts)
    const changing = end.choices.filter(isTranslation)
    translations.push(...changing)
    current = afterTranslation(current, changing)
    if (end.choices.some(({ undecided }) => undecided === undefined)) isTranslated = true
    if (end.by !== undefined) return { fate: { kind: 'dropped', by: end.by }, packet: current, translations }
  }
  const fate: Fate =
    doubts.length === 0 ? { kind: 'passes' } : { kind: 'undecided', doubts: doubts.slice(0, MOST_DOUBTS) }
  return { fate, packet: current, translations }
}

/** The translated address of a packet is not known. */
function afterTranslation(packet: Packet, translations: readonly Translation[]): Packet {
  if (translations.length === 0) return packet
  const isArrival = translations.some(({ how }) => how === 'dnat' || how === 'redirect')
  const changed = isArrival
    ? { daddr: undefined, dport: undefined, 'daddr-type': undefined }
    : { saddr: undefined }
  return withFields(packet, { ...changed, 'ct-nat': undefined, 'ct-status': undefined })
}

interface BaseEnd {
  readonly packet: Packet
  /** The rule that drops the packet for certain. */
  readonly by: Place | undefined
  readonly doubts: readonly Doubt[]
  readonly choices: readonly Choice[]
}

/** How a chain ends for a packet. */
type End =
  | { readonly kind: 'on' | 'return' | 'accept' }
  | { readonly kind: 'drop'; readonly by: Place }
  | { readonly kind: 'lost'; readonly at: Place; readonly what: string }

const ON: End = { kind: 'on' }

/** An undecided rule. */
interface Undecided {
  readonly at: Place
  readonly what: string
}

/** One base chain and those that it jumps to. */
class Walk {
  #left = MOST_RULES
  #packet!: Packet
  #doubts: Doubt[] = []
  /** The first undecided rule that would accept the packet before it is dropped. */
  #saves: Undecided[] = []
  #choices: Choice[] = []
  #base!: FilterChain

  constructor(private readonly index: FilterIndex) {}

  /** @param isElsewhere whether the chain may belong to another device */
  base(base: FilterChain, packet: Packet, isElsewhere: boolean): BaseEnd {
    this.#base = base
    this.#packet = packet
    this.#doubts = []
    this.#saves = []
    this.#choices = []
    let end = this.#chain(base, 0)
    if (end.kind === 'on' || end.kind === 'return') end = this.#policy(base)
    const at = { base, chain: base, rule: undefined }
    if (isElsewhere && end.kind === 'drop') {
      this.#doubt({ at, what: 'the device that the chain belongs to', drops: end.by })
    } else if (end.kind === 'drop') {
      const [saved] = this.#saves
      if (saved === undefined) return this.#end(end.by)
      this.#doubt({ ...saved, drops: end.by })
    } else if (end.kind === 'lost') {
      this.#doubt({ at: end.at, what: end.what, drops: end.at })
    }
    return this.#end(undefined)
  }

  #end = (by: Place | undefined): BaseEnd => ({
    packet: this.#packet,
    by,
    doubts: this.#doubts,
    choices: this.#choices,
  })

  #policy(base: FilterChain): End {
    return base.base?.policy === 'drop'
      ? { kind: 'drop', by: { base, chain: base, rule: undefined } }
      : { kind: 'accept' }
  }

  #chain(chain: FilterChain, depth: number): End {
    for (const rule of chain.rules) {
      const at: Place = { base: this.#base, chain, rule }
      if (this.#left-- <= 0)
        return { kind: 'lost', at, what: `more than ${MOST_RULES} rules in the way of one packet` }
      const end = this.#rule(at, rule, depth)
      if (end.kind !== 'on') return end
    }
    return ON
  }

  #rule(at: Place, { steps }: FilterRule, depth: number): End {
    let undecided: string | undefined
    for (const step of steps) {
      const held =
        step.kind === 'if' ? anyHolds(step.any, this.#packet) : step.kind === 'unknown' ? undefined : true
      if (held === false) return ON
      if (held === undefined) {
        undecided ??= step.kind === 'unknown' ? step.what : whatOf(step)
        continue
      }
      if (step.kind === 'if') continue
      const end =
        undecided === undefined ? this.#does(at, step, depth) : this.#might(at, step, depth, undecided)
      if (end.kind !== 'on') return end
    }
    return ON
  }

  #does(at: Place, step: Step, depth: number): End {
    switch (step.kind) {
      case 'verdict':
        return this.#verdict(at, step.verdict, depth)
      case 'verdict-map':
        return this.#map(at, step, depth)
      case 'set-mark':
        this.#packet = withFields(this.#packet, {
          [step.field]: evaluate(step.value, this.#packet) ?? undefined,
        })
        return ON
      case 'nat':
        this.#choices.push({ at, how: step.how })
        return { kind: 'accept' }
      case 'untrack':
        this.#packet = withFields(this.#packet, { 'ct-state': 'untracked', 'ct-mark': null })
        return ON
      default:
        return ON
    }
  }

  #verdict(at: Place, verdict: Verdict, depth: number): End {
    switch (verdict.kind) {
      case 'accept':
      case 'return':
        return { kind: verdict.kind }
      case 'drop':
      case 'reject':
        return { kind: 'drop', by: at }
      case 'jump':
      case 'goto':
        return this.#jump(at, verdict, depth)
      case 'unknown':
        return { kind: 'lost', at, what: verdict.what }
      case 'continue':
        return ON
    }
  }

  #jump(
    at: Place,
    { kind, chain: name }: { readonly kind: 'jump' | 'goto'; readonly chain: string },
    depth: number,
  ): End {
    const target = this.index.find(at.chain, name)
    if (target === undefined || depth >= DEEPEST) return { kind: 'lost', at, what: `the chain ${name}` }
    const end = this.#chain(target, depth + 1)
    if (end.kind !== 'on' && end.kind !== 'return') return end
    // After a jump the calling chain goes on. After a goto the caller of the calling chain goes on.
    return kind === 'goto' ? { kind: 'return' } : ON
  }

  #map(at: Place, { left, entries }: Extract<Step, { kind: 'verdict-map' }>, depth: number): End {
    const values = left.map((expression) => evaluate(expression, this.#packet))
    if (values.includes(null)) return ON
    for (const { row, verdict } of entries) {
      this.#left--
      const held: Holds = rowHolds(row, values)
      if (held === true) return this.#verdict(at, verdict, depth)
      if (held === undefined) this.#might(at, { kind: 'verdict', verdict }, depth, 'an element of a map')
    }
    return ON
  }

  /** Keeps what an undecided rule would do as a doubt. The packet goes on. */
  #might(at: Place, step: Step, depth: number, what: string): End {
    const before = this.#packet
    const { length } = this.#choices
    const saves = this.#saves
    this.#saves = []
    const end = this.#does(at, step, depth)
    if (before !== this.#packet) this.#packet = blurred(before, this.#packet)
    this.#saves = saves
    for (let i = length; i < this.#choices.length; i++) {
      const certain = this.#choices[i]
      if (certain !== undefined) this.#choices[i] = { ...certain, undecided: what }
    }
    if (end.kind === 'drop') this.#doubt({ at, what, drops: end.by })
    else if (end.kind === 'lost') this.#doubt({ at, what: end.what, drops: end.at })
    else if (
      end.kind === 'accept' ||
      (end.kind === 'return' && at.chain === this.#base && this.#base.base?.policy === 'accept')
    )
      this.#saves.push({ at, what })
    return ON
  }

  #doubt(doubt: Doubt): void {
    if (this.#doubts.length < MOST_DOUBTS) this.#doubts.push(doubt)
  }
}

const whatOf = (step: Step): string =>
  step.kind === 'if'
    ? step.any
        .flatMap(({ left }) => left)
        .map((expression) => (expression.kind === 'field' ? expression.field : expression.kind))
        .join(', ')
    : step.kind

/** The values that an undecided rule would have changed are not known any more. */
function blurred(before: Packet, after: Packet): Packet {
  const changed = (['mark', 'ct-mark', 'ct-state'] as const).filter(
    (field) => before.fields[field] !== after.fields[field],
  )
  return withFields(before, Object.fromEntries(changed.map((field) => [field, undefined])))
}
