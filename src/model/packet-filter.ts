/**
 * The packet filter of a host, independent of nft's and iptables' syntax: chains at hooks, rules of
 * conditions and verdicts. A part that these types cannot express is an `unknown` with its name; it is never
 * left out.
 */
import type { Family } from './address'

/** Points where a packet meets rules (linux/netfilter.h, nft(8)). */
export type Hook = 'ingress' | 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting' | 'egress'

export type FilterFamily = 'ip' | 'ip6' | 'inet' | 'bridge' | 'netdev' | 'arp'

/**
 * IPv4 addresses, ports and marks are numbers; IPv6 addresses are bigints; interfaces and states are strings.
 */
export type Value = number | bigint | string

/** A property of a packet that a condition can test. */
export type Field =
  | 'saddr'
  | 'daddr'
  | 'sport'
  | 'dport'
  /** IP protocol number. */
  | 'protocol'
  | 'icmp-type'
  | 'tcp-flags'
  | 'fragment-offset'
  /** The offset in the fragment header of IPv6. */
  | 'fragment-header'
  /** The network of a VXLAN packet (RFC 7348). */
  | 'vni'
  | 'iifname'
  | 'oifname'
  /** The bridges a frame came from and goes to; known to the bridge family only. */
  | 'ibrname'
  | 'obrname'
  /** Ports of a bridge, as br_netfilter records them. */
  | 'physin'
  | 'physout'
  | 'mark'
  | 'ct-mark'
  | 'ct-state'
  | 'ct-direction'
  | 'ct-status'
  /** `dnat` or `snat` if an address of the connection is translated, else `none`. */
  | 'ct-nat'
  | 'packet-type'
  /** `ipv4`, `ipv6` */
  | 'nfproto'
  /** `ip`, `ip6` */
  | 'ethertype'
  /** `local`, `unicast`, ... (rtnetlink's RTN_*). */
  | 'saddr-type'
  | 'daddr-type'
  /** 1 if the route to the packet's source uses the interface it arrived on, else 0. */
  | 'reverse-path'
  /** Whether a local socket takes the packet. */
  | 'socket'

export type Expression =
  | {
      readonly kind: 'field'
      readonly field: Field
      /** The field exists only in packets of this family, or of these IP protocols. */
      readonly family?: Family
      readonly protocols?: readonly number[]
    }
  | { readonly kind: 'value'; readonly value: Value }
  | { readonly kind: 'bits'; readonly operator: BitOperator; readonly operands: readonly Expression[] }
  | { readonly kind: 'unknown'; readonly what: string }

export type BitOperator = '&' | '|' | '^' | '<<' | '>>'

/** Single values, ranges with both ends included, and prefixes of names. */
export interface ValueSet {
  readonly exact: ReadonlySet<Value>
  /** Sorted by their first value. */
  readonly ranges: readonly (readonly [Value, Value])[]
  readonly beginnings: readonly string[]
  /** Whether a part of the set could not be read. */
  readonly isPartial: boolean
}

export type Operator = '==' | '!=' | '<' | '>' | '<=' | '>=' | 'has-bit'

/** Compares all of `left`, as a tuple, with `rows`. A row matches if each of its sets contains its value. */
export interface Condition {
  readonly left: readonly Expression[]
  readonly operator: Operator
  readonly rows: readonly (readonly ValueSet[])[]
}

export type Verdict =
  | { readonly kind: 'accept' | 'return' | 'continue' }
  /** `reject` notifies the sender. */
  | { readonly kind: 'drop' | 'reject' }
  | { readonly kind: 'jump' | 'goto'; readonly chain: string }
  | { readonly kind: 'unknown'; readonly what: string }

/** The steps of a rule, executed in order while the conditions hold. */
export type Step =
  | { readonly kind: 'if'; readonly any: readonly Condition[] }
  /** A condition that cannot be evaluated. */
  | { readonly kind: 'unknown'; readonly what: string }
  | { readonly kind: 'verdict'; readonly verdict: Verdict }
  | {
      readonly kind: 'verdict-map'
      readonly left: readonly Expression[]
      readonly entries: readonly { readonly row: readonly ValueSet[]; readonly verdict: Verdict }[]
    }
  | { readonly kind: 'set-mark'; readonly field: 'mark' | 'ct-mark'; readonly value: Expression }
  /** `keep`: NAT chooses the source that the packet has, so that no later chain chooses another. */
  | { readonly kind: 'nat'; readonly how: 'masquerade' | 'snat' | 'dnat' | 'redirect' | 'keep' }
  | { readonly kind: 'untrack' }

export interface FilterRule {
  /** Text as the program prints it. */
  readonly text: string
  /** Position in its chain, counted from 1 as iptables does. */
  readonly number: number
  /** nft's handle; `undefined` for iptables. */
  readonly handle: number | undefined
  readonly steps: readonly Step[]
}

/** The properties of a base chain. */
export interface Base {
  readonly hook: Hook
  readonly type: 'filter' | 'nat' | 'route'
  readonly priority: number
  readonly policy: 'accept' | 'drop'
  /** The interfaces of an ingress or egress chain; `undefined` if nft does not list them. */
  readonly devices?: readonly string[] | undefined
}

/** The program that lists and changes the rules of a chain. */
export type FilterProgram = 'nft' | 'iptables' | 'iptables-legacy'

export interface FilterChain {
  readonly program: FilterProgram
  readonly family: FilterFamily
  readonly table: string
  readonly name: string
  /** `undefined` for a chain that is only jumped to. */
  readonly base: Base | undefined
  readonly rules: readonly FilterRule[]
}

/** Rules that may exist and could not be read. */
export interface UnreadRules {
  /** Which, and why. */
  readonly text: string
  /** Whether this user has no right to read them. */
  readonly denied: boolean
}

export interface PacketFilter {
  readonly chains: readonly FilterChain[]
  readonly unread: readonly UnreadRules[]
}
