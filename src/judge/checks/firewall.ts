/**
 * Whether this host's rules let the packets of the overlay through. Packets meet the rules in the kernel's
 * order.
 */
import { count } from '../../model/count'
import { NFT_FAMILY } from '../../model/family'
import type { PacketFilter } from '../../model/packet-filter'
import type { Facts, Known } from '../facts'
import { type Check, check, type Finding, few, type Outcome, outcome, type Unmade } from '../finding'
import { daemonsWord, deviceOf, directLink, OVERLAY, type OverlayFacts, peerKey, peersOf } from '../overlay'
import { cureFor, describePlace, ownerOf } from '../packet-path/owner'
import {
  type DoubtfulMeeting,
  goWays,
  type Meeting,
  networkText,
  type PacketWays,
  probeOf,
  type Translating,
  whichPeers,
} from '../packet-path/packet-ways'

export const FIREWALL_CHECKS: readonly Check[] = [
  check({
    name: 'firewall',
    about: "this host's rules let packets of the overlay through, in every hook",
    needs: ['firewall', 'config'],
    uses: OVERLAY,
    ifGathered: ['probes', 'containerProbes'],
    premise: 'config',
    run: checkFirewall,
  }),
]

/** The probes say which packets pass, whatever the rules seem to say. */
type AnswerFacts = OverlayFacts & Pick<Facts, 'probes' | 'containerProbes'>

function checkFirewall(facts: AnswerFacts & Known<'firewall' | 'config'>): Outcome {
  const { chains, unread } = facts.firewall.value
  if (chains.length === 0 && unread.length > 0) return skipPart(unmadeFor(unread))
  const ways = goWays(facts, facts.config.value)
  const drops = ways.drops.filter((meeting) => isBelieved(facts, meeting))
  const doubts = ways.doubts.filter((doubt) => isBelieved(facts, doubt) && !isProven(facts, doubt))
  const rules = chains.reduce((sum, chain) => sum + chain.rules.length, 0)
  return outcome(
    rules === 0 ? 'there are no rules' : `packets of the overlay pass all of ${count(rules, 'rule')}`,
    [
      ...drops.map((meeting) => dropped(facts, ways, meeting)),
      ...ways.translations.flatMap((each) => translated(facts, ways, each) ?? []),
      ...(doubts.length === 0 ? [] : [undecided(ways, doubts)]),
    ],
    unread.length === 0 ? undefined : unmadeFor(unread),
  )
}

/** All of the check is the part that could not be made. */
const skipPart = ({ what, because }: Unmade): Outcome => ({ skipped: what, because })

const unmadeFor = (unread: PacketFilter['unread']): Unmade => ({
  what: unread.map(({ text }) => text).join('; '),
  because: unread.some(({ denied }) => denied) ? 'rights' : 'unknown',
})

/**
 * Packets that peers answer through the overlay have passed, whatever the rules seem to say. Rules against
 * the host's own packets matter only where they explain that a peer does not answer.
 */
function isBelieved(facts: AnswerFacts, meeting: Meeting): boolean {
  const { kind, peers } = meeting
  if (kind === 'containers') return true
  // What goes in clear, or not at all, says nothing of WireGuard's port.
  if (isTried(facts, meeting)) return true
  const answers = [...peers].map((key) => answersOverlay(facts, key))
  if (kind === 'host') return answers.includes(false)
  return answers.length === 0 || answers.some((each) => each !== true)
}

/** Whether the packets are WireGuard's, for peers that are not reached by it. */
function isTried(facts: AnswerFacts, { passing: { family, port }, peers }: Meeting): boolean {
  const vxlan = deviceOf(facts, family)?.link.vxlan?.port
  if (vxlan === undefined || port === vxlan || peers.size === 0) return false
  const wordOn = daemonsWord(facts)
  return peersOf(facts).every((peer) => !peers.has(peerKey(peer)) || wordOn(peer)?.encryption !== 'encrypted')
}

/** `undefined` where it was not probed, or the way is not that of the device. */
function answersOverlay(facts: AnswerFacts, key: string): boolean | undefined {
  const probe = probeOf(facts, key)
  const peer = peersOf(facts).find((each) => peerKey(each) === key)
  const device = peer && deviceOf(facts, peer.family)
  if (probe === undefined || peer === undefined) return undefined
  if (device !== undefined && directLink(device.objects, peer.subnet) !== undefined) return undefined
  return [probe.overlayFull, probe.overlaySmall].some((ping) => (ping?.received ?? 0) > 0)
}

/** Whether a ping from a container to a peer has passed the undecided rule. */
function isProven(facts: AnswerFacts, { kind, protocols }: DoubtfulMeeting): boolean {
  const answered = facts.containerProbes.value?.some(({ ping }) => ping.received > 0) === true
  return kind === 'containers' && answered && [...protocols].every((protocol) => protocol === 'ICMP')
}

const CODES = {
  containers: 'forward-drop',
  'vxlan-in': 'udp-blocked-here',
  'vxlan-out': 'udp-blocked-out',
  host: 'host-blocked',
} as const

function whatOf({ kind, passing: { family, port } }: Meeting): string {
  switch (kind) {
    case 'containers':
      return `this host drops what it forwards for containers (${family})`
    case 'vxlan-in':
      return `this host's own firewall does not let UDP ${port} in`
    case 'vxlan-out':
      return `this host's own firewall does not let UDP ${port} out`
    case 'host':
      return `this host's own firewall drops packets of this host itself through the overlay (${family})`
  }
}

const BREAKS = {
  containers:
    'hosts reach each other through the overlay, but containers here do not reach those of other hosts, or ' +
    'are not reached',
  'vxlan-in': 'no packet of the overlay gets in here',
  'vxlan-out': 'no packet of the overlay gets out of here',
  host:
    'this host and containers of other hosts do not reach each other, and pings to test the overlay are ' +
    'lost; containers here are not affected',
} as const

function dropped(facts: AnswerFacts, { index }: PacketWays, meeting: Meeting): Finding {
  const { kind, place, passing, packets, peers } = meeting
  const { words, commands } = cureFor(index, place, passing)
  const isPartial = peersOf(facts).length > peers.size && peers.size > 0 && whichPeers(facts, meeting) !== ''
  const cannot = kind === 'vxlan-in' || kind === 'vxlan-out' || kind === 'host'
  return {
    code: CODES[kind],
    severity: kind === 'host' ? 'warn' : 'fail',
    what: whatOf(meeting),
    evidence: [
      describePlace(index, place),
      `it drops ${[...packets].join(', ')}${isPartial ? whichPeers(facts, meeting) : ''}`,
      ...laterAccept(index, meeting),
    ],
    breaks: BREAKS[kind],
    fix: words,
    commands,
    ...(cannot && { explains: isPartial ? peers : ('all' as const) }),
  }
}

/** Where our own rule comes after the one that drops, the order of the rules is the cause. */
function laterAccept(index: PacketWays['index'], { kind, place }: Meeting): string[] {
  if (kind !== 'containers') return []
  const { base, chain, rule } = place
  const after = base.rules.filter(
    ({ number }) => chain === base && rule !== undefined && number > rule.number,
  )
  const ours = after.find(({ text }) => /-j FLANNEL-FWD/.test(text))
  if (ours === undefined || ownerOf(index, place) === 'overlayd or flannel') return []
  return [`overlayd's own rule ${ours.number} (${ours.text}) comes after it, so no packet reaches that rule`]
}

function translated(facts: AnswerFacts, { index }: PacketWays, meeting: Translating): Finding | undefined {
  const { kind, place, passing, translation } = meeting
  const { how, undecided } = translation
  const isArrival = how === 'dnat' || how === 'redirect'
  if (kind === 'host' || (kind === 'vxlan-out' && how === 'masquerade')) return undefined
  const maybe = undecided === undefined ? '' : `; whether it matches cannot be told (${undecided})`
  const evidence = [`${describePlace(index, place)}${maybe}`, `it changes ${[...meeting.packets].join(', ')}`]
  if (kind === 'vxlan-in' && isArrival) {
    const isCertain = undecided === undefined && isBelieved(facts, meeting)
    return {
      code: 'udp-redirected',
      severity: isCertain ? 'fail' : 'warn',
      what: `UDP ${passing.port} is redirected by this host's own rules`,
      evidence,
      breaks: 'packets of the overlay do not get to the device',
      ...cure(index, meeting),
      ...(isCertain && { explains: 'all' as const }),
    }
  }
  if (kind !== 'containers') return undefined
  return {
    code: isArrival ? 'redirected' : 'masqueraded',
    severity: 'warn',
    what:
      `a rule changes the ${isArrival ? 'destination' : 'source'} of packets between containers of this ` +
      `host and of others (${passing.family})`,
    evidence,
    breaks: isArrival
      ? 'they may arrive elsewhere'
      : 'containers do not see the address of their peer: policies and logs by address are wrong, and ' +
        'connections back do not arrive',
    ...(ownerOf(index, place) === 'Docker' || /docker/.test(place.rule?.text ?? '')
      ? {
          fix:
            'start Docker with --ip-masq=false (overlayctl docker-opts does): overlayd masquerades what ' +
            'leaves the overlay',
          commands: ['overlayctl docker-opts', 'systemctl restart docker'],
        }
      : cure(index, meeting)),
  }
}

/** An accept before the rule of NAT keeps the addresses. */
function cure(
  index: PacketWays['index'],
  { place, passing, kind }: Meeting,
): Pick<Finding, 'fix' | 'commands'> {
  const { base } = place
  const text = networkText(passing)
  const word = NFT_FAMILY[passing.family]
  const match = {
    iptables: `-s ${text} -d ${text}`,
    nft: `${word} saddr ${text} ${word} daddr ${text}`,
  }
  const owner = ownerOf(index, place)
  const where = owner === undefined ? 'your rules are' : `${owner} is`
  const fix = `have them left alone before that rule, for good where ${where} configured`
  if (kind === 'vxlan-in') {
    match.iptables = `-p udp --dport ${passing.port}`
    match.nft = `udp dport ${passing.port}`
  }
  return {
    fix,
    commands: [
      base.program === 'nft'
        ? `nft insert rule ${base.family} ${base.table} ${base.name} ${match.nft} accept`
        : `${iptablesOf(base)} -t ${base.table} -I ${base.name} ${match.iptables} -j ACCEPT`,
    ],
  }
}

/** All undecided rules are one finding: a firewall may have many limits. */
function undecided({ index }: PacketWays, doubts: readonly DoubtfulMeeting[]): Finding {
  const line = ({ doubt, packets }: DoubtfulMeeting): string => {
    const by = doubt.drops === doubt.at ? '' : `with ${describePlace(index, doubt.drops)} `
    const drops = `${by}it may drop ${[...packets].join(', ')}`
    return `${describePlace(index, doubt.at)}; ${doubt.what} cannot be decided here, and ${drops}`
  }
  const networks = [...new Set(doubts.map(({ passing }) => networkText(passing)))]
  return {
    code: 'firewall-undecided',
    severity: 'warn',
    what: `${count(doubts.length, 'rule')} may drop packets of the overlay: the rules alone do not tell`,
    evidence: few(doubts.map(line)),
    breaks: 'perhaps nothing: what these rules do depends on more than a packet shows',
    fix:
      `check them and their counters; a ping between containers of two hosts tells (this one's network is ` +
      `${networks.join(' and ')})`,
    commands: [...new Set(doubts.map(({ place }) => counters(place)))].slice(0, 3),
  }
}

function counters({ base, chain }: Meeting['place']): string {
  if (base.program === 'nft') return `nft list chain ${chain.family} ${chain.table} ${chain.name}`
  return `${iptablesOf(base)} -t ${base.table} -nvL ${chain.name}`
}

/** The command for rules of iptables: `ip6tables-legacy`. */
const iptablesOf = ({ family, program }: Meeting['place']['base']): string =>
  `${family === 'ip6' ? 'ip6tables' : 'iptables'}${program === 'iptables-legacy' ? '-legacy' : ''}`
