/** Reads the conditions of an iptables rule. */
import { type Family, parseIp } from '../model/address'
import type { Condition, Expression, Field, Step, ValueSet } from '../model/packet-filter'
import { type Domain, prefixRange, readValue, SetBuilder } from './values'

/** Turns an option and its arguments into a step; `undefined` if the option has no condition. */
type Reader = (values: readonly string[], not: boolean, at: Context) => Step | undefined

interface Context {
  readonly family: Family
  /** The protocol of `-p`, if the rule has one. */
  readonly protocol: number | undefined
}

interface Option {
  /** Number of arguments after the option. */
  readonly arguments: number
  readonly read: Reader
}

const TCP = 6

const fieldOf = (field: Field, protocols?: readonly number[]): Expression => ({
  kind: 'field',
  field,
  ...(protocols !== undefined && { protocols }),
})

const condition = (left: Expression, set: ValueSet, not: boolean): Condition => ({
  left: [left],
  operator: not ? '!=' : '==',
  rows: [[set]],
})

const when = (...any: Condition[]): Step => ({ kind: 'if', any })

const lost = (what: string): Step => ({ kind: 'unknown', what })

/** `A`, `A:B`, `A:` or lists of them. */
function portSet(texts: readonly string[], domain: Domain = 'port'): ValueSet {
  const builder = new SetBuilder()
  for (const text of texts) {
    const [first = '', last] = text.split(':')
    if (last === undefined) builder.value(readValue(domain, first))
    else builder.range([readValue(domain, first || '0'), readValue(domain, last || '65535')])
  }
  return builder.build()
}

/** Reads a comma list of addresses. A set cannot hold an address with a mask that is not a prefix. */
function addressStep(field: Field, text: string, not: boolean): Step {
  const builder = new SetBuilder()
  for (const each of text.split(',')) {
    const [address, length] = each.split('/')
    const ip = parseIp(address ?? '')
    const bits = typeof ip === 'number' ? 32 : 128
    const mask = length === undefined ? bits : Number(length)
    builder.range(ip === undefined || Number.isNaN(mask) ? undefined : prefixRange(ip, mask))
  }
  const set = builder.build()
  if (set.isPartial) return maskedAddress(field, text, not)
  return when(condition(fieldOf(field), set, not))
}

/** An address with an arbitrary mask, such as `10.0.0.1/255.0.0.255`. */
function maskedAddress(field: Field, text: string, not: boolean): Step {
  const [value, mask] = text.split('/').map((part) => parseIp(part))
  if (value === undefined || mask === undefined || typeof value !== typeof mask)
    return lost(`the address ${text}`)
  const left: Expression = {
    kind: 'bits',
    operator: '&',
    operands: [fieldOf(field), { kind: 'value', value: mask }],
  }
  return when(condition(left, new SetBuilder().value(value).build(), not))
}

const names = (field: Field, wildcard?: '+'): Option => ({
  arguments: 1,
  read: ([text = ''], not) => {
    const builder = new SetBuilder()
    for (const each of text.split(',')) builder.value(each, wildcard)
    return when(condition(fieldOf(field), builder.build(), not))
  },
})

const lowerNames = (field: Field): Option => ({
  arguments: 1,
  read: ([text = ''], not) => {
    const builder = new SetBuilder()
    for (const each of text.split(',')) builder.value(each.toLowerCase())
    return when(condition(fieldOf(field), builder.build(), not))
  },
})

const ports = (...fields: readonly Field[]): Option => ({
  arguments: 1,
  read: ([text = ''], not, { protocol }) => {
    const set = portSet(text.split(','))
    const left = (field: Field) => fieldOf(field, protocol === undefined ? undefined : [protocol])
    // `! --ports` requires two conditions at once (neither port is listed). A step can only say "any of".
    if (not && fields.length > 1) return lost('! --ports')
    return when(...fields.map((field) => condition(left(field), set, not)))
  },
})

const marks = (field: Field): Option => ({
  arguments: 1,
  read: ([text = ''], not) => {
    const [value, mask] = text.split('/').map(Number)
    if (value === undefined || Number.isNaN(value)) return lost(`the mark ${text}`)
    const bits = { kind: 'value', value: mask ?? 0xffffffff } as const
    const left: Expression =
      mask === undefined ? fieldOf(field) : { kind: 'bits', operator: '&', operands: [fieldOf(field), bits] }
    return when(condition(left, new SetBuilder().value(value).build(), not))
  },
})

const range = (field: Field): Option => ({
  arguments: 1,
  read: ([text = ''], not) => {
    const [first, last] = text.split('-').map((part) => parseIp(part))
    const set = new SetBuilder().range([first, last ?? first]).build()
    return when(condition(fieldOf(field), set, not))
  },
})

const icmp = (domain: 'icmp' | 'icmpv6', protocol: number): Option => ({
  arguments: 1,
  read: ([text = ''], not) => {
    if (text === 'any') return undefined
    const [type = '', code] = text.split('/')
    if (code !== undefined) return lost(`the ICMP code ${text}`)
    return when(
      condition(
        fieldOf('icmp-type', [protocol]),
        new SetBuilder().value(readValue(domain, type)).build(),
        not,
      ),
    )
  },
})

function tcpFlags(mask: string, wanted: string, not: boolean): Step {
  const bits = (text: string): number | undefined => {
    const values = text.split(',').map((word) => readValue('flags', word))
    return values.every((value) => typeof value === 'number')
      ? values.reduce((sum, value) => sum | value, 0)
      : undefined
  }
  const [of, value] = [bits(mask), bits(wanted)]
  if (of === undefined || value === undefined) return lost(`--tcp-flags ${mask} ${wanted}`)
  const left: Expression = {
    kind: 'bits',
    operator: '&',
    operands: [fieldOf('tcp-flags', [TCP]), { kind: 'value', value: of }],
  }
  return when(condition(left, new SetBuilder().value(value).build(), not))
}

/** match name and option -> its reader; `-` stands for options that need no match */
const OPTIONS: Readonly<Record<string, Option>> = {
  '- -s': { arguments: 1, read: ([text = ''], not) => addressStep('saddr', text, not) },
  '- -d': { arguments: 1, read: ([text = ''], not) => addressStep('daddr', text, not) },
  '- -i': names('iifname', '+'),
  '- -o': names('oifname', '+'),
  '- -p': {
    arguments: 1,
    read: ([text = ''], not) =>
      text === 'all'
        ? undefined
        : when(
            condition(fieldOf('protocol'), new SetBuilder().value(readValue('protocol', text)).build(), not),
          ),
  },
  '- -f': {
    arguments: 0,
    read: (_, not) => when(condition(fieldOf('fragment-offset'), new SetBuilder().value(0).build(), !not)),
  },
  'comment --comment': { arguments: 1, read: () => undefined },
  'tcp --sport': ports('sport'),
  'tcp --dport': ports('dport'),
  'udp --sport': ports('sport'),
  'udp --dport': ports('dport'),
  'sctp --sport': ports('sport'),
  'sctp --dport': ports('dport'),
  'tcp --tcp-flags': { arguments: 2, read: ([mask = '', wanted = ''], not) => tcpFlags(mask, wanted, not) },
  'tcp --syn': { arguments: 0, read: (_, not) => tcpFlags('FIN,SYN,RST,ACK', 'SYN', not) },
  'multiport --sports': ports('sport'),
  'multiport --dports': ports('dport'),
  'multiport --ports': ports('sport', 'dport'),
  'conntrack --ctstate': { arguments: 1, read: ([text = ''], not) => ctState(text, not) },
  'state --state': { arguments: 1, read: ([text = ''], not) => ctState(text, not) },
  'conntrack --ctdir': lowerNames('ct-direction'),
  'mark --mark': marks('mark'),
  'connmark --mark': marks('ct-mark'),
  'addrtype --src-type': lowerNames('saddr-type'),
  'addrtype --dst-type': lowerNames('daddr-type'),
  'iprange --src-range': range('saddr'),
  'iprange --dst-range': range('daddr'),
  'icmp --icmp-type': icmp('icmp', 1),
  'icmp6 --icmpv6-type': icmp('icmpv6', 58),
  'pkttype --pkt-type': lowerNames('packet-type'),
  'physdev --physdev-in': names('physin', '+'),
  'physdev --physdev-out': names('physout', '+'),
  'socket --transparent': {
    arguments: 0,
    read: () => when(condition(fieldOf('socket'), new SetBuilder().value(1).build(), false)),
  },
}

function ctState(text: string, not: boolean): Step {
  const builder = new SetBuilder()
  // The list may contain DNAT and SNAT, which are states of the address. No packet of ours has them.
  for (const each of text.split(',')) builder.value(each.toLowerCase())
  return when(condition(fieldOf('ct-state'), builder.build(), not))
}

const own = (key: string): Option | undefined => (Object.hasOwn(OPTIONS, key) ? OPTIONS[key] : undefined)

/** Matches that are complete without an option of their own. */
const BARE: ReadonlySet<string> = new Set([
  'comment',
  'tcp',
  'udp',
  'sctp',
  'icmp',
  'icmp6',
  'multiport',
  'conntrack',
  'state',
])

/** @param words the words of a rule before its target */
export function readMatches(words: readonly string[], family: Family): Step[] {
  const protocol =
    words.indexOf('-p') === -1 ? undefined : readValue('protocol', words[words.indexOf('-p') + 1])
  const at: Context = { family, protocol: typeof protocol === 'number' ? protocol : undefined }
  const steps: Step[] = []
  let match = '-'
  let isRead = true
  let not = false
  for (let i = 0; i < words.length; i++) {
    const word = words[i] ?? ''
    if (word === '!') {
      not = true
    } else if (word === '-m') {
      if (!isRead && !BARE.has(match)) steps.push(lost(`the match ${match}`))
      match = words[++i] ?? ''
      isRead = false
    } else {
      const option = own(`- ${word}`) ?? own(`${match} ${word}`)
      if (option === undefined) {
        // The words up to the next match belong to the unknown option.
        steps.push(lost(`the match ${match}`))
        while (i + 1 < words.length && words[i + 1] !== '-m') i++
        isRead = true
      } else {
        const step = option.read(words.slice(i + 1, i + 1 + option.arguments), not, at)
        if (step !== undefined) steps.push(step)
        i += option.arguments
        if (!word.startsWith('-') || word.startsWith('--')) isRead = true
      }
      not = false
    }
  }
  if (!isRead && !BARE.has(match)) steps.push(lost(`the match ${match}`))
  return steps
}
