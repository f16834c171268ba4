/** Turns values in rules of nft and iptables into values as packets have them. */
import { addressBits, familyOf, type IpAddress, parseIp } from '../model/address'
import type { Value, ValueSet } from '../model/packet-filter'

/** The kind of thing a value stands for. */
export type Domain = 'address' | 'port' | 'protocol' | 'icmp' | 'icmpv6' | 'flags' | 'name' | 'number'

/** IP protocol numbers by the names that nft and iptables use (IANA). */
export const PROTOCOLS: Readonly<Record<string, number>> = {
  ip: 0,
  icmp: 1,
  igmp: 2,
  ipencap: 4,
  ipip: 4,
  tcp: 6,
  udp: 17,
  dccp: 33,
  ipv6: 41,
  gre: 47,
  esp: 50,
  ah: 51,
  'ipv6-icmp': 58,
  icmpv6: 58,
  icmp6: 58,
  ospf: 89,
  pim: 103,
  vrrp: 112,
  sctp: 132,
  udplite: 136,
}

/** ICMP types by the names of both programs (RFC 792, RFC 4443, RFC 4861). */
const ICMP: Readonly<Record<string, number>> = {
  'echo-reply': 0,
  'destination-unreachable': 3,
  'source-quench': 4,
  redirect: 5,
  'echo-request': 8,
  'router-advertisement': 9,
  'router-solicitation': 10,
  'time-exceeded': 11,
  'parameter-problem': 12,
  'timestamp-request': 13,
  'timestamp-reply': 14,
  'info-request': 15,
  'info-reply': 16,
  'address-mask-request': 17,
  'address-mask-reply': 18,
}
const ICMPV6: Readonly<Record<string, number>> = {
  'destination-unreachable': 1,
  'packet-too-big': 2,
  'time-exceeded': 3,
  'parameter-problem': 4,
  'echo-request': 128,
  'echo-reply': 129,
  'mld-listener-query': 130,
  'mld-listener-report': 131,
  'mld-listener-done': 132,
  'mld-listener-reduction': 132,
  'nd-router-solicit': 133,
  'router-solicitation': 133,
  'nd-router-advert': 134,
  'router-advertisement': 134,
  'nd-neighbor-solicit': 135,
  'neighbour-solicitation': 135,
  'neighbor-solicitation': 135,
  'nd-neighbor-advert': 136,
  'neighbour-advertisement': 136,
  'neighbor-advertisement': 136,
  'nd-redirect': 137,
  redirect: 137,
  'router-renumbering': 138,
  'ind-neighbor-solicit': 141,
  'ind-neighbor-advert': 142,
  'mld2-listener-report': 143,
}
/** Bits of the TCP header (RFC 9293). */
const TCP_FLAGS: Readonly<Record<string, number>> = {
  fin: 1,
  syn: 2,
  rst: 4,
  psh: 8,
  ack: 16,
  urg: 32,
  ecn: 64,
  cwr: 128,
  all: 63,
  none: 0,
}

const NAMES: Readonly<Partial<Record<Domain, Readonly<Record<string, number>>>>> = {
  protocol: PROTOCOLS,
  icmp: ICMP,
  icmpv6: ICMPV6,
  flags: TCP_FLAGS,
}

/** @returns `undefined` if it is not a value of that domain */
export function readValue(domain: Domain, raw: unknown): Value | undefined {
  if (typeof raw === 'boolean') return raw ? 1 : 0
  if (typeof raw === 'number') return domain === 'name' ? String(raw) : raw
  if (typeof raw !== 'string') return undefined
  if (domain === 'name') return raw
  if (domain === 'address') return parseIp(raw)
  const names = NAMES[domain]
  const word = raw.toLowerCase()
  if (names !== undefined && Object.hasOwn(names, word)) return names[word]
  return /^(?:0x[\da-f]+|\d+)$/i.test(raw) ? Number(raw) : undefined
}

/** First and last address of a prefix; `undefined` if the length is invalid. */
export function prefixRange(address: IpAddress, length: number): [Value, Value] | undefined {
  const bits = addressBits(familyOf(address))
  if (!Number.isInteger(length) || length < 0 || length > bits) return undefined
  if (typeof address === 'number') {
    const size = 2 ** (32 - length)
    const first = Math.floor(address / size) * size
    return [first, first + size - 1]
  }
  const host = BigInt(128 - length)
  const first = (address >> host) << host
  return [first, first + (1n << host) - 1n]
}

/** Collects the values of one set. */
export class SetBuilder {
  readonly #exact = new Set<Value>()
  readonly #ranges: [Value, Value][] = []
  readonly #beginnings: string[] = []
  #isPartial = false

  /** @param wildcard a character that, at the end of a name, matches any rest: nft's `*`, iptables' `+` */
  value(value: Value | undefined, wildcard?: '*' | '+'): this {
    if (value === undefined) this.#isPartial = true
    else if (wildcard !== undefined && typeof value === 'string' && value.endsWith(wildcard))
      this.#beginnings.push(value.slice(0, -1))
    else this.#exact.add(value)
    return this
  }

  range(range: readonly [Value | undefined, Value | undefined] | undefined): this {
    const [first, last] = range ?? []
    if (first === undefined || last === undefined || typeof first !== typeof last) this.#isPartial = true
    else this.#ranges.push([first, last])
    return this
  }

  unreadable(): this {
    this.#isPartial = true
    return this
  }

  build(): ValueSet {
    this.#ranges.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
    return {
      exact: this.#exact,
      ranges: merged(this.#ranges),
      beginnings: this.#beginnings,
      isPartial: this.#isPartial,
    }
  }
}

/** Merges overlapping ranges, so that a binary search by their starts is complete. */
function merged(sorted: readonly (readonly [Value, Value])[]): [Value, Value][] {
  const result: [Value, Value][] = []
  for (const [first, last] of sorted) {
    const before = result.at(-1)
    if (before === undefined || typeof before[1] !== typeof first || first > before[1])
      result.push([first, last])
    else if (last > before[1]) before[1] = last
  }
  return result
}
