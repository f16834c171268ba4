/**
 * The rules of an overlay host, in flannel's chains and words, so that each finds and understands what the other left.
 *
 * - Masquerading: packets of containers leave the overlay with the host's address; inside the overlay, and on their way in to a container, they
 *   keep their own; what the host sends into the overlay from an address outside of it gets one inside.
 * - Forwarding: what comes from or goes to the overlay's network is accepted.
 * - Docker's hooks: Docker drops what is routed to a container from outside its bridge: with the FORWARD policy where it switched forwarding on
 *   itself, and since version 28 by a rule for each container in raw PREROUTING and one in its DOCKER chain. An accept in a table of nf_tables does
 *   not undo a drop in another, so the rules against it are iptables rules in Docker's own hooks in either mode.
 */
import {
  addressBits,
  type Family,
  familyOf,
  formatPrefix,
  networkOf,
  type Prefix,
  parseIp,
} from '../model/address'
import { OverlayError } from '../model/errors'
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
} from '../model/firewall'

const MASQUERADE_COMMENT = 'flanneld masq'
const FORWARD_COMMENT = 'flanneld forward'

/** Called by Docker from the head of FORWARD, and left to others to fill; Docker keeps one that is there before it. */
const DOCKER_USER = 'DOCKER-USER'

/** Never masqueraded: a multicast packet has to keep its source (RFC 5771, RFC 4291). */
const MULTICAST: Readonly<Record<Family, Prefix>> = {
  IPv4: wellKnown('224.0.0.0', 4),
  IPv6: wellKnown('ff00::', 8),
}

/** What of the request concerns iptables, in one family. In nftables mode that is Docker's hooks, and that our chains are gone. */
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
    hooks: network === undefined || !request.docker ? [] : dockerHooks(network),
  }
}

/** What of the request concerns nf_tables, in one family. In iptables mode that is that our table is gone. */
export function desiredTable(request: FirewallRequest, family: Family): DesiredTable {
  const base = family === 'IPv4' ? 'flannel-ipv4' : 'flannel-ipv6'
  const name = `${base}${suffixOf(request)}`
  const word = family === 'IPv4' ? 'ip' : 'ip6'
  const { masquerade, forward } =
    request.mode === 'nftables' ? ownRules(request, networkIn(request, family)) : {}
  const chains = [
    ...(masquerade === undefined ? [] : [nftChain(MASQUERADE_CHAIN, masquerade, word, request)]),
    ...(forward === undefined ? [] : [nftChain(FORWARD_CHAIN, forward, word, request)]),
  ]
  const text = [`table ${word} ${name} {`, `\tcomment "rules for ${name}"`, `${chains.join('\n\n')}`, '}', '']
  return { name: `${word} ${name}`, text: chains.length === 0 ? undefined : text.join('\n') }
}

/** The chains of others and of ours in which a change may concern us, as words in nft's reports. */
export function watchedChains(request: FirewallRequest): readonly string[] {
  return (['IPv4', 'IPv6'] as const).flatMap((family) => {
    const { chains, hooks } = desiredIptables(request, family)
    const table = desiredTable(request, family).name
    const word = table.split(' ')[0]
    return [
      `${table} `,
      ...chains.flatMap((chain) =>
        [chain.name, chain.parent].map((name) => `${word} ${chain.table} ${name} `),
      ),
      ...hooks.map((hook) => `${word} ${hook.table} ${hook.chain} `),
    ]
  })
}

/** The chains' rules; `undefined` for a chain that is not wanted. */
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

function masqueradeRules({ network, subnet }: FirewallNetwork): readonly FirewallRule[] {
  const [all, own] = [inside(network), inside(subnet)]
  return [
    { marked: true, verdict: 'return' },
    { source: own, destination: all, verdict: 'return' },
    { source: all, destination: own, verdict: 'return' },
    { source: outside(all), destination: own, verdict: 'return' },
    {
      source: all,
      destination: outside(inside(MULTICAST[familyOf(network.address)])),
      verdict: 'masquerade',
    },
    { source: outside(all), destination: all, verdict: 'masquerade' },
  ]
}

function acceptRules({ network }: FirewallNetwork): readonly FirewallRule[] {
  return [
    { source: inside(network), verdict: 'accept' },
    { destination: inside(network), verdict: 'accept' },
  ]
}

/** Accept what comes in and goes out by our device with addresses of the network. */
function dockerHooks({ network, link }: FirewallNetwork): readonly HookRule[] {
  const addresses = textOf(network)
  const accept = `-m comment --comment ${HOOK_COMMENT} -j ACCEPT`
  const incoming = `-s ${addresses} -i ${link} ${accept}`
  const outgoing = `-d ${addresses} -o ${link} ${accept}`
  return [
    { table: 'raw', chain: 'PREROUTING', text: incoming, beforeDrops: true },
    { table: 'filter', chain: DOCKER_USER, text: incoming, beforeDrops: false },
    { table: 'filter', chain: DOCKER_USER, text: outgoing, beforeDrops: false },
  ]
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

/** In the order in which iptables prints them. */
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

/** A base chain, as nft prints it. srcnat is priority 100 and filter 0 (nft(8)). */
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
    // Flannel compares the whole mark here, and so misses one that has other bits too.
    ...(marked === undefined ? [] : ['meta mark & 0x00004000 == 0x00004000']),
    ...(source === undefined ? [] : [address('saddr', source)]),
    ...(destination === undefined ? [] : [address('daddr', destination)]),
    verdict === 'masquerade' && fullyRandom ? 'masquerade fully-random' : verdict,
  ].join(' ')
}

/** nft leaves out the length of a single address. */
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

/** Programs print a network without host bits. */
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
