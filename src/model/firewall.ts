/**
 * Types of the firewall: the request, the rules independent of any program's spelling, and what is read from
 * the kernel.
 */
import type { Family, Prefix } from './address'

/** Which of the kernel's two interfaces holds our chains; flannel's `EnableNFTables` selects it. */
export type FirewallMode = 'iptables' | 'nftables'

/** The overlay in one family. */
export interface FirewallNetwork {
  readonly network: Prefix
  /** Subnet of this host. */
  readonly subnet: Prefix
  /** Ranges of announced prefixes: their packets pass as those of the network. Absent for none. */
  readonly allowed?: readonly Prefix[]
  /** The device on which packets of other hosts arrive. */
  readonly link: string
}

export interface FirewallRequest {
  readonly mode: FirewallMode
  /** One per family in use. Our rules of the other family are removed. */
  readonly networks: readonly FirewallNetwork[]
  /**
   * All devices of this overlay, also of a family that is off. A rule in someone else's chain is ours if it
   * names one of them.
   */
  readonly links: readonly string[]
  /** flannel's --ip-masq. */
  readonly ipMasq: boolean
  /** Whether masquerading should choose random ports. Applied if the program and the kernel support it. */
  readonly fullyRandom: boolean
  /** flannel's --iptables-forward-rules. */
  readonly forwardRules: boolean
  /**
   * Whether dockerd is known to run on this host, so that the rules in Docker's hooks are needed. They are
   * also added where Docker's own rules are found.
   */
  readonly docker: boolean
  /**
   * The bit by which Docker's nftables backend accepts packets of the overlay; `undefined` for no rule that
   * sets it. The rule exists where that backend was found.
   */
  readonly dockerMark?: number | undefined
  /**
   * Suffix for the chains and tables of a further network on the same host, at most {@link LONGEST_SCOPE}
   * characters. Without it they have flannel's names, so that flannel and overlayd can take over from each
   * other in either direction.
   */
  readonly scope?: string
}

/**
 * Characters. iptables takes chain names of at most 28 (XT_EXTENSION_MAXNAMELEN - 1), and ours is
 * `FLANNEL-POSTRTG-SCOPE`.
 */
export const LONGEST_SCOPE = 12

/** A condition on a packet's address. */
export interface AddressMatch {
  readonly prefix: Prefix
  readonly not: boolean
}

/** A rule independent of spelling. A condition that is absent always holds. */
export interface FirewallRule {
  /** Whether the packet has the mark that asks for no masquerading: bit 0x4000, as in Kubernetes. */
  readonly marked?: true
  readonly source?: AddressMatch
  readonly destination?: AddressMatch
  readonly verdict: 'return' | 'masquerade' | 'accept'
}

export type IptablesTable = 'raw' | 'nat' | 'filter'

/**
 * The output of `iptables-save` by table: the lines `:CHAIN ...` and `-A CHAIN ...`. A table that does not
 * exist has no entry. A table with rules that iptables cannot express is `'foreign'`.
 */
export type IptablesListing = ReadonlyMap<IptablesTable, readonly string[] | 'foreign'>

/** A chain that belongs to us as a whole, and the chain that calls it. */
export interface OwnChain {
  readonly table: IptablesTable
  readonly name: string
  readonly parent: string
  /** The rule that calls it, as a line. */
  readonly jump: string
  /** Lines of the chain, `-A NAME ...`; `undefined`: neither the chain nor its call may exist. */
  readonly rules: readonly string[] | undefined
}

/** A rule of ours in someone else's chain. */
export interface HookRule {
  readonly table: IptablesTable
  readonly chain: string
  /** The part after `-A CHAIN `. */
  readonly text: string
  /** Whether the rule must stand before rules that drop, because it has no effect after them. */
  readonly beforeDrops: boolean
  /**
   * When the rule must exist. `docker`: Docker is present, by its program or its rules. `dropped`,
   * `masqueraded`: the chain drops the packets of containers, or changes their source. Otherwise the rule
   * must not exist.
   */
  readonly where: 'docker' | 'dropped' | 'masqueraded'
}

/** Everything of ours in iptables, of one family. */
export interface DesiredIptables {
  readonly family: Family
  readonly chains: readonly OwnChain[]
  readonly hooks: readonly HookRule[]
  /** The network whose packets the rules match; `undefined` if the family is not in use. */
  readonly network: FirewallNetwork | undefined
  /** Whether Docker is known to be on this host, independent of its rules. */
  readonly docker: boolean
}

/** A table of nf_tables that belongs to us as a whole. */
export interface DesiredTable {
  /** Family and name as in nft's commands: `ip flannel-ipv4`. */
  readonly name: string
  /** Text as printed by `nft list table`; `undefined`: the table must not exist. */
  readonly text: string | undefined
}

/** The comment that marks our rules in chains of others. */
export const HOOK_COMMENT = 'overlayd'

/** Whether frames between ports of a bridge pass iptables (br_netfilter). */
export interface BridgeNetfilter {
  /** Whether the module is loaded. */
  readonly present: boolean
  /** Its switches bridge-nf-call-iptables and bridge-nf-call-ip6tables. */
  readonly ipv4: boolean
  readonly ipv6: boolean
}

/** The state of the firewall in the status document. */
export interface FirewallSummary {
  readonly mode: FirewallMode
  /** Why the rules are not in force, or may not be. */
  readonly problem: string | undefined
  /** How often rules that had been in force had to be repaired. */
  readonly repairs: number
}
