/**
 * The firewall rules of an overlay host, in flannel's chains and spelling, so that flannel and overlayd
 * recognize each other's rules.
 *
 * - Masquerading: packets of containers leave the overlay with the host's address. Within the overlay, and on
 *   their way to a container, they keep their source. Packets that the host sends into the overlay from an
 *   address outside of it get an address inside.
 * - Forwarding: packets from and to the overlay's network are accepted.
 * - Docker's hooks: Docker drops packets that are routed to a container from outside its bridge: by the
 *   policy of FORWARD if Docker enabled forwarding itself, and since version 28 by one rule per container in
 *   raw PREROUTING and one in its DOCKER chain. An accept in one table of nf_tables does not override a drop
 *   in another. So in both modes the rules against these drops are iptables rules in Docker's own hooks.
 */
import {
  addressBits,
  type Family,
  familyOf,
  formatPrefix,
  networkOf,
  type Prefix,
  parseIp,
  prefixesOverlap,
} from '../../model/address'
import { OverlayError } from '../../model/errors'
import { NFT_FAMILY } from '../../model/family'
import {
  type AddressMatch,
  type DesiredIptables,
  type DesiredTable,
  type FirewallNetwork,
  type FirewallRequest,
  type FirewallRule,
  HOOK_COMMENT,
  type HookRule,
  LONGEST_SCOPE,
  type OwnChain,
} from '../../model/firewall'

const MASQUERADE_COMMENT = 'flanneld masq'
const FORWARD_COMMENT = 'flanneld forward'

/**
 * Docker calls this chain first in FORWARD and leaves it to others to fill. If it exists before, Docker keeps
 * it.
 */
const DOCKER_USER = 'DOCKER-USER'

/** Multicast is never masqueraded, because a multicast packet must keep its source (RFC 5771, RFC 4291). */
const MULTICAST: Readonly<Record<Family, Prefix>> = {
  IPv4: wellKnown('224.0.0.0', 4),
  IPv6: wellKnown('ff00::', 8),
}

/**
 * The desired state of iptables, in one family. In nftables mode these are the rules in Docker's hooks, and
 * the absence of our chains.
 */
export function desiredIptables(request: FirewallRequest, family: Family): DesiredIptables {
  const network = networkIn(request, family)
  const rules = request.mode === 'iptables' ? ownRules(request, network) : {}
  const suffix = suffixOf(request)
  return {
    family,
    chains: [
      ownChain(
        'nat',
        `FLANNEL-POSTRTG${suffix}`,
        'POSTROUTING',
        MASQUERADE_COMMENT,
        rules.masquerade,
        request,
      ),
      ownChain('filter', `FLANNEL-FWD${suffix}`, 'FORWARD', FORWARD_COMMENT, rules.forward, request),
    ],
    hooks:
      network === undefined
        ? []
        : [...dockerHooks(network), ...forwardHooks(request, network), ...sourceHooks(request, network)],
    network,
    docker: request.docker,
  }
}

/** The desired state of nf_tables, in one family. In iptables mode this is the absence of our table. */
export function desiredTable(request: FirewallRequest, family: Family): DesiredTable {
  const base = family === 'IPv4' ? 'flannel-ipv4' : 'flannel-ipv6'
  const name = `${base}${suffixOf(request)}`
  const word = NFT_FAMILY[family]
  const { masquerade, forward } =
    request.mode === 'nftables' ? ownRules(request, networkIn(request, family)) : {}
  const chains = [
    ...(masquerade === undefined ? [] : [nftChain(MASQUERADE_CHAIN, masquerade, word, request)]),
    ...(forward === undefined ? [] : [nftChain(FORWARD_CHAIN, forward, word, request)]),
  ]
  const text = [`table ${word} ${name} {`, `\tcomment "rules for ${name}"`, `${chains.join('\n\n')}`, '}', '']
  return { name: `${word} ${name}`, text: chains.length === 0 ? undefined : text.join('\n') }
}

/** Docker's table of nftables in one family, which it has with its nftables backend only. */
export const dockerTable = (family: Family): string => `${NFT_FAMILY[family]} docker-bridges`

/**
 * The rule that marks packets of other hosts for Docker's nftables backend, in a table of our own: Docker
 * empties and refills its tables whenever a container starts. Before Docker's chains, which are at filter.
 */
export function desiredMark(request: FirewallRequest, family: Family): DesiredTable {
  const base = `overlayd-docker${suffixOf(request)}`
  const word = NFT_FAMILY[family]
  const network = networkIn(request, family)
  const name = `${word} ${base}`
  if (network === undefined || request.dockerMark === undefined) return { name, text: undefined }
  const bit = `0x${request.dockerMark.toString(16).padStart(8, '0')}`
  const sources = passing(network).map((range) => `${word} saddr ${nftPrefix(inside(range).prefix)}`)
  const text = [
    `table ${name} {`,
    `\tcomment "rules for ${base}"`,
    '\tchain prerouting {',
    '\t\tcomment "chain to mark packets of other hosts for docker"',
    '\t\ttype filter hook prerouting priority mangle; policy accept;',
    ...sources.map((source) => `\t\tiifname "${network.link}" ${source} meta mark set meta mark | ${bit}`),
    '\t}',
    '}',
    '',
  ]
  return { name, text: text.join('\n') }
}

/** The table of Podman's netavark for both families. netavark has it with its nftables backend only. */
export const NETAVARK_TABLE = 'inet netavark'

/**
 * The rules that keep the addresses of containers on their way to other hosts, in a table of our own, before
 * netavark's chain at srcnat masquerades them. An accept would not do: the kernel asks the chains of all
 * tables until one has chosen a source. So each rule chooses the source that the packet has. Packets with
 * netavark's mark are left to netavark: they come to a published port from a container of the same network.
 */
export function desiredSource(request: FirewallRequest, family: Family): DesiredTable {
  const base = `overlayd-source${suffixOf(request)}`
  const word = NFT_FAMILY[family]
  const network = networkIn(request, family)
  const name = `${word} ${base}`
  if (network === undefined || !request.ipMasq) return { name, text: undefined }
  const unmarked = 'meta mark & 0x00002000 == 0x00000000'
  const sources = [network.subnet, ...(network.allowed ?? [])]
  const ways = sources.flatMap((source) =>
    passing(network).map(
      (to) =>
        `${word} saddr ${nftPrefix(inside(source).prefix)} ${word} daddr ${nftPrefix(inside(to).prefix)}`,
    ),
  )
  const text = [
    `table ${name} {`,
    `\tcomment "rules for ${base}"`,
    '\tchain postrouting {',
    '\t\tcomment "chain to keep addresses that netavark would masquerade"',
    '\t\ttype nat hook postrouting priority srcnat - 1; policy accept;',
    ...ways.map((way) => `\t\t${unmarked} ${way} snat to ${word} saddr`),
    '\t}',
    '}',
    '',
  ]
  return { name, text: text.join('\n') }
}

/** The chains, ours and others', whose changes may concern us, spelled as in nft's reports. */
export function watchedChains(request: FirewallRequest): readonly string[] {
  return (['IPv4', 'IPv6'] as const).flatMap((family) => {
    const { chains, hooks } = desiredIptables(request, family)
    const table = desiredTable(request, family).name
    const mark = desiredMark(request, family)
    const source = desiredSource(request, family)
    const word = NFT_FAMILY[family]
    return [
      `${table} `,
      // Docker makes its table when it starts.
      ...(mark.text === undefined ? [] : [`${mark.name} `, `${dockerTable(family)} filter-FORWARD `]),
      ...(source.text === undefined ? [] : [`${source.name} `, `${NETAVARK_TABLE} POSTROUTING `]),
      ...chains.flatMap((chain) =>
        [chain.name, chain.parent].map((name) => `${word} ${chain.table} ${name} `),
      ),
      ...hooks.map((hook) => `${word} ${hook.table} ${hook.chain} `),
    ]
  })
}

/** The rules of our chains; `undefined`: the chain must not exist. */
interface OwnRules {
  readonly masquerade?: readonly FirewallRule[] | undefined
  readonly forward?: readonly FirewallRule[] | undefined
}

function ownRules({ ipMasq, forwardRules }: FirewallRequest, network: FirewallNetwork | undefined): OwnRules {
  if (network === undefined) return {}
  return {
    masquerade: ipMasq ? masqueradeRules(network) : undefined,
    forward: forwardRules ? acceptRules(network) : undefined,
  }
}

function masqueradeRules({ network, subnet, allowed = [] }: FirewallNetwork): readonly FirewallRule[] {
  const [all, own] = [inside(network), inside(subnet)]
  return [
    { marked: true, verdict: 'return' },
    { source: own, destination: all, verdict: 'return' },
    { source: all, destination: own, verdict: 'return' },
    { source: outside(all), destination: own, verdict: 'return' },
    // Announced prefixes keep their addresses on both ways.
    ...allowed.map(inside).flatMap((range): FirewallRule[] => [
      { source: all, destination: range, verdict: 'return' },
      { source: range, destination: all, verdict: 'return' },
    ]),
    {
      source: all,
      destination: outside(inside(MULTICAST[familyOf(network.address)])),
      verdict: 'masquerade',
    },
    { source: outside(all), destination: all, verdict: 'masquerade' },
  ]
}

function acceptRules(network: FirewallNetwork): readonly FirewallRule[] {
  return passing(network).flatMap((range): FirewallRule[] => [
    { source: inside(range), verdict: 'accept' },
    { destination: inside(range), verdict: 'accept' },
  ])
}

/** What packets pass from and to: the network, and the announced prefixes outside of it. */
const passing = ({ network, allowed = [] }: FirewallNetwork): readonly Prefix[] => [
  network,
  ...allowed.filter((range) => !prefixesOverlap(range, network)),
]

/** Accepts packets of the network that arrive or leave through our device. */
function dockerHooks(network: FirewallNetwork): readonly HookRule[] {
  return passing(network).flatMap((range) => dockerHooksFor(range, network.link))
}

function dockerHooksFor(range: Prefix, link: string): readonly HookRule[] {
  const addresses = textOf(range)
  const accept = `-m comment --comment ${HOOK_COMMENT} -j ACCEPT`
  const incoming = `-s ${addresses} -i ${link} ${accept}`
  const outgoing = `-d ${addresses} -o ${link} ${accept}`
  return [
    { table: 'raw', chain: 'PREROUTING', text: incoming, beforeDrops: true, where: 'docker' },
    { table: 'filter', chain: DOCKER_USER, text: incoming, beforeDrops: false, where: 'docker' },
    { table: 'filter', chain: DOCKER_USER, text: outgoing, beforeDrops: false, where: 'docker' },
  ]
}

/** Needed if FORWARD drops and has no chain of ours: an accept in nf_tables does not override the drop. */
function forwardHooks(
  { mode, forwardRules }: FirewallRequest,
  network: FirewallNetwork,
): readonly HookRule[] {
  if (mode === 'iptables' || !forwardRules) return []
  const matches = passing(network)
    .map(textOf)
    .flatMap((range) => [`-s ${range}`, `-d ${range}`])
  return matches.map((match) => ({
    table: 'filter',
    chain: 'FORWARD',
    text: `${match} ${acceptFor(network.link)}`,
    beforeDrops: true,
    where: 'dropped',
  }))
}

/**
 * Needed if others masquerade everything: a packet that returns from our chain still meets the rules after
 * it.
 */
function sourceHooks(
  { ipMasq }: FirewallRequest,
  { network, subnet, allowed = [], link }: FirewallNetwork,
): readonly HookRule[] {
  if (!ipMasq) return []
  const all = textOf(network)
  const ways = [subnet, ...allowed].map(textOf)
  return ways
    .flatMap((other) => [`-s ${all} -d ${other}`, `-s ${other} -d ${all}`])
    .map((match) => ({
      table: 'nat',
      chain: 'POSTROUTING',
      text: `${match} ${acceptFor(link)}`,
      beforeDrops: false,
      where: 'masqueraded',
    }))
}

/** Matches any interface, because direct routes bypass our device. The comment names our device. */
const acceptFor = (link: string): string => `-m comment --comment "${HOOK_COMMENT} ${link}" -j ACCEPT`

/** The desired state of the other iptables variant: no chains of ours, but our rules where it drops. */
export function desiredBeside(request: FirewallRequest, family: Family): DesiredIptables {
  return { ...desiredIptables({ ...request, mode: 'nftables' }, family), chains: [], docker: false }
}

function ownChain(
  table: OwnChain['table'],
  name: string,
  parent: string,
  comment: string,
  rules: readonly FirewallRule[] | undefined,
  { fullyRandom }: FirewallRequest,
): OwnChain {
  const commented = `-m comment --comment "${comment}"`
  const line = (rule: FirewallRule): string =>
    [`-A ${name}`, ...iptablesConditions(rule), commented, iptablesVerdict(rule, fullyRandom)].join(' ')
  return { table, name, parent, jump: `-A ${parent} ${commented} -j ${name}`, rules: rules?.map(line) }
}

/** Conditions in the order in which iptables prints them. */
function iptablesConditions({ marked, source, destination }: FirewallRule): string[] {
  const address = (option: string, { prefix, not }: AddressMatch): string =>
    `${not ? '! ' : ''}${option} ${formatPrefix(prefix)}`
  return [
    ...(source === undefined ? [] : [address('-s', source)]),
    ...(destination === undefined ? [] : [address('-d', destination)]),
    ...(marked === undefined ? [] : ['-m mark --mark 0x4000/0x4000']),
  ]
}

function iptablesVerdict({ verdict }: FirewallRule, fullyRandom: boolean): string {
  return `-j ${verdict.toUpperCase()}${verdict === 'masquerade' && fullyRandom ? ' --random-fully' : ''}`
}

/** A base chain as nft prints it. srcnat is priority 100, filter is 0 (nft(8)). */
interface BaseChain {
  readonly name: string
  readonly comment: string
  readonly type: string
}
const MASQUERADE_CHAIN: BaseChain = {
  name: 'postrtg',
  comment: 'chain to manage traffic masquerading by flannel',
  type: 'type nat hook postrouting priority srcnat; policy accept;',
}
const FORWARD_CHAIN: BaseChain = {
  name: 'forward',
  comment: 'chain to accept flannel traffic',
  type: 'type filter hook forward priority filter; policy accept;',
}

function nftChain(
  { name, comment, type }: BaseChain,
  rules: readonly FirewallRule[],
  word: string,
  { fullyRandom }: FirewallRequest,
): string {
  const lines = [`comment "${comment}"`, type, ...rules.map((rule) => nftRule(rule, word, fullyRandom))]
  return [`\tchain ${name} {`, ...lines.map((line) => `\t\t${line}`), '\t}'].join('\n')
}

function nftRule(
  { marked, source, destination, verdict }: FirewallRule,
  word: string,
  fullyRandom: boolean,
): string {
  const address = (field: string, { prefix, not }: AddressMatch): string =>
    `${word} ${field} ${not ? '!= ' : ''}${nftPrefix(prefix)}`
  return [
    // flannel compares the whole mark here, and so misses a mark that has other bits too.
    ...(marked === undefined ? [] : ['meta mark & 0x00004000 == 0x00004000']),
    ...(source === undefined ? [] : [address('saddr', source)]),
    ...(destination === undefined ? [] : [address('daddr', destination)]),
    verdict === 'masquerade' && fullyRandom ? 'masquerade fully-random' : verdict,
  ].join(' ')
}

/** nft prints a single address without a length. */
function nftPrefix(prefix: Prefix): string {
  const isSingle = prefix.length === addressBits(familyOf(prefix.address))
  return isSingle ? (formatPrefix(prefix).split('/')[0] ?? '') : formatPrefix(prefix)
}

const networkIn = ({ networks }: FirewallRequest, family: Family): FirewallNetwork | undefined =>
  networks.find(({ network }) => familyOf(network.address) === family)

/** @throws {OverlayError} `firewall-scope` */
function suffixOf({ scope }: FirewallRequest): string {
  if (scope === undefined) return ''
  if (/^[A-Za-z0-9_-]+$/.test(scope) && scope.length <= LONGEST_SCOPE) return `-${scope}`
  throw new OverlayError(
    'firewall-scope',
    `"${scope}" cannot be part of a chain's name`,
    `use 1 to ${LONGEST_SCOPE} letters, digits, "-" or "_"`,
  )
}

/** Host bits are cleared, as programs print networks. */
const inside = ({ address, length }: Prefix): AddressMatch => ({
  prefix: networkOf(address, length),
  not: false,
})
const outside = ({ prefix }: AddressMatch): AddressMatch => ({ prefix, not: true })
const textOf = ({ address, length }: Prefix): string => formatPrefix(networkOf(address, length))

function wellKnown(address: string, length: number): Prefix {
  const parsed = parseIp(address)
  if (parsed === undefined) throw new Error(`not an address: ${address}`)
  return { address: parsed, length }
}
