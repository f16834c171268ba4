/**
 * The results of probes: how far packets get, and of which size. A peer that an earlier finding explains is
 * left out.
 */
import type { ProbeStatus } from '../../api/mesh'
import { type Family, formatIp } from '../../model/address'
import { count } from '../../model/count'
import type { Facts, Known, PeerFact, PingFact, ProbeFact } from '../facts'
import { type Check, check, type Finding, few, type Outcome, outcome } from '../finding'
import {
  daemonsWord,
  deviceOf,
  findLink,
  OVERLAY,
  type OverlayFacts,
  outerOverhead,
  parentOf,
  peerKey,
  peersOf,
  tunnelPorts,
} from '../overlay'

/** The port of a device that was made without one (drivers/net/vxlan). */
const DEFAULT_PORT = 8472

/** A peer and the results of its probes. */
interface Probed {
  readonly peer: PeerFact
  readonly probe: ProbeFact
  /** What the daemon has found until now. */
  readonly history?: ProbeStatus
}

/** How a peer is reached, as the table shows it. */
export type Reach = 'ok' | 'loss' | 'mtu' | 'no-ping' | 'unreached' | 'silent' | 'unprobed'

export const REACH_CHECKS: readonly Check[] = [
  check({
    name: 'udp',
    about: 'VXLAN packets leave this host and arrive at the peers',
    needs: ['probes'],
    uses: [...OVERLAY, 'firewall'],
    after: 'all',
    premise: 'started',
    run: checkUdp,
  }),
  check({
    name: 'mtu',
    about: 'packets of full size get through',
    needs: ['probes'],
    uses: OVERLAY,
    after: 'all',
    premise: 'started',
    run: checkMtu,
  }),
  check({
    name: 'reach',
    about: "every peer's VTEP answers through the overlay",
    needs: ['probes'],
    uses: OVERLAY,
    after: 'all',
    premise: 'started',
    run: checkReach,
  }),
]

/** The state of a peer in one word. */
export function reachOf(probe: ProbeFact | undefined): Reach {
  if (probe === undefined) return 'unprobed'
  const { overlayFull, overlaySmall, underlaySmall, overlayTcp, underlayTcp } = probe
  if (overlayFull.received === overlayFull.sent) return 'ok'
  if (overlayFull.received > 0) return 'loss'
  if (got(overlaySmall)) return 'mtu'
  if (overlayTcp === true) return 'no-ping'
  return got(underlaySmall) || underlayTcp === true ? 'unreached' : 'silent'
}

const got = (ping: PingFact | undefined): boolean => (ping?.received ?? 0) > 0

type ProbedFacts = OverlayFacts & Known<'probes'>

/** Peers that no earlier finding explains. */
function unexplained(facts: ProbedFacts, earlier: readonly Finding[]): Probed[] {
  const probes = new Map(facts.probes.value.map((probe) => [probe.peer, probe]))
  const wordOn = daemonsWord(facts)
  return peersOf(facts).flatMap((peer) => {
    const key = peerKey(peer)
    const probe = probes.get(key)
    const history = wordOn(peer)?.probe
    const explained = earlier.some(({ explains }) => explains === 'all' || explains?.has(key))
    return probe === undefined || explained
      ? []
      : [{ peer, probe, ...(history !== undefined && { history }) }]
  })
}

const keysOf = (probed: readonly Probed[]): ReadonlySet<string> =>
  new Set(probed.map(({ peer }) => peerKey(peer)))

const portOf = (facts: OverlayFacts, peer: PeerFact): number =>
  tunnelPorts(facts)(peer) ?? deviceOf(facts, peer.family)?.link.vxlan?.port ?? DEFAULT_PORT

const line = ({ peer, probe, history }: Probed): string =>
  `${peerKey(peer)} at ${formatIp(peer.publicIp)}: ${score(probe.overlaySmall ?? probe.overlayFull)} ` +
  `through the overlay, ${score(probe.underlaySmall)} to its PublicIP${describeHistory(history)}`

/** What the daemon's own probes have found until now. */
function describeHistory(history: ProbeStatus | undefined): string {
  if (history === undefined || history.reach === 'unknown') return ''
  const { answeredSecondsAgo: seconds, loss = 0 } = history
  const answer =
    seconds === undefined ? 'it has never answered overlayd' : `it answered overlayd ${seconds} s ago`
  const lost = loss === 0 ? '' : `, and ${Math.round(loss * 100)} % of the last probes were lost`
  return `; ${answer}${lost}`
}

const score = (ping: PingFact | undefined): string =>
  `${ping?.received ?? 0} of ${ping?.sent ?? 0} pings answered`

function checkUdp(facts: ProbedFacts & Pick<Facts, 'firewall'>, earlier: readonly Finding[]): Outcome {
  const probed = unexplained(facts, earlier)
  const unreached = probed.filter(({ probe }) => ['unreached', 'silent'].includes(reachOf(probe)))
  const blocked = unreached.filter(({ probe }) => probe.udp === 'blocked')
  const refused = unreached.filter(({ probe }) => probe.udp === 'refused')
  // An ICMP error (`unreachable`) may come from a firewall that lets pings through.
  const lost = unreached.filter(
    ({ probe }) =>
      (probe.udp === 'silent' || probe.udp === 'unreachable') &&
      (got(probe.underlaySmall) || probe.underlayTcp === true),
  )
  const answered = probed.length - unreached.length
  return outcome(`VXLAN packets get through to ${count(answered, 'peer')}`, [
    blockedOut(facts, blocked),
    differingPort(facts, refused),
    blockedThere(facts, lost),
  ])
}

function blockedOut(facts: ProbedFacts, blocked: readonly Probed[]): Finding | undefined {
  const [first] = blocked
  if (first === undefined) return undefined
  const port = portOf(facts, first.peer)
  const more = blocked.length > 1
  return {
    code: 'udp-blocked-out',
    severity: 'fail',
    what: `this host's own firewall does not let UDP ${port} out`,
    evidence: [
      `sending to ${formatIp(first.peer.publicIp)}:${port} is refused by this kernel (EPERM)`,
      'no rule was found that does so: one of a program that is not checked here may (tc, eBPF)',
    ],
    breaks: `no packet of the overlay reaches ${more ? `${blocked.length} peers` : 'that peer'}`,
    fix: 'let it out, for good where your rules are kept',
    commands: [`iptables -I OUTPUT -p udp --dport ${port} -j ACCEPT`, 'nft list ruleset'],
    explains: keysOf(blocked),
  }
}

function differingPort(facts: ProbedFacts, refused: readonly Probed[]): Finding | undefined {
  const [first] = refused
  if (first === undefined) return undefined
  const port = portOf(facts, first.peer)
  return {
    code: 'port-differs',
    severity: 'fail',
    what: `nobody listens on UDP ${port} of ${count(refused.length, 'peer')}`,
    evidence: few(refused.map(({ peer }) => `${formatIp(peer.publicIp)}:${port}: port unreachable (ICMP)`)),
    breaks: 'no packet of the overlay is taken there',
    fix:
      `there the device is missing, or has another UDP port than the ${port} here: compare, then restart ` +
      'overlayd where Backend.Port is not followed',
    commands: [
      `ip -d link show flannel.1 | grep -o 'dstport [0-9]*'    # here, and on ` +
        `${formatIp(first.peer.publicIp)}`,
      'systemctl restart overlayd',
    ],
    explains: keysOf(refused),
  }
}

/** This host's own rules were checked before. Where they could not be read, they may be the cause. */
function blockedThere(
  facts: ProbedFacts & Pick<Facts, 'firewall'>,
  lost: readonly Probed[],
): Finding | undefined {
  const [first] = lost
  if (first === undefined) return undefined
  const port = portOf(facts, first.peer)
  const { firewall } = facts
  const unread = firewall.ok ? firewall.value.unread : [firewall.problem]
  const isKnown = unread.length === 0
  const refused = lost.find(({ probe }) => probe.udp === 'unreachable')
  const to = lost.length === 1 ? formatIp(first.peer.publicIp) : `${lost.length} peers`
  const self = { explains: keysOf(lost) }
  const common = {
    code: 'udp-blocked-in',
    severity: 'fail',
    evidence: [
      ...few(lost.map(line)),
      ...(refused === undefined
        ? []
        : [`UDP ${port} to ${formatIp(refused.peer.publicIp)} is refused by a firewall that says so (ICMP)`]),
      ...(isKnown
        ? []
        : [`rules of this host that could not be read: ${unread.map(({ text }) => text).join('; ')}`]),
    ],
    breaks: 'no packet of the overlay goes between those hosts and this one',
    ...self,
  } as const
  if (!isKnown) {
    return {
      ...common,
      what: `UDP ${port} to and from ${to} is dropped: here, on the way or there`,
      fix: 'look at the rules of this host first, as root; then at those of the peer, and at what is between',
      commands: ['sudo overlayctl doctor'],
    }
  }
  return {
    ...common,
    what: `UDP ${port} to ${to} is dropped, there or on the way`,
    fix:
      `let UDP ${port} in on the peer, and through what is between (security groups, switches); overlayctl ` +
      'doctor there tells more',
    commands: [`iptables -I INPUT -p udp --dport ${port} -j ACCEPT    # on ${formatIp(first.peer.publicIp)}`],
  }
}

function checkMtu(facts: ProbedFacts, earlier: readonly Finding[]): Outcome {
  const probed = unexplained(facts, earlier)
  const holes = probed.filter(({ probe }) => reachOf(probe) === 'mtu')
  const mtus = [...new Set(probed.flatMap(({ peer }) => deviceOf(facts, peer.family)?.link.mtu ?? []))]
  const full = probed.filter(({ probe }) => got(probe.overlayFull)).length
  const summary =
    full === 0 ? 'no peer answers' : `${mtus.join(' and ')} bytes get through to ${count(full, 'peer')}`
  const [first] = holes
  if (first === undefined) return outcome(summary, [])
  const outer = outerSize(facts, first.peer)
  const found = holes.flatMap(({ probe }) => probe.pathMtu ?? [])
  const smallest = found.length === 0 ? undefined : Math.min(...found)
  const large = smallest === undefined ? 'large packets' : `packets of more than ${smallest} bytes`
  const echo = formatIp(first.peer.publicIp)
  const device = deviceOf(facts, first.peer.family)
  const parent = findLink(facts, device && parentOf(facts, device)?.index)
  const interfaceName = parent?.name ?? 'the interface'
  return outcome('', [
    {
      code: 'mtu-black-hole',
      severity: 'fail',
      what: `${large} do not get through to ${count(holes.length, 'peer')}, and no router says so`,
      evidence: few(
        holes.map(({ peer, probe: { pathMtu } }) => {
          const fits =
            pathMtu === undefined
              ? `${outer} bytes are lost, 64 are not`
              : `${pathMtu} bytes fit, ${outer} are needed`
          return `${peerKey(peer)} at ${formatIp(peer.publicIp)}: ${fits}`
        }),
      ),
      breaks: 'connections open, and hang when data flows',
      fix: `give all links between the hosts the MTU of ${interfaceName} (${parent?.mtu ?? outer})${
        smallest === undefined || smallest >= outer
          ? ', or find the size that fits and put it as "MTU" into Backend of the network config'
          : `, or tell the overlay of the smaller one: add "MTU":${smallest} to Backend in the network config`
      }; overlayd follows by itself, Docker and its containers after a restart`,
      commands: [
        `ping -M do -s ${outer - ECHO_HEADERS[first.peer.family]} ${echo}    # shows it`,
        'overlayctl config get',
      ],
      explains: keysOf(holes),
    },
  ])
}

/** Bytes of the ICMP header and of the IP header before it (RFC 792, RFC 791, RFC 8200). */
const ECHO_HEADERS: Readonly<Record<Family, number>> = { IPv4: 28, IPv6: 48 }

/** The size of the device's largest packet on the underlay, in bytes. */
function outerSize(facts: Pick<Facts, 'kernel' | 'config' | 'daemon'>, { family }: PeerFact): number {
  return (deviceOf(facts, family)?.link.mtu ?? 0) + outerOverhead(facts, family)
}

function checkReach(facts: ProbedFacts, earlier: readonly Finding[]): Outcome {
  const all = facts.probes.value
  const probed = unexplained(facts, earlier)
  const silent = probed.filter(({ probe }) => reachOf(probe) === 'silent')
  const rest = probed.filter(({ probe }) => reachOf(probe) === 'unreached')
  const loss = probed.filter(({ probe }) => reachOf(probe) === 'loss')
  const ok = all.filter((probe) => reachOf(probe) === 'ok').length
  const mute = probed.filter(({ probe }) => reachOf(probe) === 'no-ping')
  const unprobed = peersOf(facts).length - all.length
  const left = unprobed > 0 ? `; ${unprobed} were not probed` : ''
  return outcome(`${ok} of ${count(all.length, 'peer')} answer${left}`, [
    silentPeers(silent, ok === 0),
    unreachedPeers(rest),
    losingPeers(loss),
    unpingable(mute),
  ])
}

function silentPeers(silent: readonly Probed[], everyone: boolean): Finding | undefined {
  const [first] = silent
  if (first === undefined) return undefined
  return {
    code: 'peer-silent',
    severity: everyone ? 'fail' : 'warn',
    what: everyone
      ? 'no peer answers at all'
      : `${count(silent.length, 'peer does', 'peers do')} not answer at all, neither through the overlay ` +
        'nor past it',
    evidence: few(silent.map(line)),
    breaks: 'their containers are not reached',
    fix: everyone
      ? "look at this host's link, its addresses and the way to the others"
      : 'the host is off, or the way there is broken; a lease stays up to a day after its host is gone',
    commands: [`ping ${formatIp(first.peer.publicIp)}`],
  }
}

function unreachedPeers(rest: readonly Probed[]): Finding | undefined {
  const [first] = rest
  if (first === undefined) return undefined
  return {
    code: 'peer-unreached',
    severity: 'fail',
    what: `${count(rest.length, 'peer is', 'peers are')} not reached through the overlay`,
    evidence: few(rest.map(line)),
    breaks: 'their containers are not reached',
    fix: `the cause is on the other side: run overlayctl doctor on ${formatIp(first.peer.publicIp)}`,
  }
}

function unpingable(mute: readonly Probed[]): Finding | undefined {
  const [first] = mute
  if (first === undefined) return undefined
  return {
    code: 'ping-blocked',
    severity: 'warn',
    what: `${count(mute.length, 'peer answers', 'peers answer')} TCP through the overlay, and no ping`,
    evidence: few(mute.map(line)),
    breaks: 'nothing but tests with ping',
    fix: 'the firewall there drops ICMP; let it in if hosts are to be watched by ping',
    commands: [`overlayctl doctor --only=firewall    # on ${formatIp(first.peer.publicIp)}`],
  }
}

function losingPeers(loss: readonly Probed[]): Finding | undefined {
  if (loss.length === 0) return undefined
  return {
    code: 'peer-loss',
    severity: 'warn',
    what: `packets get lost on the way to ${count(loss.length, 'peer')}`,
    evidence: few(
      loss.map(({ peer, probe }) => `${peerKey(peer)}: ${score(probe.overlayFull)} of full size`),
    ),
    breaks: 'connections to those hosts are slow',
    fix: 'look at the link and the load between the hosts: the same loss past the overlay is the network’s',
    commands: loss.slice(0, 1).map(({ peer }) => `ping -c 100 -i 0.01 ${formatIp(peer.publicIp)}`),
  }
}
