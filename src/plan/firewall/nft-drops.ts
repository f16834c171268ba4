/**
 * Finds drops in other programs' tables of nf_tables. Our accept does not override them, so all we can do is
 * report the rule. Only rules that certainly drop all packets of containers are reported; nothing is reported
 * if an earlier rule may accept them.
 */
import { type Family, familyOf, formatPrefix, parseIp, prefixContains } from '../../model/address'
import type { FirewallNetwork } from '../../model/firewall'
import { readChains } from './nft-listing'

export interface NftDrop {
  /** The rule as nft prints it, with its table and chain. */
  readonly rule: string
  readonly fix: string
}

/** Tables of iptables' nf_tables variant: they are judged as iptables rules instead. */
const IPTABLES = /^ip6? (?:raw|mangle|nat|filter|security)$/
const OURS = /^ip6? flannel-ipv[46]/
/** A rule that drops or rejects every packet. */
const WHATEVER = new RegExp(
  String.raw`^(?:counter(?: packets \d+ bytes \d+)? |log(?: prefix "[^"]*")? )*` +
    '(?:drop|reject(?: with .*)?)(?: comment ".*")?$',
)
/** A rule about packets of existing connections only: it decides nothing about new ones. */
const KNOWN_ONLY = /^ct state (?!.*\bnew\b)(?:\S+|\{[^}]*\}|vmap \{[^}]*\}) ?/

/** The first such drop in each chain of others that the network's packets pass. */
export function findNftDrops(ruleset: string, network: FirewallNetwork): NftDrop[] {
  const family = familyOf(network.network.address)
  const words: Readonly<Record<Family, string>> = { IPv4: 'ip', IPv6: 'ip6' }
  const chains = readChains(ruleset).filter(
    ({ table }) =>
      [words[family], 'inet'].includes(table.split(' ')[0] ?? '') &&
      !IPTABLES.test(table) &&
      !OURS.test(table),
  )
  return chains.flatMap(({ table, name, hook, policy, rules }): NftDrop[] => {
    const place = `table ${table}, chain ${name}`
    if (hook === 'prerouting') {
      const rule = rules.find(({ text }) => dropsContainer(text, words[family], network))
      return rule === undefined ? [] : [{ rule: `${place}: ${rule.text}`, fix: fixOf(table, name, network) }]
    }
    if (hook !== 'forward') return []
    for (const { text } of rules) {
      if (WHATEVER.test(text)) return [{ rule: `${place}: ${text}`, fix: fixOf(table, name, network) }]
      if (KNOWN_ONLY.test(text)) continue
      // The rule may accept our packets.
      if (/\b(?:accept|jump|goto|vmap)\b/.test(text)) return []
    }
    return policy === 'drop' ? [{ rule: `${place}: policy drop`, fix: fixOf(table, name, network) }] : []
  })
}

/**
 * Whether it is Docker's rule that drops packets routed to a container: `ip daddr 10.5.1.2 iifname != {
 * docker0 } counter drop`.
 */
function dropsContainer(text: string, word: string, { subnet, link }: FirewallNetwork): boolean {
  const [, address = ''] = new RegExp(`^${word} daddr (\\S+) `).exec(text) ?? []
  const parsed = parseIp(address)
  return (
    parsed !== undefined &&
    familyOf(parsed) === familyOf(subnet.address) &&
    prefixContains(subnet, parsed) &&
    /\biifname != /.test(text) &&
    !text.includes(`"${link}"`) &&
    /\bdrop\b/.test(text)
  )
}

function fixOf(table: string, chain: string, { network, link }: FirewallNetwork): string {
  if (/^ip6? docker-bridges$/.test(table)) {
    return (
      'start dockerd with --allow-direct-routing and --bridge-accept-fwmark, ' +
      'or with --firewall-backend=iptables'
    )
  }
  const text = formatPrefix(network)
  if (table === 'inet firewalld') {
    const zone = `--zone=trusted --add-interface=${link} --add-source=${text}`
    return `firewall-cmd --permanent ${zone} && firewall-cmd --reload`
  }
  const word = typeof network.address === 'number' ? 'ip' : 'ip6'
  const insert = (field: string): string =>
    `nft insert rule ${table} ${chain} ${word} ${field} ${text} accept`
  return `${insert('saddr')}; ${insert('daddr')}`
}
