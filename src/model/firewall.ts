/** The words of the firewall: what is asked of it, its rules apart from any program's spelling, and what is read from the kernel. */
import type { Family, Prefix } from './address'

/** Which of the kernel's two interfaces holds our chains; flannel's `EnableNFTables`. */
export type FirewallMode = 'iptables' | 'nftables'

/** The overlay in one family. */
export interface FirewallNetwork {
  readonly network: Prefix
  /** This host's. */
  readonly subnet: Prefix
  /** The device on which packets of other hosts come in. */
  readonly link: string
}

export interface FirewallRequest {
  readonly mode: FirewallMode
  /** One for each family in use. What exists of ours for another family is removed. */
  readonly networks: readonly FirewallNetwork[]
  /** All devices of this overlay, also of a family that is off: a rule in a chain of others is ours when it names one of them. */
  readonly links: readonly string[]
  /** flannel's --ip-masq. */
  readonly ipMasq: boolean
  /** Whether masquerading picks ports at random; carried out where the program and the kernel can. */
  readonly fullyRandom: boolean
  /** flannel's --iptables-forward-rules. */
  readonly forwardRules: boolean
  /** Whether dockerd is on this host, and so its hooks are to be filled. */
  readonly docker: boolean
  /**
   * Sets the chains and tables of a further network on the same host apart, at most {@link LONGEST_SCOPE} characters. Without one they have
   * flannel's names, so that a hand-over in either direction finds the other's.
   */
  readonly scope?: string
}

/** iptables takes chain names of at most 28 characters (XT_EXTENSION_MAXNAMELEN - 1), and ours is `FLANNEL-POSTRTG-SCOPE`. */
export const LONGEST_SCOPE = 12

/** A condition on a packet's address. */
export interface AddressMatch {
  readonly prefix: Prefix
  readonly not: boolean
}

/** A rule apart from spelling. Conditions that are left out always hold. */
export interface FirewallRule {
  /** Whether the packet has the mark by which others ask for no masquerading: bit 0x4000, as in Kubernetes. */
  readonly marked?: true
  readonly source?: AddressMatch
  readonly destination?: AddressMatch
  readonly verdict: 'return' | 'masquerade' | 'accept'
}

export type IptablesTable = 'raw' | 'nat' | 'filter'

/**
 * What `iptables-save` prints, by table: its lines `:CHAIN ...` and `-A CHAIN ...`. A table that does not exist has no entry; one that holds
 * rules which iptables cannot express is `'foreign'`.
 */
export type IptablesListing = ReadonlyMap<IptablesTable, readonly string[] | 'foreign'>

/** A chain that is ours altogether, and the place it is called from. */
export interface OwnChain {
  readonly table: IptablesTable
  readonly name: string
  readonly parent: string
  /** The line that calls it. */
  readonly jump: string
  /** Lines of the chain, `-A NAME ...`; `undefined`: neither chain nor call may exist. */
  readonly rules: readonly string[] | undefined
}

/** A rule of ours in a chain of someone else's. */
export interface HookRule {
  readonly table: IptablesTable
  readonly chain: string
  /** After `-A CHAIN `. */
  readonly text: string
  /** Whether it is without effect behind a rule that drops. */
  readonly beforeDrops: boolean
}

/** All that is ours in iptables, of one family. */
export interface DesiredIptables {
  readonly family: Family
  readonly chains: readonly OwnChain[]
  readonly hooks: readonly HookRule[]
}

/** A table of nf_tables that is ours altogether. */
export interface DesiredTable {
  /** As in nft's commands: `ip flannel-ipv4`. */
  readonly name: string
  /** As `nft list table` prints it; `undefined`: it may not exist. */
  readonly text: string | undefined
}

/** The comment that marks our rules in chains of others. */
export const HOOK_COMMENT = 'overlayd'

/** Whether frames between ports of a bridge go through iptables (br_netfilter). */
export interface BridgeNetfilter {
  /** Whether the module is there. */
  readonly present: boolean
  /** Its switches bridge-nf-call-iptables and -ip6tables. */
  readonly ipv4: boolean
  readonly ipv6: boolean
}

/** What the daemon tells of its firewall. */
export interface FirewallSummary {
  readonly mode: FirewallMode
  /** Why the rules are not, or may not be, in force. */
  readonly problem: string | undefined
  /** How often rules that had been in force had to be put right. */
  readonly repairs: number
}
