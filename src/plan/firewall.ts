/**
 * The rules that let overlay packets reach Docker's containers. Docker drops what is routed to a container from outside its bridge: with the
 * FORWARD policy where it switched forwarding on itself, and since version 28 by a rule for each container in raw PREROUTING and one
 * in its DOCKER chain. Accepting must be done in Docker's own hooks: an accept in a table of our own does not undo a drop in another.
 */
import { formatPrefix, type Ipv4Prefix } from '../model/address'
import {
  type FirewallCommand,
  type FirewallListing,
  type FirewallRule,
  RULE_COMMENT,
} from '../model/firewall'

/** Called by Docker from the head of FORWARD, and left to others to fill; Docker keeps one that is there before it. */
const DOCKER_USER = 'DOCKER-USER'

/** What must be there for one network: accept what comes in and goes out by our device, with addresses of the network. */
export function dockerRules(link: string, network: Ipv4Prefix): FirewallRule[] {
  const addresses = formatPrefix(network)
  const accept = ['-m', 'comment', '--comment', RULE_COMMENT, '-j', 'ACCEPT']
  const incoming = ['-s', addresses, '-i', link, ...accept]
  const outgoing = ['-d', addresses, '-o', link, ...accept]
  return [
    { table: 'raw', chain: 'PREROUTING', words: incoming, beforeDrops: true },
    { table: 'filter', chain: DOCKER_USER, words: incoming, beforeDrops: false },
    { table: 'filter', chain: DOCKER_USER, words: outgoing, beforeDrops: false },
  ]
}

/**
 * The calls that bring the rules into force: missing chains are made, missing rules go to the head of their chain, ours that are out of
 * place, there twice, or of an earlier network of the same device go. Nothing of anyone else is touched.
 * @param link the device whose rules are ours
 */
export function diffFirewall(
  link: string,
  desired: readonly FirewallRule[],
  observed: FirewallListing,
): FirewallCommand[] {
  const tables = [...new Set(desired.map(({ table }) => table))]
  return tables.flatMap((table) => {
    const lines = observed.get(table) ?? []
    const wanted = desired.filter((rule) => rule.table === table)
    return [
      ...makeChains(table, wanted, lines),
      ...deleteStale(table, link, wanted, lines),
      ...insert(wanted, lines),
    ]
  })
}

const lineOf = ({ chain, words }: FirewallRule): string => ['-A', chain, ...words].join(' ')

function makeChains(
  table: string,
  wanted: readonly FirewallRule[],
  lines: readonly string[],
): FirewallCommand[] {
  const chains = new Set(wanted.map(({ chain }) => chain))
  const isThere = (chain: string): boolean =>
    lines.some((line) => line === `-N ${chain}` || line.startsWith(`-P ${chain} `))
  return [...chains].filter((chain) => !isThere(chain)).map((chain) => ['-t', table, '-N', chain])
}

function deleteStale(
  table: string,
  link: string,
  wanted: readonly FirewallRule[],
  lines: readonly string[],
): FirewallCommand[] {
  const isOurs = (line: string): boolean =>
    line.startsWith('-A ') && line.includes(` --comment ${RULE_COMMENT} `) && line.split(' ').includes(link)
  const inPlace = wanted.map((rule) => placeOf(rule, lines))
  return lines
    .filter((line, index) => isOurs(line) && !inPlace.includes(index))
    .map((line) => ['-t', table, '-D', ...line.split(' ').slice(1)])
}

function insert(wanted: readonly FirewallRule[], lines: readonly string[]): FirewallCommand[] {
  return wanted
    .filter((rule) => placeOf(rule, lines) === undefined)
    .map(({ table, chain, words }) => ['-t', table, '-I', chain, ...words])
}

/** Index of the line by which the rule is in force. */
function placeOf(rule: FirewallRule, lines: readonly string[]): number | undefined {
  const place = lines.indexOf(lineOf(rule))
  if (place === -1) return undefined
  const drop = lines.findIndex((line) => line.startsWith(`-A ${rule.chain} `) && line.endsWith(' -j DROP'))
  return rule.beforeDrops && drop !== -1 && drop < place ? undefined : place
}
