/**
 * Reads the output of `nft -j list ruleset` (libnftables-json(5)). None of it is trusted: a part of
 * unexpected shape becomes a condition or verdict of kind `unknown`, and an object that is not a rule is
 * skipped.
 */
import type { Base, FilterChain, FilterFamily, FilterRule, Hook, Step, Verdict } from '../model/packet-filter'
import { conditionStep, leftOf, readRow, type Sets } from './nft-conditions'
import { isRecord, list, type Raw, text, word } from './nft-raw'

const FAMILIES: ReadonlySet<string> = new Set<FilterFamily>(['ip', 'ip6', 'inet', 'bridge', 'netdev', 'arp'])
const HOOKS: ReadonlySet<string> = new Set<Hook>([
  'ingress',
  'prerouting',
  'input',
  'forward',
  'output',
  'postrouting',
  'egress',
])

/** Statements that neither test a packet nor change anything that later rules test. */
const WITHOUT_EFFECT: ReadonlySet<string> = new Set([
  'counter',
  'log',
  'last',
  'ct helper',
  'ct timeout',
  'ct expectation',
  'secmark',
  'flow',
  'dup',
  'comment',
])
/** Targets of xtables without such an effect either. */
const XT_WITHOUT_EFFECT: ReadonlySet<string> = new Set([
  'LOG',
  'NFLOG',
  'ULOG',
  'TRACE',
  'TCPMSS',
  'CHECKSUM',
  'CLASSIFY',
])

/** The text of each rule by {@link ruleKey}, such as `inet firewalld filter_FORWARD 12`. */
export type RuleTexts = ReadonlyMap<string, string>
export const ruleKey = (family: string, table: string, chain: string, handle: number | undefined): string =>
  `${family} ${table} ${chain} ${handle ?? '?'}`

/**
 * @param json output of nft
 * @param texts texts of rules from `nft -a list ruleset`; a rule without text is described by its JSON
 * @throws {SyntaxError} if the text is not JSON
 */
export function readNftRuleset(json: string, texts: RuleTexts = new Map()): FilterChain[] {
  const document: unknown = JSON.parse(json)
  return readNftObjects(isRecord(document) ? list(document['nftables']) : [], texts)
}

export function readNftObjects(objects: readonly unknown[], texts: RuleTexts): FilterChain[] {
  const sets: Map<string, Raw> = new Map()
  const rules = new Map<string, FilterRule[]>()
  const found: Omit<FilterChain, 'rules'>[] = []
  for (const object of objects) {
    if (!isRecord(object)) continue
    for (const kind of ['set', 'map'] as const) {
      const set = object[kind]
      if (isRecord(set)) sets.set(placeOf(set, set['name']), set)
    }
    if (isRecord(object['chain'])) found.push(...readChain(object['chain']))
  }
  const compiled = new Map<Raw, unknown>()
  for (const object of objects) {
    if (!isRecord(object) || !isRecord(object['rule'])) continue
    const raw = object['rule']
    const key = placeOf(raw, raw['chain'])
    const of = rules.get(key) ?? []
    if (of.length === 0) rules.set(key, of)
    of.push(readRule(raw, of.length + 1, { find: (name) => sets.get(placeOf(raw, name)), compiled }, texts))
  }
  return found.map((chain) => ({
    ...chain,
    rules: rules.get(`${chain.family} ${chain.table} ${chain.name}`) ?? [],
  }))
}

const placeOf = (raw: Raw, name: unknown): string =>
  `${text(raw['family'])} ${text(raw['table'])} ${text(name)}`

function readChain(raw: Raw): Omit<FilterChain, 'rules'>[] {
  const family = text(raw['family'])
  if (!FAMILIES.has(family)) return []
  const base = readBase(raw)
  return [
    {
      program: 'nft',
      family: family as FilterFamily,
      table: text(raw['table']),
      name: text(raw['name']),
      base,
    },
  ]
}

function readBase(raw: Raw): Base | undefined {
  const hook = text(raw['hook'])
  if (!HOOKS.has(hook)) return undefined
  const type = text(raw['type'])
  const devices = raw['dev'] === undefined ? undefined : list(raw['dev']).map(text)
  return {
    hook: hook as Hook,
    type: type === 'nat' || type === 'route' ? type : 'filter',
    priority: typeof raw['prio'] === 'number' ? raw['prio'] : 0,
    policy: raw['policy'] === 'drop' ? 'drop' : 'accept',
    devices,
  }
}

function readRule(raw: Raw, number: number, sets: Sets, texts: RuleTexts): FilterRule {
  const handle = typeof raw['handle'] === 'number' ? raw['handle'] : undefined
  const key = ruleKey(text(raw['family']), text(raw['table']), text(raw['chain']), handle)
  const expressions = list(raw['expr'])
  return {
    text: texts.get(key) ?? JSON.stringify(expressions).slice(0, 300),
    number,
    handle,
    steps: expressions.flatMap((each) => readStatement(each, sets)),
  }
}

/** Whether it is `snat to ip saddr`, or the same of IPv6. */
function isOwnSource(snat: unknown): boolean {
  const address = isRecord(snat) && snat['port'] === undefined ? snat['addr'] : undefined
  const payload = isRecord(address) ? address['payload'] : undefined
  return isRecord(payload) && payload['field'] === 'saddr'
}

function readStatement(raw: unknown, sets: Sets): Step[] {
  if (!isRecord(raw)) return [unknown('a statement')]
  const [name = '', value] = Object.entries(raw)[0] ?? []
  if (WITHOUT_EFFECT.has(name)) return []
  const verdict = readVerdict(raw)
  if (verdict !== undefined) return [{ kind: 'verdict', verdict }]
  switch (name) {
    case 'match':
      return [conditionStep(value, sets)]
    case 'vmap':
      return [readVerdictMap(value, sets)]
    case 'snat':
      return [{ kind: 'nat', how: isOwnSource(value) ? 'keep' : name }]
    case 'masquerade':
    case 'dnat':
    case 'redirect':
      return [{ kind: 'nat', how: name }]
    case 'notrack':
      return [{ kind: 'untrack' }]
    case 'mangle':
      return readMangle(value)
    case 'xt':
      return readXt(value)
    case 'set':
    case 'map':
      return isRecord(value) && value['stmt'] !== undefined
        ? [unknown('a rate for each element of a set')]
        : []
    default:
      return [unknown(name)]
  }
}

const unknown = (what: string): Step => ({ kind: 'unknown', what })

export function readVerdict(raw: unknown): Verdict | undefined {
  if (!isRecord(raw)) return undefined
  const [name = '', value] = Object.entries(raw)[0] ?? []
  switch (name) {
    case 'accept':
    case 'drop':
    case 'return':
    case 'continue':
    case 'reject':
      return { kind: name }
    case 'jump':
    case 'goto':
      return { kind: name, chain: isRecord(value) ? text(value['target']) : '' }
    case 'queue':
    case 'synproxy':
    case 'tproxy':
    case 'fwd':
      return { kind: 'unknown', what: name }
    default:
      return undefined
  }
}

function readVerdictMap(raw: unknown, sets: Sets): Step {
  if (!isRecord(raw)) return unknown('vmap')
  const { left, domains } = leftOf(raw['key'])
  const name = word(raw['data'])
  const named = name?.startsWith('@') ? sets.find(name.slice(1)) : undefined
  if (named !== undefined) {
    const known = sets.compiled.get(named)
    if (known !== undefined) return known as Step
  }
  const elements = named?.['elem'] ?? (isRecord(raw['data']) ? raw['data']['set'] : undefined)
  if (elements === undefined && named === undefined) return unknown('vmap')
  const entries = list(elements).map((element) => {
    const [key, value] = Array.isArray(element) ? (element as unknown[]) : []
    return {
      row: readRow(key, domains),
      verdict: readVerdict(value) ?? { kind: 'unknown' as const, what: 'a verdict of a map' },
    }
  })
  const step: Step = { kind: 'verdict-map', left, entries }
  if (named !== undefined) sets.compiled.set(named, step)
  return step
}

/** Reads a change of a packet: only changes of marks affect what later rules test of our packets. */
function readMangle(raw: unknown): Step[] {
  if (!isRecord(raw) || !isRecord(raw['key'])) return [unknown('mangle')]
  const { key } = raw
  const [kind, what] = Object.entries(key as Raw)[0] ?? []
  const name = isRecord(what) ? what['key'] : undefined
  if (name !== 'mark' || (kind !== 'meta' && kind !== 'ct')) return []
  const [value] = leftOf(raw['value'], 'number').left
  return [
    {
      kind: 'set-mark',
      field: kind === 'meta' ? 'mark' : 'ct-mark',
      value: value ?? { kind: 'unknown', what: 'a mark' },
    },
  ]
}

/** Reads a match or target of iptables-nft. nft gives only its name; versions before 1.0.2 not even that. */
function readXt(raw: unknown): Step[] {
  const name = isRecord(raw) ? text(raw['name']) : ''
  if (isRecord(raw) && raw['type'] === 'target') {
    if (XT_WITHOUT_EFFECT.has(name)) return []
    if (name === 'REJECT') return [{ kind: 'verdict', verdict: { kind: 'reject' } }]
    const nat = name.toLowerCase()
    if (nat === 'masquerade' || nat === 'snat' || nat === 'dnat' || nat === 'redirect')
      return [{ kind: 'nat', how: nat }]
    return [{ kind: 'verdict', verdict: { kind: 'unknown', what: `the iptables target ${name}` } }]
  }
  return name === 'comment'
    ? []
    : [unknown(name === '' ? 'a condition of iptables' : `the iptables match ${name}`)]
}
