/**
 * What the daemon judges of its bridge and of the way in: the same as the doctor, in the same words, from the
 * facts that the daemon has at hand.
 */
import { diagnose } from '../../../src/judge/diagnose'
import type { KernelFacts } from '../../../src/judge/facts'
import { judgeWayIn, WAY_IN_CHECKS, type WayInView } from '../../../src/judge/way-in'
import type { Peer } from '../../../src/model/lease'
import type { PacketFilter } from '../../../src/model/packet-filter'
import { failed, found } from '../../../src/model/result'
import {
  address,
  type Changes,
  DEVICE_LINK,
  facts,
  ip,
  KERNEL,
  LEASES,
  lease,
  link,
  OWN_MAC,
  PEER_MAC,
  prefix,
  route,
  saved,
  UNDERLAY,
} from './support'

const BRIDGE = 9

const peer: Peer = {
  key: '/coreos.com/network/subnets/10.5.42.0-24',
  subnet: prefix('10.5.42.0/24'),
  publicIp: ip('192.0.2.12'),
  mac: PEER_MAC,
}

/** The view of a daemon on the host with these facts. */
function viewOf(changes: Changes): WayInView {
  const { config, kernel, ways, forwarding, switches, firewall, subnetFile, cni } = facts(changes)
  if (!(config.ok && kernel.ok && ways.ok && forwarding.ok && switches.ok && subnetFile.ok))
    throw new Error('a fact that the daemon always has is missing')
  const { links, addresses, routes, devices } = kernel.value
  return {
    now: 0,
    etcdPrefix: '/coreos.com/network',
    runDirectory: '/run/overlayd',
    config: config.value,
    further: [],
    own: LEASES[0] ?? lease('10.5.7.0/24', '192.0.2.11', OWN_MAC),
    peers: [{ family: 'IPv4', peer, encryption: undefined, isFixed: true }],
    links,
    addresses,
    routes,
    devices,
    ways: ways.value,
    forwarding: forwarding.value,
    switches: switches.value,
    firewall,
    subnetFile: { ...subnetFile.value, mtu: subnetFile.value.mtu ?? 1450 },
    cni: cni.value === true,
  }
}

const further = [prefix('10.5.250.0/26')]
const judged = (changes: Changes) =>
  judgeWayIn(viewOf(changes)).findings.map(({ check, code, severity }) => [check, code, severity])

const kernel = (more: Partial<KernelFacts>): Changes => ({ kernel: { ...KERNEL, ...more } })
const bridge = (text: string, mtu = 1450): Changes =>
  kernel({
    links: [
      ...KERNEL.links,
      link(BRIDGE, 'docker0', { kind: 'bridge', mtu }),
      link(10, 'veth1', { master: BRIDGE, mtu }),
    ],
    addresses: [...KERNEL.addresses, address(BRIDGE, text)],
  })
const astray = new Map([[ip('10.5.42.2'), { linkIndex: UNDERLAY, source: ip('192.0.2.11') }]])

test.each<[string, Changes]>([
  ['without any container', {}],
  ['with a bridge on its subnet', bridge('10.5.7.1/24')],
  ['whose rules let everything pass', saved({ filter: [':INPUT ACCEPT [0:0]', ':FORWARD ACCEPT [0:0]'] })],
  [
    'whose foreign routes are elsewhere',
    kernel({ routes: [...KERNEL.routes, route('10.5.42.0/16', UNDERLAY), route('10.6.0.0/24', UNDERLAY)] }),
  ],
])('a host %s is in order', (_, changes) => {
  expect(judged(changes)).toEqual([])
  expect([...judgeWayIn(viewOf(changes)).made].sort()).toEqual([...WAY_IN_CHECKS].sort())
})

test('a bridge on a further subnet is looked at as one on the leased subnet is', () => {
  const codes = (changes: Changes): string[] =>
    judgeWayIn({ ...viewOf(changes), further }).findings.map(({ code }) => code)
  expect(codes(bridge('10.5.250.1/26'))).toEqual([])
  expect(codes(bridge('10.5.250.1/26', 1500))).toEqual(['bridge-mtu'])
  expect(judged(bridge('10.5.250.1/26'))).toEqual([['bridge', 'bridge-subnet', 'problem']])
})

const FAULTS: [string, Changes, string, string, 'problem' | 'warning'][] = [
  ["Docker's bridge elsewhere", bridge('172.17.0.1/16'), 'bridge', 'bridge-subnet', 'problem'],
  [
    "Docker's bridge elsewhere, beside CNI",
    { ...bridge('172.17.0.1/16'), cni: true },
    'bridge',
    'bridge-subnet',
    'warning',
  ],
  ['a bridge of another length', bridge('10.5.7.1/16'), 'bridge', 'bridge-subnet', 'problem'],
  ['containers that send too much', bridge('10.5.7.1/24', 1500), 'bridge', 'bridge-mtu', 'warning'],
  [
    'INPUT that drops VXLAN',
    saved({ filter: [':INPUT ACCEPT [0:0]', '-A INPUT -p udp -m udp --dport 8472 -j DROP'] }),
    'firewall',
    'udp-blocked-here',
    'problem',
  ],
  [
    'the policy of INPUT',
    saved({ filter: [':INPUT DROP [0:0]'] }),
    'firewall',
    'udp-blocked-here',
    'problem',
  ],
  [
    'OUTPUT that drops VXLAN',
    saved({ filter: [':OUTPUT ACCEPT [0:0]', '-A OUTPUT -p udp -m udp --dport 8472 -j REJECT'] }),
    'firewall',
    'udp-blocked-out',
    'problem',
  ],
  [
    'the policy of FORWARD',
    saved({ filter: [':FORWARD DROP [0:0]'] }),
    'firewall',
    'forward-drop',
    'problem',
  ],
  [
    'forwarding that is off',
    { forwarding: { ipv4: false, ipv6: false } },
    'forwarding',
    'forwarding-off',
    'problem',
  ],
  [
    'a device that forwards nothing',
    { switches: new Map([[DEVICE_LINK.name, { forwarding: false }]]) },
    'forwarding',
    'forwarding-off',
    'problem',
  ],
  [
    'a more specific route',
    kernel({ routes: [...KERNEL.routes, route('10.5.42.0/25', UNDERLAY)] }),
    'routes',
    'route-shadowed',
    'problem',
  ],
  ['a rule that leads elsewhere', { ways: astray }, 'routes', 'route-shadowed', 'problem'],
]

test.each(FAULTS)('%s: as the doctor says it', (_, changes, check, code, severity) => {
  const { findings } = judgeWayIn(viewOf(changes))
  expect(findings.map((each) => [each.check, each.code, each.severity])).toEqual([[check, code, severity]])
  const [finding] = findings
  // The doctor, which has all facts, finds the same in the same words.
  const [result] = diagnose(facts({ probes: [], ...changes }), [check])
  const [said] = result?.findings ?? []
  expect(said).toMatchObject({ code, fix: finding?.fix })
  expect(finding?.text).toBe(`${said?.what}: ${said?.evidence[0]}`)
})

test('what cannot be decided by rules alone is left to the doctor, who probes', () => {
  expect(
    judged(saved({ filter: [':FORWARD ACCEPT [0:0]', '-A FORWARD -m limit --limit 1/sec -j DROP'] })),
  ).toEqual([])
})

test('rules are judged again only when something has changed that they depend on', () => {
  const view = viewOf(saved({ filter: [':INPUT DROP [0:0]'] }))
  const { memory } = judgeWayIn(view)
  const again = (changed: Partial<WayInView>) => judgeWayIn({ ...view, ...changed }, memory)
  const other = { family: 'IPv4', peer: { ...peer }, encryption: undefined } as const
  const same = again({
    now: 1,
    routes: [],
    ways: new Map(),
    peers: [...view.peers, { ...other, isFixed: false }],
  })
  expect(same.memory).toBe(memory)
  expect(same.findings.map(({ code }) => code)).toEqual(['udp-blocked-here'])
  const { firewall } = viewOf({})
  expect(again({ firewall }).findings).toEqual([])
  const changes: Partial<WayInView>[] = [
    { links: [...view.links] },
    { peers: [{ ...other, isFixed: true }] },
    { peers: [] },
  ]
  for (const changed of changes) expect(again(changed).memory).not.toBe(memory)
})

test('a check whose facts are missing is not made, and the others are', () => {
  const view = {
    ...viewOf(saved({ filter: [':INPUT DROP [0:0]'] })),
    firewall: failed({ part: 'firewall', code: 'late', text: 'late' }),
  }
  const { findings, made } = judgeWayIn(view)
  expect(findings).toEqual([])
  expect([...made].sort()).toEqual(['bridge', 'forwarding', 'routes'])
  const unread: PacketFilter = { chains: [], unread: [{ text: 'rules of nftables: denied', denied: true }] }
  expect(judgeWayIn({ ...view, firewall: found(unread) }).made.has('firewall')).toBe(false)
})

test('only what lets nothing through makes the host unready', () => {
  const isCut = (changes: Changes) => judgeWayIn(viewOf(changes)).findings.map((each) => each.isCut)
  expect(isCut(saved({ filter: [':INPUT DROP [0:0]'] }))).toEqual([true])
  expect(isCut(saved({ filter: [':FORWARD DROP [0:0]'] }))).toEqual([false])
  expect(isCut(bridge('172.17.0.1/16'))).toEqual([false])
})

test('a peer whose packets go astray is in the next sample too', () => {
  expect([...judgeWayIn(viewOf({ ways: astray })).suspects]).toEqual(['10.5.42.0/24'])
})
