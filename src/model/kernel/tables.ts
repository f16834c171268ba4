/** Tables of nftables that are ours: chains at hooks, rules, and sets of addresses. */
import type { Family, IpAddress } from '../address'

/** `netdev`: frames at one link. `inet`: IPv4 and IPv6 packets of the host. */
export type TableFamily = 'netdev' | 'inet'

/** What names a table: tables of two families can have one name. */
export interface TableId {
  readonly family: TableFamily
  readonly name: string
}

/** Bytes of a packet that must have a value, or must not have it. */
export interface BytesCondition {
  /**
   * Header at whose start the offset counts: Ethernet, IP, or that of the transport protocol; `fragment`: the
   * fragment header of IPv6. A packet without the header, or one that ends before the last byte, never meets
   * the condition, whatever the comparison.
   */
  readonly header: 'link' | 'network' | 'transport' | 'fragment'
  readonly at: number
  readonly value: readonly number[]
  /** Bits to compare; without a mask all are. */
  readonly mask?: readonly number[]
  readonly not?: true
  /** The bytes, as one number, are `value` or more. */
  readonly orMore?: true
}

/** What the kernel knows of a packet. `protocol`: that of the transport header, an IP protocol number. */
export type FactCondition = { readonly not?: true } & (
  | { readonly fact: 'in-name' | 'out-name'; readonly value: string }
  | { readonly fact: 'protocol'; readonly value: number }
  | { readonly fact: 'family'; readonly value: Family }
  /** The source is an address of this host. */
  | { readonly fact: 'local-source'; readonly value: true }
)

export type Condition = BytesCondition | FactCondition

/** What happens to packets that meet all conditions, in the order of the fields. */
export interface Rule {
  /** Family of the packets; without it any. Of a table of family `netdev`. */
  readonly family?: Family
  readonly conditions: readonly Condition[]
  /** Name of a set of the table that must contain the destination address. */
  readonly to?: string
  /** Most packets per second; bursts of one second's worth pass. */
  readonly limit?: number
  readonly counted?: true
  /** Indexes of links; each sends a copy. */
  readonly copyTo?: readonly number[]
  /**
   * Index of the link that sends the packet itself, which ends here. Without it the packet continues
   * unaffected.
   */
  readonly moveTo?: number
  /**
   * Jump to a chain that returns afterwards; return from such a chain; or the end of the hook's chain, with
   * or without the packet.
   */
  readonly verdict?: { readonly jump: string } | 'return' | 'accept' | 'drop'
}

/** Where packets meet a chain; `priority`: chains with a smaller one come first. */
export interface Hook {
  readonly at: 'input' | 'output' | 'postrouting'
  readonly priority: number
}

/** Rules for packets at one place; without `link` and `hook`, rules that other chains jump to. */
export interface RuleChain {
  readonly name: string
  /** Name of the link by which the frames arrive; of a table of family `netdev`. */
  readonly link?: string
  /** Of a table of family `inet`. */
  readonly hook?: Hook
  /** Verdict on packets that no rule decided; `return` for a chain that others jump to. */
  readonly policy: 'accept' | 'drop' | 'return'
  readonly rules: readonly Rule[]
}

/** A set of addresses of one family. It changes without touching the rules that refer to it. */
export interface AddressSet {
  readonly name: string
  readonly family: Family
  readonly addresses: readonly IpAddress[]
}

/** A table of nftables. All of its content is ours. */
export interface RuleTable extends TableId {
  readonly sets?: readonly AddressSet[]
  readonly chains: readonly RuleChain[]
}
