/** Settings of this host's kernel that an overlay needs. */
import { formatIp } from '../../model/address'
import { count } from '../../model/count'
import { bridgeNetfilterProblem } from '../../plan/firewall/bridge-netfilter'
import type { DeviceFacts, Facts, Known, PeerFact } from '../facts'
import { type Check, check, type Finding, few, type Outcome, outcome } from '../finding'
import {
  deviceOf,
  directLink,
  familiesOf,
  linkNameOf,
  OVERLAY,
  type OverlayFacts,
  parentOf,
  peerKey,
  peersOf,
} from '../overlay'
import { containerBridges } from './bridge'
import { REVERSE_PATH } from './counters'
import { leadsThere } from './device'
import { reachOf } from './reach'

/** Share of the table from which on bursts may fill it. */
const NEARLY_FULL = 0.9
const STRICT = 1
/** Connections that a small host has room for (net/netfilter/nf_conntrack_core.c, of 1 GB). */
const LEAST_TABLE = 65_536

export const HOST_CHECKS: readonly Check[] = [
  check({
    name: 'forwarding',
    about: 'the kernel forwards packets',
    needs: ['forwarding'],
    uses: [...OVERLAY, 'switches'],
    premise: 'started',
    run: checkForwarding,
  }),
  check({
    name: 'rp-filter',
    about: 'no reverse path filter drops what comes from peers',
    needs: ['rpFilter'],
    uses: [...OVERLAY, 'ways'],
    ifGathered: ['probes', 'counted'],
    run: checkReversePath,
  }),
  check({
    name: 'conntrack',
    about: "the kernel's table of connections has room",
    needs: ['conntrack'],
    run({ conntrack }) {
      const { count: used, max } = conntrack.value
      const share = max === 0 ? 0 : used / max
      return outcome(`${used} of ${max} connections`, [
        share < NEARLY_FULL ? undefined : fullTable(used, max, share),
      ])
    },
  }),
  check({
    name: 'br-netfilter',
    about: 'rules of iptables hold between containers of one bridge',
    needs: ['bridgeNetfilter'],
    uses: ['config', 'daemon', 'kernel'],
    run(facts) {
      if (facts.config.value?.nftables === true) return outcome('not needed: the rules are those of nft', [])
      const state = facts.bridgeNetfilter.value
      const problem = bridgeNetfilterProblem(state, familiesOf(facts))
      return outcome('br_netfilter is loaded and on', [
        problem === undefined
          ? undefined
          : {
              code: problem.code,
              severity: 'warn',
              what: 'iptables does not see packets between containers of one bridge',
              evidence: [problem.text],
              breaks:
                'published ports and network policies do not work between containers of this host; flannel ' +
                'would not start',
              fix: problem.fix,
              commands: problem.commands,
            },
      ])
    },
  }),
]

function fullTable(used: number, max: number, share: number): Finding {
  const full = share >= 1
  return {
    code: full ? 'conntrack-full' : 'conntrack-nearly-full',
    severity: full ? 'fail' : 'warn',
    what: `the kernel's table of connections is ${full ? 'full' : `${Math.floor(share * 100)} % full`}`,
    evidence: [`net.netfilter.nf_conntrack_count ${used}, nf_conntrack_max ${max}`],
    breaks:
      'new connections are dropped, of containers and of this host (dmesg: nf_conntrack: table full, ' +
      'dropping packet)',
    fix: 'enlarge it, for good in /etc/sysctl.d, or find the program that opens so many',
    commands: [`sysctl -w net.netfilter.nf_conntrack_max=${Math.max(LEAST_TABLE, max * 2)}`],
  }
}

type SwitchFacts = OverlayFacts & Pick<Facts, 'switches'>

function checkForwarding(facts: SwitchFacts & Known<'forwarding'>): Outcome {
  const { ipv4, ipv6 } = facts.forwarding.value
  const families = familiesOf(facts)
  const off = [
    ...(families.includes('IPv4') && ipv4 === false ? ['net/ipv4/ip_forward'] : []),
    ...(families.includes('IPv6') && ipv6 === false ? ['net/ipv6/conf/all/forwarding'] : []),
  ]
  const links = off.length > 0 ? [] : linksThatDoNot(facts)
  return outcome(`on for ${families.join(' and ')}`, [
    off.length > 0 ? forwardingOff('this host does not forward packets', off) : undefined,
    links.length > 0
      ? forwardingOff(
          `this host does not forward what comes in by ${links.join(' and ')}`,
          links.map((link) => `net/ipv4/conf/${link}/forwarding`),
        )
      : undefined,
    ...withoutIpv6(facts),
  ])
}

const forwardingOff = (what: string, names: readonly string[]): Finding => ({
  code: 'forwarding-off',
  severity: 'fail',
  what,
  evidence: names.map((name) => `${name} is 0`),
  breaks:
    'hosts reach each other through the overlay, but the containers here reach nothing and are not reached',
  fix: 'switch it on, and look in /etc/sysctl.d who switched it off; overlayd does so when it starts',
  commands: names.map((name) => `sysctl -w ${name}=1`),
})

/**
 * The links by which packets of the overlay arrive and whose own switch is off: the kernel asks the switch of
 * each link.
 */
function linksThatDoNot(facts: SwitchFacts): string[] {
  if (!familiesOf(facts).includes('IPv4')) return []
  const bridges = containerBridges(facts, 'IPv4').map(({ link }) => link.name)
  const names = [deviceOf(facts, 'IPv4')?.link.name, ...bridges]
  return names.flatMap((name) =>
    name !== undefined && facts.switches.value?.get(name)?.forwarding === false ? [name] : [],
  )
}

function withoutIpv6(facts: SwitchFacts): Finding[] {
  if (!familiesOf(facts).includes('IPv6')) return []
  const bridges = containerBridges(facts, 'IPv6').map(({ link }) => link.name)
  const names = [deviceOf(facts, 'IPv6')?.link.name, ...bridges].flatMap((name) =>
    name !== undefined && facts.switches.value?.get(name)?.noIpv6 === true ? [name] : [],
  )
  if (names.length === 0) return []
  return [
    {
      code: 'ipv6-disabled',
      severity: 'fail',
      what: `IPv6 is switched off on ${names.join(' and ')}`,
      evidence: names.map((name) => `net/ipv6/conf/${name}/disable_ipv6 is 1`),
      breaks: 'no IPv6 packet goes between the containers here and those of other hosts',
      fix: 'switch it on, and look in /etc/sysctl.d who switched it off',
      commands: names.map((name) => `sysctl -w net/ipv6/conf/${name}/disable_ipv6=0`),
    },
  ]
}

/**
 * A strict filter drops a peer's packets where the route back to the peer uses another interface than the one
 * on which they arrive. Loose filters do no harm, nor do strict ones on links that are the only way (RFC
 * 3704).
 */
type FilterFacts = OverlayFacts & Known<'rpFilter', 'ways' | 'probes' | 'counted'>

function checkReversePath(facts: FilterFacts): Outcome {
  const device = deviceOf(facts, 'IPv4')
  const parent = device && parentOf(facts, device)
  if (device === undefined || parent === undefined) return outcome('nothing is dropped by it', [])
  const peers = peersOf(facts).filter(({ family }) => family === 'IPv4')
  const isStrict = (link: string): boolean => strictness(facts, link) === STRICT
  const outside = !isStrict(parent.name)
    ? []
    : peers.filter((peer) => {
        const way = facts.ways.value?.get(peer.publicIp)
        return way !== undefined && way.linkIndex !== parent.index && leadsThere(facts, parent.index, peer)
      })
  const findings = [
    strictFilter(
      facts,
      parent.name,
      outside,
      ({ publicIp }) =>
        `ip route get ${formatIp(publicIp)}: dev ` +
        `${linkNameOf(facts, facts.ways.value?.get(publicIp)?.linkIndex)}, and its packets come in by ` +
        `${parent.name}`,
    ),
    ...onOneSideDirect(
      facts,
      device,
      parent.name,
      peers.filter((peer) => !outside.includes(peer)),
    ),
  ].filter((finding) => finding !== undefined)
  const counted = facts.counted.value?.get(REVERSE_PATH) ?? 0
  if (findings.length === 0 && counted > 0) return outcome('', countedByFilter(facts, counted))
  return outcome('nothing is dropped by it', findings)
}

/**
 * With DirectRouting each host decides for itself whether the other host is on its link. Where the two decide
 * differently, packets leave by one link and arrive by the other.
 */
function onOneSideDirect(
  facts: FilterFacts,
  device: DeviceFacts,
  parent: string,
  peers: readonly PeerFact[],
): (Finding | undefined)[] {
  if (facts.config.value?.backend.directRouting !== true) return []
  // The kernel counts packets that a filter drops. Where it counted none, the cause is another one.
  if (facts.counted.value?.has(REVERSE_PATH) === false) return []
  const probes = new Map(facts.probes.value?.map((probe) => [probe.peer, probe]))
  const lost = peers.filter((peer) => reachOf(probes.get(peerKey(peer))) === 'unreached')
  const isDirect = ({ subnet }: PeerFact): boolean => directLink(device.objects, subnet) !== undefined
  const cases = [
    { link: parent, other: device.link.name, peers: lost.filter((peer) => !isDirect(peer)) },
    { link: device.link.name, other: parent, peers: lost.filter(isDirect) },
  ]
  return cases.map(({ link, other, peers: bitten }) =>
    strictness(facts, link) !== STRICT
      ? undefined
      : strictFilter(
          facts,
          link,
          bitten,
          (peer) =>
            `packets for ${peerKey(peer)} leave by ${other}, and DirectRouting of that host may send its ` +
            `own so that they come in by ${link}`,
        ),
  )
}

function strictFilter(
  facts: FilterFacts,
  link: string,
  bitten: readonly PeerFact[],
  line: (peer: PeerFact) => string,
): Finding | undefined {
  if (bitten.length === 0) return undefined
  const counted = facts.counted.value?.get(REVERSE_PATH)
  return {
    code: 'rp-filter-strict',
    severity: 'fail',
    what: `the reverse path filter of ${link} drops what comes from ${count(bitten.length, 'peer')}`,
    evidence: few([
      `net/ipv4/conf/${link}/rp_filter is strict (1; the greater of all's and its own counts)`,
      ...(counted === undefined
        ? []
        : [`the kernel counted ${counted} packets that it dropped while the peers were probed`]),
      ...bitten.map(line),
    ]),
    breaks: 'packets of those hosts arrive and are dropped',
    fix: `make it loose (for good in /etc/sysctl.d), or let the route lead over ${link}`,
    commands: [`sysctl -w net/ipv4/conf/${link}/rp_filter=2`],
    explains: new Set(bitten.map(peerKey)),
  }
}

/** A filter drops packets while peers do not answer, and the settings alone do not tell which filter. */
function countedByFilter(facts: FilterFacts, counted: number): Finding[] {
  const silent = (facts.probes.value ?? []).filter(({ overlayFull }) => overlayFull.received === 0)
  if (silent.length === 0) return []
  const strict = [...facts.rpFilter.value].filter(
    ([name]) => name !== 'default' && strictness(facts, name) === STRICT,
  )
  return [
    {
      code: 'rp-filter-drops',
      severity: 'warn',
      what: 'a reverse path filter dropped packets while peers that do not answer were probed',
      evidence: [
        `${REVERSE_PATH}: ${counted}`,
        `strict on ${
          strict
            .map(([name]) => name)
            .slice(0, 8)
            .join(', ') || 'no link; a rule of nft or iptables may be it'
        }`,
      ],
      breaks: 'packets that come in by another link than the way back leads over are dropped',
      fix: 'make it loose on the link that they come in by; martians are logged with log_martians',
      commands: ['sysctl -w net/ipv4/conf/all/log_martians=1', 'dmesg | grep martian'],
    },
  ]
}

const strictness = ({ rpFilter }: Known<'rpFilter'>, link: string): number =>
  Math.max(rpFilter.value.get('all') ?? 0, rpFilter.value.get(link) ?? 0)
