/** A rule of the iptables firewall, in the words and the order in which `iptables -S` prints them. */
export interface FirewallRule {
  readonly table: FirewallTable
  readonly chain: string
  /** After `-A CHAIN`. No word has a blank. */
  readonly words: readonly string[]
  /** Whether it is without effect behind a rule that drops. */
  readonly beforeDrops: boolean
}

export type FirewallTable = 'raw' | 'filter'

/** What `iptables -t TABLE -S` prints, by table: a line each. */
export type FirewallListing = ReadonlyMap<FirewallTable, readonly string[]>

/** Arguments of one call of `iptables`. */
export type FirewallCommand = readonly string[]

/** The comment that marks our rules. */
export const RULE_COMMENT = 'overlayd'
