/**
 * Reads nft's conditions in JSON: the left side (a property of a packet) and the values it is compared with.
 */
import { parseIp } from '../model/address'
import type {
  BitOperator,
  Condition,
  Expression,
  Field,
  Operator,
  Step,
  ValueSet,
} from '../model/packet-filter'
import { isRecord, list, type Raw, text, word } from './nft-raw'
import { type Domain, prefixRange, readValue, SetBuilder } from './values'

/** The named sets a rule may refer to, and the ones that are compiled already. */
export interface Sets {
  readonly find: (name: string) => Raw | undefined
  readonly compiled: Map<Raw, unknown>
}

/**
 * Deepest nesting of expressions that is read. The kernel has no such limit; no sensible rule comes near it.
 */
const DEEPEST = 16

const TCP = 6
const UDP = 17
/** Protocols whose header begins with two ports. */
const WITH_PORTS: readonly number[] = [TCP, UDP, 33, 132, 136]

interface Left {
  readonly expression: Expression
  readonly domain: Domain
}

const unknown = (what: string): Left => ({ expression: { kind: 'unknown', what }, domain: 'number' })

const field = (
  name: Field,
  domain: Domain,
  only: { family?: 'IPv4' | 'IPv6'; protocols?: readonly number[] } = {},
) => ({
  expression: { kind: 'field' as const, field: name, ...only },
  domain,
})

const IPV4 = { family: 'IPv4' } as const
const IPV6 = { family: 'IPv6' } as const

/** header and field -> our field */
const PAYLOAD: Readonly<Record<string, Left>> = {
  'ip saddr': field('saddr', 'address', IPV4),
  'ip daddr': field('daddr', 'address', IPV4),
  'ip protocol': field('protocol', 'protocol', IPV4),
  'ip frag-off': field('fragment-offset', 'number', IPV4),
  'ip6 saddr': field('saddr', 'address', IPV6),
  'ip6 daddr': field('daddr', 'address', IPV6),
  'ip6 nexthdr': field('protocol', 'protocol', IPV6),
  'tcp sport': field('sport', 'port', { protocols: [TCP] }),
  'tcp dport': field('dport', 'port', { protocols: [TCP] }),
  'tcp flags': field('tcp-flags', 'flags', { protocols: [TCP] }),
  'udp sport': field('sport', 'port', { protocols: [UDP] }),
  'udp dport': field('dport', 'port', { protocols: [UDP] }),
  'sctp sport': field('sport', 'port', { protocols: [132] }),
  'sctp dport': field('dport', 'port', { protocols: [132] }),
  'dccp sport': field('sport', 'port', { protocols: [33] }),
  'dccp dport': field('dport', 'port', { protocols: [33] }),
  'udplite sport': field('sport', 'port', { protocols: [136] }),
  'udplite dport': field('dport', 'port', { protocols: [136] }),
  'th sport': field('sport', 'port', { protocols: WITH_PORTS }),
  'th dport': field('dport', 'port', { protocols: WITH_PORTS }),
  // What nft shows as @th,96,24: 8 bytes of UDP's header, and 4 of VXLAN's.
  'th 96 24': field('vni', 'number', { protocols: [UDP] }),
  'icmp type': field('icmp-type', 'icmp', { protocols: [1] }),
  'icmpv6 type': field('icmp-type', 'icmpv6', { protocols: [58] }),
  'ether type': field('ethertype', 'name'),
}
const META: Readonly<Record<string, Left>> = {
  iifname: field('iifname', 'name'),
  iif: field('iifname', 'name'),
  oifname: field('oifname', 'name'),
  oif: field('oifname', 'name'),
  ibrname: field('ibrname', 'name'),
  ibridgename: field('ibrname', 'name'),
  obrname: field('obrname', 'name'),
  obridgename: field('obrname', 'name'),
  l4proto: field('protocol', 'protocol'),
  protocol: field('ethertype', 'name'),
  nfproto: field('nfproto', 'name'),
  mark: field('mark', 'number'),
  pkttype: field('packet-type', 'name'),
}
const CT: Readonly<Record<string, Left>> = {
  state: field('ct-state', 'name'),
  mark: field('ct-mark', 'number'),
  direction: field('ct-direction', 'name'),
  status: field('ct-status', 'name'),
}

const own = <T>(table: Readonly<Record<string, T>>, key: string): T | undefined =>
  Object.hasOwn(table, key) ? table[key] : undefined

/**
 * Reads the left side of a condition or map.
 * @param domain the domain of plain values in it, such as the value that a mark is set to
 * @returns one expression and domain per part of a concatenation; else one of each
 */
export function leftOf(raw: unknown, domain?: Domain): { left: Expression[]; domains: Domain[] } {
  const parts = isRecord(raw) && Array.isArray(raw['concat']) ? (raw['concat'] as unknown[]) : [raw]
  const read = parts.map((part) => readLeft(part, 0, domain))
  return { left: read.map(({ expression }) => expression), domains: read.map((each) => each.domain) }
}

function readLeft(raw: unknown, depth: number, bare: Domain | undefined): Left {
  if (depth > DEEPEST) return unknown('an expression too deep')
  if (!isRecord(raw)) {
    const value = readValue(bare ?? 'number', raw)
    return value === undefined
      ? unknown(text(raw))
      : { expression: { kind: 'value', value }, domain: bare ?? 'number' }
  }
  const [name = '', value] = Object.entries(raw)[0] ?? []
  switch (name) {
    case 'payload':
      return isRecord(value)
        ? (own(PAYLOAD, payloadKey(value)) ?? unknown(describe('payload', value)))
        : unknown(name)
    case 'exthdr':
      return isRecord(value) && value['name'] === 'frag' && value['field'] === 'frag-off'
        ? field('fragment-header', 'number', IPV6)
        : unknown(name)
    case 'meta':
      return isRecord(value)
        ? (own(META, text(value['key'])) ?? unknown(`meta ${text(value['key'])}`))
        : unknown(name)
    case 'ct':
      return isRecord(value) && value['dir'] === undefined
        ? (own(CT, text(value['key'])) ?? unknown(`ct ${text(value['key'])}`))
        : unknown(name)
    case 'fib':
      return readFib(value)
    case 'socket':
      return field('socket', 'number')
    case '&':
    case '|':
    case '^':
    case '<<':
    case '>>':
      return readBits(name, list(value), depth, bare)
    default:
      return unknown(name)
  }
}

/** A named field of a header, or bits at an offset from its start. */
const payloadKey = (raw: Raw): string =>
  raw['base'] === undefined
    ? `${text(raw['protocol'])} ${text(raw['field'])}`
    : `${text(raw['base'])} ${String(raw['offset'])} ${String(raw['len'])}`

const describe = (name: string, raw: Raw): string =>
  [text(raw['protocol']) || name, text(raw['field'])].filter(Boolean).join(' ')

function readFib(raw: unknown): Left {
  if (!isRecord(raw)) return unknown('fib')
  const flags = list(raw['flags']).map(text)
  const result = text(raw['result'])
  const about = flags.filter((flag) => flag !== 'iif' && flag !== 'mark').join(' ')
  if (result === 'type' && !flags.includes('oif') && (about === 'saddr' || about === 'daddr'))
    return field(about === 'saddr' ? 'saddr-type' : 'daddr-type', 'name')
  const isReverse =
    about === 'saddr' &&
    flags.includes('iif') &&
    (result === 'oif' || result === 'oifname' || result === 'check')
  return isReverse ? field('reverse-path', 'number') : unknown('fib')
}

function readBits(
  operator: BitOperator,
  operands: readonly unknown[],
  depth: number,
  bare: Domain | undefined,
): Left {
  const [first] = operands
  const left = readLeft(first, depth + 1, bare)
  const rest = operands.slice(1).map((operand): Expression => {
    if (Array.isArray(operand) || word(operand) !== undefined || typeof operand === 'number') {
      const bits = readFlags(left.domain, operand)
      return bits === undefined ? { kind: 'unknown', what: text(operand) } : { kind: 'value', value: bits }
    }
    return readLeft(operand, depth + 1, left.domain).expression
  })
  return { expression: { kind: 'bits', operator, operands: [left.expression, ...rest] }, domain: left.domain }
}

/** Reads flags; `["syn", "ack"]` is both bits together. */
function readFlags(domain: Domain, raw: unknown) {
  const values = list(raw).map((each) => readValue(domain, each))
  if (values.length === 1) return values[0]
  return values.every((value) => typeof value === 'number')
    ? values.reduce((sum, value) => sum | value, 0)
    : undefined
}

const OPERATORS: ReadonlySet<string> = new Set<Operator>(['==', '!=', '<', '>', '<=', '>='])

/** The condition of a match; an `unknown` step if it cannot be evaluated. */
export function conditionStep(raw: unknown, sets: Sets): Step {
  if (!isRecord(raw)) return { kind: 'unknown', what: 'a condition' }
  const { left, domains } = leftOf(raw['left'])
  const lost = left.find((expression) => expression.kind === 'unknown')
  if (lost?.kind === 'unknown') return { kind: 'unknown', what: lost.what }
  const operator = text(raw['op']) || '=='
  const isIn = operator === 'in'
  if (!isIn && !OPERATORS.has(operator)) return { kind: 'unknown', what: operator }
  const isFlags = domains.length === 1 && domains[0] === 'flags'
  const rows = readRight(raw['right'], domains, sets, isFlags && !isIn)
  if (rows === undefined) return { kind: 'unknown', what: `the set ${text(raw['right'])}` }
  const condition: Condition = {
    left: isOfTranslation(left, rows) ? [CT_NAT] : left,
    operator: isIn ? (isFlags ? 'has-bit' : '==') : (operator as Operator),
    rows,
  }
  return { kind: 'if', any: [condition] }
}

const CT_NAT: Expression = { kind: 'field', field: 'ct-nat' }
const TRANSLATIONS: ReadonlySet<unknown> = new Set(['dnat', 'snat'])

/**
 * Whether the condition is `ct status dnat` or `snat`: the only status bits known of a packet whose path is
 * known.
 */
function isOfTranslation(
  [left, ...more]: readonly Expression[],
  rows: readonly (readonly ValueSet[])[],
): boolean {
  if (more.length > 0 || left?.kind !== 'field' || left.field !== 'ct-status') return false
  return rows.every(
    ([set]) =>
      set !== undefined && !set.isPartial && [...set.exact].every((value) => TRANSLATIONS.has(value)),
  )
}

function readRight(
  raw: unknown,
  domains: readonly Domain[],
  sets: Sets,
  areFlags: boolean,
): (readonly ValueSet[])[] | undefined {
  const name = word(raw)
  if (name?.startsWith('@')) {
    const set = sets.find(name.slice(1))
    if (set === undefined) return undefined
    const known = sets.compiled.get(set)
    if (known !== undefined) return known as ValueSet[][]
    const rows = readElements(list(set['elem']), domains)
    sets.compiled.set(set, rows)
    return rows
  }
  if (areFlags && (Array.isArray(raw) || isRecord(raw))) {
    const bits = isRecord(raw) ? readFlags('flags', list(raw['|'])) : readFlags('flags', raw)
    if (bits !== undefined) return [[new SetBuilder().value(bits).build()]]
  }
  return readElements(
    isRecord(raw) && raw['set'] !== undefined ? list(raw['set']) : Array.isArray(raw) ? raw : [raw],
    domains,
  )
}

/**
 * With one expression all elements form one set, which is fast to search. With several, each element is a
 * row.
 */
function readElements(elements: readonly unknown[], domains: readonly Domain[]): (readonly ValueSet[])[] {
  if (domains.length !== 1) return elements.map((element) => readRow(element, domains))
  const builder = new SetBuilder()
  for (const element of elements) addTo(builder, bare(element), domains[0] ?? 'number')
  return [[builder.build()]]
}

/** Reads one element: one set per expression. */
export function readRow(raw: unknown, domains: readonly Domain[]): ValueSet[] {
  const element = bare(raw)
  const parts =
    isRecord(element) && Array.isArray(element['concat']) ? (element['concat'] as unknown[]) : [element]
  return domains.map((domain, i) => {
    const builder = new SetBuilder()
    if (parts.length !== domains.length) builder.unreadable()
    else addTo(builder, bare(parts[i]), domain)
    return builder.build()
  })
}

/** The plain value of an element that may carry a timeout, counter or comment. */
function bare(raw: unknown): unknown {
  const element = isRecord(raw) ? raw['elem'] : undefined
  return isRecord(element) ? element['val'] : element !== undefined ? element : raw
}

function addTo(builder: SetBuilder, raw: unknown, domain: Domain): void {
  if (raw === '*') {
    // The catch-all element: matches whatever no other element matches.
    builder.unreadable()
  } else if (!isRecord(raw)) {
    builder.value(readValue(domain, raw), '*')
  } else if (isRecord(raw['prefix'])) {
    const { addr, len } = raw['prefix']
    const address = typeof addr === 'string' ? parseIp(addr) : undefined
    builder.range(address === undefined ? undefined : prefixRange(address, Number(len)))
  } else if (Array.isArray(raw['range'])) {
    const [first, last] = raw['range'] as unknown[]
    builder.range([readValue(domain, first), readValue(domain, last)])
  } else if (Array.isArray(raw['set'])) {
    for (const each of raw['set'] as unknown[])
      if (!isRecord(bare(each)) || !('set' in (bare(each) as Raw))) addTo(builder, bare(each), domain)
  } else {
    builder.unreadable()
  }
}
