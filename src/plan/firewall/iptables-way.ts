/**
 * Follows the overlay's packets through a chain of iptables, including the chains it calls, by the rules as
 * `iptables-save` prints them. Only rules that match all packets of containers are judged, or all that leave
 * a bridge of ours. A rule on a port, a mark or some addresses is somebody's intention, and is ignored.
 */
import {
  familyOf,
  type IpAddress,
  type Prefix,
  parseIp,
  prefixContains,
  prefixesOverlap,
} from '../../model/address'
import type { FirewallNetwork } from '../../model/firewall'

/**
 * A class of packets. One of their interfaces is our device `link`, the other a bridge of containers of any
 * name. `undefined`: packets that leave by a link of any name, to a network behind this host.
 */
interface Packets {
  readonly source: Prefix
  readonly destination: Prefix
  readonly direction: 'in' | 'out'
  readonly link: string | undefined
}

/** A condition that may be negated. */
interface Match<T> {
  readonly value: T
  readonly not: boolean
}

interface Rule {
  readonly chain: string
  readonly source?: Match<Prefix>
  readonly destination?: Match<Prefix>
  readonly incoming?: Match<string>
  readonly outgoing?: Match<string>
  /** Whether the rule matches packets that open a connection. */
  readonly matchesNew: boolean
  /** Whether the rule has conditions of other kinds. */
  readonly special: boolean
  readonly target: string
}

/** Targets that drop a packet. */
export const DROPS: ReadonlySet<string> = new Set(['DROP', 'REJECT'])
/** Targets that change the source of a packet (iptables-extensions(8)). */
export const MASQUERADES: ReadonlySet<string> = new Set(['MASQUERADE', 'SNAT', 'NETMAP'])

/**
 * The classes of overlay packets: from other hosts' containers to ours, and from ours to theirs. Our
 * containers have addresses of our subnet. Those of announced prefixes, further subnets among them, must not
 * be masqueraded either, nor what goes to a network behind this host.
 */
function packetsOf(
  { network, subnet, allowed = [], link }: FirewallNetwork,
  targets: ReadonlySet<string>,
): readonly Packets[] {
  const announced = targets === MASQUERADES ? allowed : []
  const behind = announced.filter((range) => !prefixesOverlap(range, network))
  return [
    ...[subnet, ...announced].flatMap((own): Packets[] => [
      { source: network, destination: own, direction: 'in', link },
      { source: own, destination: network, direction: 'out', link },
    ]),
    ...behind.map(
      (range): Packets => ({ source: network, destination: range, direction: 'out', link: undefined }),
    ),
  ]
}

/**
 * Finds the first rule of a chain at which all overlay packets of one direction meet one of the targets.
 * @param targets the targets to look for
 * @param isOurs recognizes our rule, after which no rule is an obstacle
 * @returns the rule and its index among the chain's rules, from 0; `undefined` if there is none before ours
 */
export function findObstacle(
  lines: readonly string[],
  chain: string,
  network: FirewallNetwork,
  targets: ReadonlySet<string>,
  isOurs: (line: string) => boolean = () => false,
): { readonly place: number; readonly line: string } | undefined {
  const rules = lines.filter((line) => line.startsWith(`-A ${chain} `))
  const found = packetsOf(network, targets).flatMap((packets) => {
    for (const [place, line] of rules.entries()) {
      if (isOurs(line)) return []
      const end = endOf(line, lines, packets, targets, new Set([chain]))
      if (end === 'obstacle') return [{ place, line }]
      if (end === 'through') return []
    }
    return []
  })
  return found.sort((a, b) => a.place - b.place)[0]
}

/** The effect of one rule on packets: `on` continues with the next rule, `back` returns from the chain. */
function endOf(
  line: string,
  lines: readonly string[],
  packets: Packets,
  targets: ReadonlySet<string>,
  seen: ReadonlySet<string>,
): 'obstacle' | 'through' | 'on' | 'back' {
  const rule = parseRule(line, familyOf(packets.source.address) === 'IPv6')
  if (rule === undefined || !covers(rule, packets, targets)) return 'on'
  const { target } = rule
  if (targets.has(target)) return 'obstacle'
  if (target === 'ACCEPT') return 'through'
  if (target === 'RETURN') return 'back'
  if (seen.has(target)) return 'on'
  for (const next of lines.filter((each) => each.startsWith(`-A ${target} `))) {
    const end = endOf(next, lines, packets, targets, new Set([...seen, target]))
    if (end === 'back') return 'on'
    if (end !== 'on') return end
  }
  return 'on'
}

/** Whether a rule matches all of the packets. */
function covers(rule: Rule, packets: Packets, targets: ReadonlySet<string>): boolean {
  const { source, destination, direction, link } = packets
  const [ours, others] = direction === 'in' ? [rule.incoming, rule.outgoing] : [rule.outgoing, rule.incoming]
  return (
    !rule.special &&
    rule.matchesNew &&
    (coversAddresses(rule.source, source) || (targets === MASQUERADES && isOfBridge(rule, packets))) &&
    (coversAddresses(rule.destination, destination) || isAllButGroups(rule, packets)) &&
    (ours === undefined || link === undefined || isNamed(ours.value, link) !== ours.not) &&
    // All that is known of the bridge's name is that it is not that of our device.
    (others === undefined ||
      (others.not && link !== undefined && isNamed(others.value, link)) ||
      others.value === '+')
  )
}

/** The chain that netavark (Podman) makes for a network begins with this (src/network/core_utils.rs). */
const NETAVARK = /^NETAVARK-[0-9A-F]+$/

/**
 * Whether the rule masquerades all that leaves one bridge, for a bridge that has a part of our subnet: Docker
 * makes such a rule for each network, and netavark a chain. Other rules on some of our addresses are
 * intended.
 */
const isOfBridge = ({ source: match, outgoing, target }: Rule, { source, direction }: Packets): boolean =>
  direction === 'out' &&
  (outgoing?.not === true || NETAVARK.test(target)) &&
  match?.not === false &&
  match.value.length >= source.length &&
  prefixContains(source, match.value.address)

/** Whether it is netavark's rule that masquerades everything but multicast. */
const isAllButGroups = ({ chain, destination: match }: Rule, { destination }: Packets): boolean =>
  NETAVARK.test(chain) && match?.not === true && !prefixesOverlap(match.value, destination)

const coversAddresses = (match: Match<Prefix> | undefined, all: Prefix): boolean =>
  match === undefined ||
  (!match.not && match.value.length <= all.length && prefixContains(match.value, all.address))

/** `eth+` matches all names with that prefix. */
const isNamed = (pattern: string, name: string): boolean =>
  pattern.endsWith('+') ? name.startsWith(pattern.slice(0, -1)) : pattern === name

/** @returns `undefined` if the line is not a rule with a target */
export function parseRule(line: string, six: boolean): Rule | undefined {
  const words = line.match(/"(?:[^"\\]|\\.)*"|\S+/g) ?? []
  if (words[0] !== '-A' || words[1] === undefined) return undefined
  const found: { -readonly [Key in keyof Rule]?: Rule[Key] } = { matchesNew: true, special: false }
  let not = false
  for (let at = 2; at < words.length; at += 1) {
    const word = words[at] ?? ''
    const value = words[at + 1] ?? ''
    switch (word) {
      case '!':
        not = true
        continue
      case '-j':
      case '-g':
        return {
          ...found,
          chain: words[1],
          matchesNew: found.matchesNew === true,
          special: found.special === true,
          target: value,
        }
      case '-s':
        found.source = { value: parsePrefix(value, six), not }
        break
      case '-d':
        found.destination = { value: parsePrefix(value, six), not }
        break
      case '-i':
        found.incoming = { value, not }
        break
      case '-o':
        found.outgoing = { value, not }
        break
      case '--ctstate':
      case '--state':
        found.matchesNew = value.split(',').includes('NEW') !== not
        break
      case '-m':
      case '--comment':
        break
      case '-p':
        if (value !== 'all') found.special = true
        break
      default:
        found.special = true
    }
    not = false
    if (word.startsWith('-')) at += 1
  }
  return undefined
}

/** Reads a prefix. Unreadable text becomes a single address, which covers no network. */
function parsePrefix(text: string, six: boolean): Prefix {
  const [address = '', length] = text.split('/')
  const parsed: IpAddress | undefined = parseIp(address)
  const bits = six ? 128 : 32
  return parsed === undefined
    ? { address: (six ? 0n : 0) as IpAddress, length: bits }
    : { address: parsed, length: length === undefined ? bits : Number(length) }
}
