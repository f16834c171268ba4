/**
 * The rules that let no VXLAN packet of our network out of or into this host, except through our WireGuard
 * devices:
 *
 *     table inet fl-wg.1 {
 *       chain cut {
 *         meta l4proto != udp return
 *         udp dport != 8472 return
 *         @th,96,24 >= 0x0 return
 *         counter drop
 *       }
 *       chain in {
 *         type filter hook input priority raw; policy accept;
 *         iifname "fl-wg.1" accept
 *         udp dport 8472 @th,96,24 0x1 counter drop
 *         frag frag-off 0 jump cut
 *       }
 *       chain out {
 *         type filter hook output priority raw; policy accept;
 *         oifname "fl-wg.1" accept
 *         udp dport 8472 @th,96,24 0x1 counter drop
 *       }
 *       chain post {
 *         type filter hook postrouting priority raw; policy accept;
 *         oifname "fl-wg.1" accept
 *         udp dport 8472 @th,96,24 0x1 fib saddr type local counter drop
 *       }
 *     }
 *
 * Why these hooks, and these rules:
 *
 * - Devices are matched by name. A device that does not exist yet, or no more, lets nothing through.
 * - IPv4 packets reach INPUT whole. Of IPv6, INPUT sees each fragment, unless connection tracking is in use:
 *   the kernel puts fragments together after the hook (net/ipv6/reassembly.c). A packet is complete only with
 *   its first fragment, so that one is decisive. A load of bytes that a packet lacks ends a rule, so a first
 *   fragment that ends before the VNI would pass the rule for it: the chain `cut` drops it, and also one that
 *   ends before the header of the transport protocol, which RFC 8200 (4.5) forbids.
 * - OUTPUT sees each packet that the VXLAN device sends (ip_local_out, ip6_local_out), with the device of its
 *   route. Another program's change of the packet's mark there makes the kernel look for a route again,
 *   without the device that the forwarding entry names (ip_route_me_harder), so POSTROUTING sees it once
 *   more. Packets that are only forwarded pass there too; they are not of this host.
 * - A packet that stands for several (GSO) has one VXLAN header for all of them when VXLAN made or merged it.
 *   A sender on this machine, such as a container or a guest, can hand over one of several UDP datagrams
 *   (UDP_SEGMENT). Rules see its first datagram alone: one of another VNI takes those behind it through. No
 *   rule can tell such a packet; only to drop all VNIs of the port would.
 * - Before connection tracking (raw), which is not needed.
 */
import type { Guard } from '../../model/guard'
import type { Condition, Rule, RuleChain, RuleTable } from '../../model/kernel/tables'
import { IPPROTO_UDP } from '../netlink/constants'

/** NF_IP_PRI_RAW (linux/netfilter_ipv4.h) */
const RAW = -300
/** Offset of the destination port in a UDP header (RFC 768). */
const DESTINATION_PORT = 2
/** Offset of the VNI from the start of the UDP header: 8 bytes of that, 4 of VXLAN's flags (RFC 7348). */
const VNI = 12
const MOST_VNI = 0xffffff

/** Names of the chains, by the direction whose packets their rules count. */
export const GUARD_CHAINS = { in: ['cut', 'in'], out: ['out', 'post'] } as const

/** @throws {RangeError} for a link, a port or a VNI that cannot be, or no VNI: it would let packets pass */
export function guardTable({ name, links, port, vnis }: Guard): RuleTable {
  if (!isWithin(port, 1, 0xffff)) throw new RangeError(`no UDP port: ${port}`)
  if (vnis.length === 0) throw new RangeError(`no VNI to guard: ${name}`)
  const ours = vnis.map((vni) => {
    if (!isWithin(vni, 0, MOST_VNI)) throw new RangeError(`no VNI: ${vni}`)
    return isVni(vni)
  })
  const dropped = (...more: readonly Condition[]): Rule[] =>
    ours.map((vni) => ({
      conditions: [UDP, isPort(port), vni, ...more],
      counted: true,
      verdict: 'drop',
    }))
  const through = (fact: 'in-name' | 'out-name'): Rule[] =>
    links.map((value) => ({ conditions: [{ fact, value }], verdict: 'accept' }))
  return {
    family: 'inet',
    name,
    chains: [
      cutChain(port),
      base('in', 'input', [
        ...through('in-name'),
        ...dropped(),
        { conditions: FIRST_FRAGMENT, verdict: { jump: 'cut' } },
      ]),
      base('out', 'output', [...through('out-name'), ...dropped()]),
      base('post', 'postrouting', [
        ...through('out-name'),
        ...dropped({ fact: 'local-source', value: true }),
      ]),
    ],
  }
}

const isWithin = (value: number, least: number, most: number): boolean =>
  Number.isInteger(value) && value >= least && value <= most

const base = (name: string, at: NonNullable<RuleChain['hook']>['at'], rules: readonly Rule[]): RuleChain => ({
  name,
  hook: { at, priority: RAW },
  policy: 'accept',
  rules,
})

const UDP: Condition = { fact: 'protocol', value: IPPROTO_UDP }

const isPort = (port: number): Condition => ({
  header: 'transport',
  at: DESTINATION_PORT,
  value: [port >> 8, port & 0xff],
})

const isVni = (vni: number): Condition => ({
  header: 'transport',
  at: VNI,
  value: [vni >> 16, (vni >> 8) & 0xff, vni & 0xff],
})

/** The fragment header has the offset in the upper 13 bits of its second half-word (RFC 8200, 4.5). */
const FIRST_FRAGMENT: readonly Condition[] = [
  { fact: 'family', value: 'IPv6' },
  { header: 'fragment', at: 2, value: [0, 0], mask: [0xff, 0xf8] },
]

/**
 * Drops first fragments that could be of VXLAN, and whose VNI is not in them. One with a VNI got here because
 * that is none of ours.
 */
const cutChain = (port: number): RuleChain => ({
  name: 'cut',
  policy: 'return',
  rules: [
    { conditions: [{ ...UDP, not: true }], verdict: 'return' },
    { conditions: [UDP, { ...isPort(port), not: true }], verdict: 'return' },
    { conditions: [{ header: 'transport', at: VNI, value: [0, 0, 0], orMore: true }], verdict: 'return' },
    { conditions: [], counted: true, verdict: 'drop' },
  ],
})
