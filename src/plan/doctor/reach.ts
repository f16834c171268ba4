/** What probes say: how far packets get, and of which size. A peer that an earlier finding explains is not reported again. */
import { formatIp } from '../../model/address'
import { VXLAN_OVERHEAD } from '../../model/kernel'
import type { Facts, PeerFact, PingFact, ProbeFact } from './facts'
import { type Check, count, type Finding, few, type Outcome, outcome } from './finding'
import { deviceOf, findLink, parentOf, peerKey, peersOf } from './overlay'
import { findDrop } from './ruleset'

/** The port of a device that was made without one (drivers/net/vxlan). */
const DEFAULT_PORT = 8472

/** A peer and how its probes went. */
interface Probed {
  readonly peer: PeerFact
  readonly probe: ProbeFact
}

/** How a peer is reached, as the table shows it. */
export type Reach = 'ok' | 'loss' | 'mtu' | 'unreached' | 'silent' | 'unprobed'

const UNPROBED = 'no peer was probed'

export const REACH_CHECKS: readonly Check[] = [
  { name: 'udp', about: 'VXLAN packets leave this host and arrive at the peers', run: checkUdp },
  { name: 'mtu', about: 'packets of full size get through', run: checkMtu },
  { name: 'reach', about: "every peer's VTEP answers through the overlay", run: checkReach },
]

/** What to say of a peer in one word. */
export function reachOf(probe: ProbeFact | undefined): Reach {
  if (probe === undefined) return 'unprobed'
  const { overlayFull, overlaySmall, underlaySmall } = probe
  if (overlayFull.received === overlayFull.sent) return 'ok'
  if (overlayFull.received > 0) return 'loss'
  if (got(overlaySmall)) return 'mtu'
  return got(underlaySmall) ? 'unreached' : 'silent'
}

const got = (ping: PingFact | undefined): boolean => (ping?.received ?? 0) > 0

/** Those whose probes are still to be explained. */
function unexplained(facts: Facts, earlier: readonly Finding[]): Probed[] {
  const probes = new Map(facts.probes.value?.map((probe) => [probe.peer, probe]))
  return peersOf(facts).flatMap((peer) => {
    const key = peerKey(peer)
    const probe = probes.get(key)
    const explained = earlier.some(({ explains }) => explains === 'all' || explains?.has(key))
    return probe === undefined || explained ? [] : [{ peer, probe }]
  })
}

const keysOf = (probed: readonly Probed[]): ReadonlySet<string> =>
  new Set(probed.map(({ peer }) => peerKey(peer)))

function skipped(facts: Facts): { readonly skipped: string } | undefined {
  if (facts.probes.value === undefined) return { skipped: facts.probes.missing }
  return facts.probes.value.length === 0 ? { skipped: UNPROBED } : undefined
}

const portOf = (facts: Facts, { family }: PeerFact): number =>
  deviceOf(facts, family)?.link.vxlan?.port ?? DEFAULT_PORT

const line = ({ peer, probe }: Probed): string =>
  `${peerKey(peer)} at ${formatIp(peer.publicIp)}: ${score(probe.overlaySmall ?? probe.overlayFull)} through the overlay, ${score(probe.underlaySmall)} to its PublicIP`

const score = (ping: PingFact | undefined): string =>
  `${ping?.received ?? 0} of ${ping?.sent ?? 0} pings answered`

function checkUdp(facts: Facts, earlier: readonly Finding[]): Outcome {
  const skip = skipped(facts)
  if (skip !== undefined) return skip
  const probed = unexplained(facts, earlier)
  const unreached = probed.filter(({ probe }) => ['unreached', 'silent'].includes(reachOf(probe)))
  const blocked = unreached.filter(({ probe }) => probe.udp === 'blocked')
  const refused = unreached.filter(({ probe }) => probe.udp === 'refused')
  const lost = unreached.filter(({ probe }) => probe.udp === 'silent' && got(probe.underlaySmall))
  const answered = probed.length - unreached.length
  return outcome(`VXLAN packets get through to ${count(answered, 'peer')}`, [
    blockedOut(facts, blocked),
    differingPort(facts, refused),
    answered === 0 ? (blockedHere(facts, lost) ?? blockedThere(facts, lost)) : blockedThere(facts, lost),
  ])
}

function blockedOut(facts: Facts, blocked: readonly Probed[]): Finding | undefined {
  const [first] = blocked
  if (first === undefined) return undefined
  const port = portOf(facts, first.peer)
  const rule = findDrop(facts.firewall.value?.ruleset ?? '', 'output', port)
  return {
    code: 'udp-blocked-out',
    severity: 'fail',
    what: `this host's own firewall does not let UDP ${port} out`,
    evidence: [
      `sending to ${formatIp(first.peer.publicIp)}:${port} is refused by this kernel (EPERM)`,
      ...(rule === undefined ? [] : [rule.evidence]),
    ],
    breaks: `no packet of the overlay reaches ${blocked.length === 1 ? 'that peer' : `${blocked.length} peers`}`,
    fix: 'let it out, for good where your rules are kept',
    commands: [rule?.command ?? `iptables -I OUTPUT -p udp --dport ${port} -j ACCEPT`],
    explains: keysOf(blocked),
  }
}

function differingPort(facts: Facts, refused: readonly Probed[]): Finding | undefined {
  const [first] = refused
  if (first === undefined) return undefined
  const port = portOf(facts, first.peer)
  return {
    code: 'port-differs',
    severity: 'fail',
    what: `nobody listens on UDP ${port} of ${count(refused.length, 'peer')}`,
    evidence: few(refused.map(({ peer }) => `${formatIp(peer.publicIp)}:${port}: port unreachable (ICMP)`)),
    breaks: 'no packet of the overlay is taken there',
    fix: `there the device is missing, or has another UDP port than the ${port} here: compare, then restart overlayd where Backend.Port is not followed`,
    commands: [
      `ip -d link show flannel.1 | grep -o 'dstport [0-9]*'    # here, and on ${formatIp(first.peer.publicIp)}`,
      'systemctl restart overlayd',
    ],
    explains: keysOf(refused),
  }
}

function blockedHere(facts: Facts, lost: readonly Probed[]): Finding | undefined {
  const [first] = lost
  if (first === undefined) return undefined
  const port = portOf(facts, first.peer)
  const rule = findDrop(facts.firewall.value?.ruleset ?? '', 'input', port)
  if (rule === undefined) return undefined
  return {
    code: 'udp-blocked-here',
    severity: 'fail',
    what: `this host's own firewall does not let UDP ${port} in`,
    evidence: [rule.evidence, ...few(lost.map(line))],
    breaks: 'no packet of the overlay gets in here',
    fix: 'let it in, for good where your rules are kept',
    commands: [rule.command],
    explains: keysOf(lost),
  }
}

function blockedThere(facts: Facts, lost: readonly Probed[]): Finding | undefined {
  const [first] = lost
  if (first === undefined) return undefined
  const port = portOf(facts, first.peer)
  return {
    code: 'udp-blocked-in',
    severity: 'fail',
    what: `UDP ${port} to ${lost.length === 1 ? formatIp(first.peer.publicIp) : `${lost.length} peers`} is dropped, there or on the way`,
    evidence: few(lost.map(line)),
    breaks: 'no packet of the overlay goes between those hosts and this one',
    fix: `let UDP ${port} in on the peer, and through what is between (security groups, switches); overlayctl doctor there tells more`,
    commands: [`iptables -I INPUT -p udp --dport ${port} -j ACCEPT    # on ${formatIp(first.peer.publicIp)}`],
    explains: keysOf(lost),
  }
}

function checkMtu(facts: Facts, earlier: readonly Finding[]): Outcome {
  const skip = skipped(facts)
  if (skip !== undefined) return skip
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
  const device = deviceOf(facts, first.peer.family)
  const parent = findLink(facts, device && parentOf(facts, device)?.index)
  return outcome('', [
    {
      code: 'mtu-black-hole',
      severity: 'fail',
      what: `packets of more than ${smallest ?? '?'} bytes do not get through to ${count(holes.length, 'peer')}, and nobody says so`,
      evidence: few(
        holes.map(
          ({ peer, probe }) =>
            `${peerKey(peer)} at ${formatIp(peer.publicIp)}: ${probe.pathMtu ?? 'no size that fits was found, less than'} ${probe.pathMtu === undefined ? outer : `bytes fit, ${outer} are needed`}`,
        ),
      ),
      breaks: 'connections open, and hang when data flows',
      fix: `give all links between the hosts the MTU of ${parent?.name ?? 'the interface'} (${parent?.mtu ?? outer}), or tell the overlay of the smaller one: add "MTU":${smallest ?? outer} to Backend in the network config, then restart overlayd and Docker on every host`,
      commands: [
        `ping -M do -s ${outer - (first.peer.family === 'IPv4' ? 28 : 48)} ${formatIp(first.peer.publicIp)}    # shows it`,
        'overlayctl config get',
      ],
      explains: keysOf(holes),
    },
  ])
}

/** What the device's largest packet is on the underlay, in bytes. */
function outerSize(facts: Facts, { family }: PeerFact): number {
  return (deviceOf(facts, family)?.link.mtu ?? 0) + VXLAN_OVERHEAD[family]
}

function checkReach(facts: Facts, earlier: readonly Finding[]): Outcome {
  const skip = skipped(facts)
  if (skip !== undefined) return skip
  const all = facts.probes.value ?? []
  const probed = unexplained(facts, earlier)
  const silent = probed.filter(({ probe }) => reachOf(probe) === 'silent')
  const rest = probed.filter(({ probe }) => reachOf(probe) === 'unreached')
  const loss = probed.filter(({ probe }) => reachOf(probe) === 'loss')
  const ok = all.filter((probe) => reachOf(probe) === 'ok').length
  const unprobed = peersOf(facts).length - all.length
  const summary = `${ok} of ${count(all.length, 'peer')} answer${unprobed > 0 ? `; ${unprobed} were not probed` : ''}`
  return outcome(summary, [silentPeers(silent, ok === 0), unreachedPeers(rest), losingPeers(loss)])
}

function silentPeers(silent: readonly Probed[], everyone: boolean): Finding | undefined {
  const [first] = silent
  if (first === undefined) return undefined
  return {
    code: 'peer-silent',
    severity: everyone ? 'fail' : 'warn',
    what: everyone
      ? 'no peer answers at all'
      : `${count(silent.length, 'peer')} ${silent.length === 1 ? 'does' : 'do'} not answer at all, neither through the overlay nor past it`,
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
    what: `${count(rest.length, 'peer')} ${rest.length === 1 ? 'is' : 'are'} not reached through the overlay`,
    evidence: few(rest.map(line)),
    breaks: 'their containers are not reached',
    fix: `the cause is on the other side: run overlayctl doctor on ${formatIp(first.peer.publicIp)}`,
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
