/**
 * The program that a rule belongs to, told by the names of its table and chain; and how that program is told
 * to let packets through.
 */

import { type Family, familyOf, formatPrefix, type Prefix } from '../../model/address'
import { DEFAULT_DOCKER_MARK, formatMark } from '../../model/docker-mark'
import { NFT_FAMILY } from '../../model/family'
import type { FilterIndex, Place } from './walk'

export type Owner =
  | 'firewalld'
  | 'ufw'
  | 'Docker'
  | 'Kubernetes'
  | 'Calico'
  | 'Cilium'
  | 'libvirt'
  | 'Podman'
  | 'Tailscale'
  | 'fail2ban'
  | 'overlayd or flannel'

const CHAINS: readonly (readonly [RegExp, Owner])[] = [
  [/^ufw6?-/, 'ufw'],
  [/^DOCKER/, 'Docker'],
  [/^KUBE-/, 'Kubernetes'],
  [/^cali-/, 'Calico'],
  [/^(?:OLD_)?CILIUM_/, 'Cilium'],
  [/^LIBVIRT_/, 'libvirt'],
  [/^NETAVARK/, 'Podman'],
  [/^ts-/, 'Tailscale'],
  [/^f2b-/, 'fail2ban'],
  [/^FLANNEL-/, 'overlayd or flannel'],
  // firewalld with its backend iptables.
  [/^(?:IN|FWDI|FWDO|FWD|PRE|POST)_/, 'firewalld'],
  [/^(?:INPUT|FORWARD|PREROUTING|POSTROUTING|OUTPUT)_(?:ZONES|direct|POLICIES)/, 'firewalld'],
]
const TABLES: readonly (readonly [RegExp, Owner])[] = [
  [/^firewalld$/, 'firewalld'],
  [/^docker-bridges$/, 'Docker'],
  [/^kube-proxy/, 'Kubernetes'],
  [/^calico/, 'Calico'],
  [/^libvirt_network$/, 'libvirt'],
  [/^netavark$/, 'Podman'],
  [/^f2b-table$/, 'fail2ban'],
  [/^flannel-ipv[46]/, 'overlayd or flannel'],
  [/^fl-wgb?\.\d+$/, 'overlayd or flannel'],
]

const named = (table: readonly (readonly [RegExp, Owner])[], name: string): Owner | undefined =>
  table.find(([pattern]) => pattern.test(name))?.[1]

/** @returns `undefined` for a rule made by hand, or by a program that is not known here */
export function ownerOf(index: FilterIndex, { base, chain, rule }: Place): Owner | undefined {
  const own = named(TABLES, chain.table) ?? named(CHAINS, chain.name)
  if (own !== undefined) return own
  if (rule !== undefined)
    return dockerRaw(chain.table, rule.text) ?? comment(rule.text) ?? lastOfFirewalld(index, base)
  // A policy belongs to the program that keeps the chain. Two set one: ufw, and Docker behind ufw's chains.
  const owners = index.tableNames(base).map((name) => named(CHAINS, name))
  return owners.find((owner) => owner === 'ufw') ?? owners.find((owner) => owner === 'Docker')
}

/** Docker's rules for each container (version 28). */
const dockerRaw = (table: string, text: string): Owner | undefined =>
  table === 'raw' && /^-A PREROUTING -d \S+ ! -i \S+ -j DROP$/.test(text) ? 'Docker' : undefined

const comment = (text: string): Owner | undefined =>
  /\boverlayd\b/.test(text) ? 'overlayd or flannel' : undefined

/** With iptables, firewalld puts a reject of its own at the end of the built-in chains. */
const lastOfFirewalld = (index: FilterIndex, base: Place['base']): Owner | undefined =>
  index.tableNames(base).some((name) => /^(?:INPUT|FORWARD)_(?:ZONES|IN_ZONES)$/.test(name))
    ? 'firewalld'
    : undefined

/** The packets that are to pass. */
export interface Passing {
  readonly kind: 'containers' | 'vxlan-in' | 'vxlan-out' | 'host'
  readonly family: Family
  readonly network: Prefix
  readonly device: string
  readonly bridge: string
  readonly port: number
  /** Directions that the rule stops; of containers. */
  readonly directions: ReadonlySet<'in' | 'out'>
}

export interface Cure {
  readonly words: string
  readonly commands: readonly string[]
}

/**
 * The settings of the rule's owner; else an accept at the head of the base chain, which no later rule of that
 * chain undoes.
 */
export function cureFor(index: FilterIndex, place: Place, passing: Passing): Cure {
  const owner = ownerOf(index, place)
  const inFilter = place.base.base?.priority !== undefined && place.base.base.priority >= -10
  if (owner === 'firewalld' && inFilter) return firewalld(place, passing)
  if (owner === 'ufw' && inFilter) return ufw(passing)
  if (owner === 'Docker') return docker(index, place, passing)
  return {
    words: `let them through before that rule${
      owner === undefined
        ? ', and for good where your rules are kept'
        : `; ${owner} makes its rules again by itself, so have it do the same for good`
    }`,
    commands: accepts(place, passing),
  }
}

function firewalld(place: Place, { kind, device, network, port }: Passing): Cure {
  const reload = 'firewall-cmd --reload'
  const zone = /^(?:filter_)?(?:IN|FWD|FWDI)_(.+?)(?:_allow|_deny|_pre|_post|_log)?$/.exec(
    place.chain.name,
  )?.[1]
  const option = zone === undefined ? '' : ` --zone=${zone}`
  const trust = `firewall-cmd --permanent --zone=trusted --add-interface=${device}`
  const commands = {
    // The bridge of the containers may be in Docker's zone already; the addresses of the containers are in no
    // zone.
    containers: [`${trust} --add-source=${formatPrefix(network)}`],
    host: [trust],
    'vxlan-in': [`firewall-cmd --permanent${option} --add-port=${port}/udp`],
    'vxlan-out': [
      `firewall-cmd --permanent --direct --add-rule ipv4 filter OUTPUT 0 -p udp --dport ${port} -j ACCEPT`,
    ],
  }[kind]
  return { words: 'tell firewalld, which makes this rule', commands: [...commands, reload] }
}

function ufw({ kind, device, port }: Passing): Cure {
  const commands = {
    containers: [`ufw route allow in on ${device}`, `ufw route allow out on ${device}`],
    host: [`ufw allow in on ${device}`, `ufw allow out on ${device}`],
    'vxlan-in': [`ufw allow ${port}/udp`],
    'vxlan-out': [`ufw allow out ${port}/udp`],
  }[kind]
  return { words: 'tell ufw, which makes this rule', commands }
}

function docker(index: FilterIndex, place: Place, passing: Passing): Cure {
  const { kind, network, device } = passing
  const program = programOf(place)
  const hasUserChain = index.tableNames(place.base).includes('DOCKER-USER')
  if (program === 'nft') {
    // No rule in Docker's own tables: Docker empties and refills them whenever a container starts.
    const bit = formatMark(DEFAULT_DOCKER_MARK)
    const isFirst = place.base.base?.hook === 'prerouting'
    if (!isFirst && place.chain.rules.some(({ text }) => /\bmark\b/.test(text))) {
      return {
        words:
          'dockerd accepts packets with a mark that overlayd does not set: name the same bit with ' +
          "--bridge-accept-fwmark of dockerd and --docker-mark of overlayd, and look at overlayd's rule",
        commands: [`nft list table ${place.chain.family} overlayd-docker`],
      }
    }
    const missing = isFirst ? '--allow-direct-routing' : `--bridge-accept-fwmark=${bit}/${bit}`
    return {
      words:
        `start dockerd with ${missing}, as overlayctl docker-opts has it for the nftables backend of ` +
        "Docker (with the bit of overlayd's --docker-mark), or with --firewall-backend=iptables",
      commands: ['systemctl restart docker'],
    }
  }
  if (kind !== 'containers' || place.base.table !== 'filter' || !hasUserChain) {
    return {
      words:
        'let them through before Docker drops them, again after each start of Docker; overlayd does so by ' +
        'itself for iptables where it finds dockerd in its PATH',
      commands: accepts(place, passing),
    }
  }
  const text = formatPrefix(network)
  return {
    words:
      'let them through in DOCKER-USER, which Docker leaves to you; overlayd does so by itself where it ' +
      'finds dockerd in its PATH',
    commands: [
      `${program} -I DOCKER-USER -s ${text} -i ${device} -j ACCEPT`,
      `${program} -I DOCKER-USER -d ${text} -o ${device} -j ACCEPT`,
    ],
  }
}

function accepts({ base, ...place }: Place, { kind, network, port }: Passing): string[] {
  const text = formatPrefix(network)
  const program = programOf({ base, ...place })
  if (program !== 'nft') {
    const table = base.table === 'filter' ? '' : `-t ${base.table} `
    const insert = (match: string): string => `${program} ${table}-I ${base.name} ${match} -j ACCEPT`
    const isVxlan = kind === 'vxlan-in' || kind === 'vxlan-out'
    return isVxlan ? [insert(`-p udp --dport ${port}`)] : [insert(`-s ${text}`), insert(`-d ${text}`)]
  }
  const insert = (match: string): string =>
    `nft insert rule ${base.family} ${base.table} ${base.name} ${match} accept`
  const word = NFT_FAMILY[familyOf(network.address)]
  return kind === 'vxlan-in' || kind === 'vxlan-out'
    ? [insert(`udp dport ${port}`)]
    : [insert(`${word} saddr ${text}`), insert(`${word} daddr ${text}`)]
}

/** The command that changes rules of that place: `ip6tables-legacy`. */
function programOf({ chain: { program, family } }: Place): string {
  if (program === 'nft') return 'nft'
  const six = family === 'ip6' ? 'ip6tables' : 'iptables'
  return program === 'iptables-legacy' ? `${six}-legacy` : six
}

/** The rule, its place, and its owner. */
export function describePlace(index: FilterIndex, place: Place): string {
  const { base, chain, rule } = place
  const owner = ownerOf(index, place)
  const whose = owner === undefined ? '' : ` (of ${owner})`
  const program = programOf(place)
  const table = program === 'nft' ? `table ${chain.family} ${chain.table}` : `table ${chain.table}`
  if (rule === undefined) {
    const drop = program === 'nft' ? 'drop' : 'DROP'
    return `${program}, ${table}: the policy of ${base.name} is ${drop}${whose}`
  }
  const number = rule.handle === undefined ? `rule ${rule.number}` : `handle ${rule.handle}`
  const from = chain === base ? '' : `, called from ${base.name}`
  return `${program}, ${table}, ${chain.name} ${number}${from}: ${rule.text}${whose}`
}
