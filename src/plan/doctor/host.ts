/** Settings of this host's kernel that an overlay needs. */
import { FAMILIES, formatIp } from '../../model/address'
import { bridgeNetfilterProblem } from '../bridge-netfilter'
import { leadsThere } from './device'
import type { Facts } from './facts'
import { type Check, count, type Finding, few, outcome } from './finding'
import { configOf, deviceOf, familiesOf, linkNameOf, parentOf, peerKey, peersOf } from './overlay'

/** Share of the table: from here on bursts fill it. */
const NEARLY_FULL = 0.9
const STRICT = 1

export const HOST_CHECKS: readonly Check[] = [
  { name: 'forwarding', about: 'the kernel forwards packets', run: checkForwarding },
  { name: 'rp-filter', about: 'no reverse path filter drops what comes from peers', run: checkReversePath },
  {
    name: 'conntrack',
    about: "the kernel's table of connections has room",
    run({ host: { conntrack } }) {
      if (conntrack === undefined) return { skipped: 'connections are not tracked here' }
      const { count: used, max } = conntrack
      const share = max === 0 ? 0 : used / max
      return outcome(`${used} of ${max} connections`, [
        share < NEARLY_FULL ? undefined : fullTable(used, max, share),
      ])
    },
  },
  {
    name: 'br-netfilter',
    about: 'rules of iptables hold between containers of one bridge',
    run(facts) {
      const state = facts.host.bridgeNetfilter
      if (configOf(facts).value?.nftables === true)
        return outcome('not needed: the rules are those of nft', [])
      if (state === undefined) return { skipped: 'it cannot be read' }
      const problem = bridgeNetfilterProblem(state, familiesOf(facts))
      return outcome('br_netfilter is loaded and on', [
        problem === undefined
          ? undefined
          : {
              code: state.present ? 'br-netfilter-off' : 'br-netfilter-missing',
              severity: 'warn',
              what: 'iptables does not see packets between containers of one bridge',
              evidence: [problem.split(', so ')[0] ?? problem],
              breaks:
                'published ports and network policies do not work between containers of this host; flannel would not start',
              fix: state.present ? 'switch it on' : 'load the module now, and at each boot',
              commands: /`([^`]+)`/.exec(problem)?.slice(1) ?? [],
            },
      ])
    },
  },
]

function fullTable(used: number, max: number, share: number): Finding {
  const full = share >= 1
  return {
    code: full ? 'conntrack-full' : 'conntrack-nearly-full',
    severity: full ? 'fail' : 'warn',
    what: `the kernel's table of connections is ${full ? 'full' : `${Math.floor(share * 100)} % full`}`,
    evidence: [`net.netfilter.nf_conntrack_count ${used}, nf_conntrack_max ${max}`],
    breaks:
      'new connections are dropped, of containers and of this host (dmesg: nf_conntrack: table full, dropping packet)',
    fix: 'enlarge it, for good in /etc/sysctl.d, or find who opens so many',
    commands: [`sysctl -w net.netfilter.nf_conntrack_max=${max * 2}`],
  }
}

function checkForwarding(facts: Facts) {
  const { ipForward, ipv6Forward } = facts.host
  const families = familiesOf(facts)
  const off = [
    ...(families.includes('IPv4') && ipForward === false ? ['net.ipv4.ip_forward'] : []),
    ...(families.includes('IPv6') && ipv6Forward === false ? ['net.ipv6.conf.all.forwarding'] : []),
  ]
  if (ipForward === undefined && ipv6Forward === undefined) return { skipped: 'it cannot be read' }
  const finding: Finding = {
    code: 'forwarding-off',
    severity: 'fail',
    what: 'this host does not forward packets',
    evidence: off.map((name) => `${name} is 0`),
    breaks:
      'hosts reach each other through the overlay, but the containers here reach nothing and are not reached',
    fix: 'switch it on, and look in /etc/sysctl.d who switched it off; overlayd does so when it starts',
    commands: off.map((name) => `sysctl -w ${name}=1`),
  }
  return outcome(`on for ${families.join(' and ')}`, [off.length === 0 ? undefined : finding])
}

/**
 * Strict filters bite where packets of a peer come in by another link than the one that packets to it leave by: on the interface of the device, when the
 * best way to a peer is over another one. Loose ones, and strict ones on links that are the only way, do no harm (RFC 3704).
 */
function checkReversePath(facts: Facts) {
  const findings = FAMILIES.flatMap((family) => {
    const device = family === 'IPv4' ? deviceOf(facts, family) : undefined
    const parent = device && parentOf(facts, device)
    if (parent === undefined || strictness(facts, parent.name) !== STRICT) return []
    const bitten = peersOf(facts).filter((peer) => {
      const way = facts.ways.get(peer.publicIp)
      return (
        peer.family === family &&
        way !== undefined &&
        way.linkIndex !== parent.index &&
        leadsThere(facts, parent.index, peer)
      )
    })
    if (bitten.length === 0) return []
    const finding: Finding = {
      code: 'rp-filter-strict',
      severity: 'fail',
      what: `the reverse path filter of ${parent.name} drops what comes from ${count(bitten.length, 'peer')}`,
      evidence: few([
        `net.ipv4.conf.${parent.name}.rp_filter is strict (1; the greater of all's and its own counts)`,
        ...bitten.map(
          ({ publicIp }) =>
            `ip route get ${formatIp(publicIp)}: dev ${linkNameOf(facts, facts.ways.get(publicIp)?.linkIndex)}, and its packets come in by ${parent.name}`,
        ),
      ]),
      breaks: 'packets of those hosts arrive and are thrown away',
      fix: `make it loose (for good in /etc/sysctl.d), or let the route lead over ${parent.name}`,
      commands: [`sysctl -w net.ipv4.conf.${parent.name}.rp_filter=2`],
      explains: new Set(bitten.map(peerKey)),
    }
    return [finding]
  })
  return outcome('nothing is dropped by it', findings)
}

const strictness = ({ host: { rpFilter } }: Facts, link: string): number =>
  Math.max(rpFilter.get('all') ?? 0, rpFilter.get(link) ?? 0)
