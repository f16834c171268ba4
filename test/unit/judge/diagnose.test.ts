import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { waitingProblem } from '../../../src/api/problems'
import { CHECKS, diagnose, factsFor } from '../../../src/judge/diagnose'
import type { KernelFacts, MulticastFacts, PeerWord, ProbeFact } from '../../../src/judge/facts'
import { FAMILIES, mac } from '../../../src/model/address'
import type { DockerNetwork } from '../../../src/model/docker'
import type { Revision } from '../../../src/model/lease'
import type { GroupsEntry } from '../../../src/model/multicast'
import type { Waiting } from '../../../src/model/waiting'
import { hw } from '../plan/support'
import {
  address,
  type Changes,
  CONFIG,
  DAEMON,
  DEVICE,
  DEVICE_LINK,
  ETCD,
  facts,
  type GivenPeer,
  GOOD_PROBE,
  ip,
  KERNEL,
  LEASES,
  LOST,
  lease,
  link,
  missing,
  NOW,
  nft,
  OWN_MAC,
  prefix,
  reporting,
  route,
  saved,
  UNDERLAY,
  word,
} from './support'

const codes = (changes: Changes): string[] =>
  diagnose(facts(changes)).flatMap(({ findings }) => findings.map(({ code }) => code))

const kernel = (changes: Partial<KernelFacts>): Changes => ({
  kernel: { ...KERNEL, ...changes },
})
const device = (changes: Partial<typeof DEVICE_LINK>): Changes => {
  const changed = { ...DEVICE_LINK, ...changes }
  return kernel({
    links: KERNEL.links.map((each) => (each.index === DEVICE ? changed : each)),
    devices: KERNEL.devices.map((each) => ({ ...each, link: changed })),
  })
}
const etcd = (
  changes: Partial<typeof ETCD> & { readonly unreadable?: never[]; readonly groups?: readonly GroupsEntry[] },
): Changes => ({
  etcd: { ...ETCD, ...changes },
})
const UNREACHED = { part: 'mesh', code: 'mesh-overlay', text: 'no answer from 1 peer' } as const
const probe = (changes: Partial<ProbeFact>): Changes => ({
  probes: [{ ...GOOD_PROBE, overlayFull: LOST, overlaySmall: LOST, ...changes }],
})
const config = (text: string) => etcd({ config: text })
const vxlan = DEVICE_LINK.vxlan ?? fail('the device is a VXLAN device')
const bridge = (ownAddress: string, portMtu = 1450): Changes =>
  kernel({
    links: [
      ...KERNEL.links,
      link(8, 'docker0', { kind: 'bridge' }),
      link(9, 'veth1', { master: 8, mtu: portMtu }),
    ],
    addresses: [...KERNEL.addresses, address(8, ownAddress)],
  })
/** Bridges with an address each, and a port of theirs with an MTU. */
const bridges = (...all: readonly (readonly [number, string, string, number?])[]): Changes =>
  kernel({
    links: [
      ...KERNEL.links,
      ...all.flatMap(([index, name, , mtu = 1450]) => [
        link(index, name, { kind: 'bridge' }),
        link(index + 1, `veth${index}`, { master: index, mtu }),
      ]),
    ],
    addresses: [...KERNEL.addresses, ...all.map(([index, , text]) => address(index, text))],
  })
/** This host has a further subnet. */
const furtherSubnet = {
  daemon: { ...DAEMON, lease: { ...DAEMON.lease, further: ['10.5.250.0/26'] } },
} as Changes
const network = (name: string, bridgeName: string, subnet: string, more: Partial<DockerNetwork> = {}) => ({
  name,
  bridge: bridgeName,
  subnets: [prefix(subnet)],
  mtu: 1450,
  masquerades: false,
  isInternal: false,
  ...more,
})
const docker = (...networks: readonly DockerNetwork[]): Changes => ({ docker: { networks } })
const DOCKER0 = network('bridge', 'docker0', '10.5.7.0/27')
const TWO = bridges([8, 'docker0', '10.5.7.1/27'], [10, 'br-1', '10.5.7.33/27'])
const ASIDE = bridges([8, 'docker0', '10.5.7.1/27'], [10, 'br-1', '172.18.0.1/16'])
const dockerCases: [string, Changes, string[]][] = [
  [
    "Docker's networks in the overlay",
    { ...TWO, ...docker(DOCKER0, network('web', 'br-1', '10.5.7.32/27')) },
    [],
  ],
  [
    "a network of Docker's elsewhere",
    { ...ASIDE, ...docker(DOCKER0, network('web', 'br-1', '172.18.0.0/16')) },
    ['docker-network-outside'],
  ],
  [
    "a network of Docker's elsewhere that lets nothing out",
    { ...ASIDE, ...docker(DOCKER0, network('web', 'br-1', '172.18.0.0/16', { isInternal: true })) },
    [],
  ],
  [
    "a network of Docker's elsewhere without a container",
    { ...TWO, ...docker(DOCKER0, network('web', 'br-2', '172.18.0.0/16')) },
    [],
  ],
  [
    'docker0 elsewhere with containers, beside a network in the overlay',
    {
      ...bridges([8, 'docker0', '172.17.0.1/16'], [10, 'br-1', '10.5.7.1/24']),
      ...docker(network('bridge', 'docker0', '172.17.0.0/16'), network('web', 'br-1', '10.5.7.0/24')),
    },
    ['docker-network-outside'],
  ],
  [
    'a network that Docker masquerades',
    { ...TWO, ...docker(DOCKER0, network('web', 'br-1', '10.5.7.32/27', { masquerades: true })) },
    ['docker-network-masquerade'],
  ],
  [
    'a network that will have too large an MTU',
    { ...TWO, ...docker(DOCKER0, network('web', 'br-9', '10.5.7.64/27', { mtu: undefined })) },
    ['docker-network-mtu'],
  ],
]
const forward = (...lines: string[]): Changes =>
  saved({ filter: [':FORWARD DROP [0:0]', ':FLANNEL-FWD - [0:0]', ...lines] })
/** INPUT of a usual cloud image: it accepts pings and ssh, and rejects all else. */
const CATCH_ALL = [
  ':INPUT ACCEPT [0:0]',
  '-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT',
  '-A INPUT -p icmp -j ACCEPT',
  '-A INPUT -i lo -j ACCEPT',
  '-A INPUT -p tcp -m state --state NEW -m tcp --dport 22 -j ACCEPT',
  '-A INPUT -j REJECT --reject-with icmp-host-prohibited',
]
const GUARD = { family: 'inet', table: 'fl-wg.1' }
const match = (left: object, right: unknown) => ({ match: { op: '==', left, right } })
/** What `nft -j` shows of the guard (kernel/nftables/guard-table.ts), while no peer answers. */
const GUARDED: Changes = {
  ...nft(
    ...(['input', 'output'] as const).flatMap((hook) => [
      { chain: { ...GUARD, name: hook, type: 'filter', hook, prio: -300, policy: 'accept' } },
      {
        rule: {
          ...GUARD,
          chain: hook,
          expr: [
            match({ payload: { protocol: 'udp', field: 'dport' } }, 8472),
            match({ payload: { base: 'th', offset: 96, len: 24 } }, 1),
            { counter: { packets: 0, bytes: 0 } },
            { drop: null },
          ],
        },
      },
    ]),
  ),
  ...probe({ udp: 'silent' }),
}
const waiting = (wait: Waiting): Changes => ({
  daemon: {
    version: '0.1.0',
    ...reporting(waitingProblem(wait)),
    peers: [],
    daemon: { running: true, phase: 'starting', waiting: wait },
  },
})
/** A problem of the kernel with any text. */
const REFUSED = { part: 'kernel', code: 'kernel-refusal', text: 'something fails' } as const
const OTHER_VNI = {
  ...lease('10.5.50.0/24', '192.0.2.50').value,
  vtep: { vni: 2, mac: mac(0x020000000009) },
}
const wayOver = (linkIndex: number): Changes => ({
  ways: new Map([...(facts().ways.value ?? []), [ip('192.0.2.12'), { linkIndex, source: undefined }]]),
})

function fail(message: string): never {
  throw new Error(message)
}

test('a healthy host has no finding, and each check has a summary', () => {
  const results = diagnose(facts())
  expect(results.map(({ name }) => name)).toEqual(CHECKS.map(({ name }) => name))
  expect(results.filter(({ state }) => state !== 'ok')).toEqual([])
  expect(results.filter(({ summary }) => summary === '')).toEqual([])
})

test.each<[string, Changes, string[]]>([
  ['daemon down', { daemon: missing('no answer', 'daemon-down') }, ['daemon-down']],
  ['daemon that does not answer', { daemon: missing('timeout', 'control-socket') }, ['daemon-mute']],
  [
    'the daemon has a problem of its own',
    { daemon: { ...DAEMON, ...reporting(REFUSED) } },
    ['daemon-problem'],
  ],
  ['etcd away', { etcd: missing('x', 'etcd-unreachable') }, ['etcd-unreachable']],
  ['etcd refuses', { etcd: missing('x', 'etcd-refused') }, ['etcd-refused']],
  ['etcd at the limit of slowness', etcd({ latencyMs: 100 }), []],
  ['etcd slow', etcd({ latencyMs: 101 }), ['etcd-slow']],
  [
    'certificates that end soon, or have ended',
    {
      certificates: [
        { name: 'a', path: '/a', notAfter: NOW + 22 * 86_400_000 },
        { name: 'b', path: '/b', notAfter: NOW + 20 * 86_400_000 },
        { name: 'c', path: '/c', notAfter: NOW },
      ],
    },
    ['certificate-near-expiry', 'certificate-expired'],
  ],
  ['clock within bounds', { clock: { endpoint: 'x', aheadSeconds: -10 } }, []],
  ['clock off', { clock: { endpoint: 'x', aheadSeconds: -11 } }, ['clock-skew']],
  ['config invalid', config('{"Network":"10.5.0.0/16"}'), ['config-invalid']],
  ['config of another network', config(CONFIG.replace('16"', '17"')), ['config-changed']],
  [
    'config that covers the underlay',
    {
      ...config(CONFIG.replace('10.5.0.0/16', '192.0.0.0/8')),
      daemon: missing('no answer'),
      probes: missing('not asked for'),
    },
    ['daemon-down', 'network-covers-host', 'lease-rejected'],
  ],
  [
    'a route into the network',
    kernel({ routes: [...KERNEL.routes, route('10.5.200.0/24', 4, true)] }),
    ['network-overlaps-route'],
  ],
  ['a corporate route around it', kernel({ routes: [...KERNEL.routes, route('10.0.0.0/8', 4, true)] }), []],
  [
    'a link around it',
    kernel({ routes: [...KERNEL.routes, route('10.5.0.0/17', 4)] }),
    // This host's own subnet is in there too.
    ['network-overlaps-route', 'lease-overlap'],
  ],
  [
    'a link around a part of it, where others may get their subnets',
    kernel({ routes: [...KERNEL.routes, route('10.5.128.0/17', 4)] }),
    ['network-overlaps-route'],
  ],
  ['lease gone', etcd({ leases: LEASES.slice(1) }), ['lease-expired']],
  [
    'lease given back by request',
    {
      ...etcd({ leases: LEASES.slice(1) }),
      daemon: { ...DAEMON, lease: { ...DAEMON.lease, state: 'drained' } },
    },
    ['lease-drained'],
  ],
  ['lease near its end', { leaseLife: 1799 }, ['lease-near-expiry']],
  [
    'lease taken',
    etcd({ leases: [lease('10.5.7.0/24', '192.0.2.99', mac(9)), ...LEASES.slice(1)] }),
    ['lease-foreign'],
  ],
  [
    'lease of our PublicIP and another MAC',
    etcd({ leases: [lease('10.5.7.0/24', '192.0.2.11', mac(9)), ...LEASES.slice(1)] }),
    ['duplicate-public-ip'],
  ],
  [
    'one MAC twice',
    etcd({ leases: [...LEASES, lease('10.5.50.0/24', '192.0.2.50', OWN_MAC)] }),
    ['duplicate-mac'],
  ],
  [
    'subnets that overlap',
    etcd({ leases: [...LEASES, lease('10.5.42.128/25', '192.0.2.50', mac(0x020000000009))] }),
    ['subnet-conflict'],
  ],
  ['device down', device({ up: false }), ['device-down']],
  ['device too large', device({ mtu: 1500 }), ['device-mtu']],
  ['device of another VNI', device({ vxlan: { ...vxlan, vni: 2 } }), ['device-vni']],
  [
    'device that sends from elsewhere',
    device({ vxlan: { ...vxlan, local: ip('192.0.2.99') } }),
    ['device-local'],
  ],
  ['no device', kernel({ devices: [] }), ['device-missing']],
  ['peers by another interface', wayOver(4), []],
  [
    'peers by another interface that no route leads over',
    { ...wayOver(4), ...kernel({ routes: [] }) },
    ['wrong-interface'],
  ],
  [
    'peers by another interface, and a strict filter',
    { ...wayOver(4), rpFilter: new Map([['all', 1]]) },
    ['rp-filter-strict'],
  ],
  [
    'a strict filter overruled by a loose one',
    {
      ...wayOver(4),
      rpFilter: new Map([
        ['all', 1],
        ['eth0', 2],
      ]),
    },
    [],
  ],
  ['a strict filter where peers use one interface', { rpFilter: new Map([['all', 1]]) }, []],
  [
    'a more specific route',
    kernel({ routes: [...KERNEL.routes, route('10.5.42.64/26', 4, true)] }),
    ['route-shadowed'],
  ],
  [
    'no neighbour of a peer',
    kernel({
      devices: KERNEL.devices.map((each) => ({
        ...each,
        objects: { ...each.objects, neighbour: new Map() },
      })),
    }),
    ['peer-incomplete'],
  ],
  ['forwarding off', { forwarding: { ipv4: false, ipv6: false } }, ['forwarding-off']],
  ['connections full', { conntrack: { count: 5, max: 5 } }, ['conntrack-full']],
  ['connections nearly full', { conntrack: { count: 9, max: 10 } }, ['conntrack-nearly-full']],
  [
    'no br_netfilter',
    { bridgeNetfilter: { present: false, ipv4: false, ipv6: false } },
    ['br-netfilter-missing'],
  ],
  [
    'no br_netfilter, with rules of nft',
    {
      bridgeNetfilter: { present: false, ipv4: false, ipv6: false },
      ...config(CONFIG.replace('{"Net', '{"EnableNFTables":true,"Net')),
    },
    [],
  ],
  ['FORWARD drops', forward(), ['forward-drop']],
  [
    'FORWARD drops, and overlayd reports it too',
    {
      ...forward(),
      daemon: { ...DAEMON, ...reporting({ part: 'firewall', code: 'rule-drops', text: 'a rule drops' }) },
    },
    ['forward-drop'],
  ],
  [
    'FORWARD drops behind our rules',
    forward(
      '-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD',
      '-A FLANNEL-FWD -s 10.5.0.0/16 -j ACCEPT',
      '-A FLANNEL-FWD -d 10.5.0.0/16 -j ACCEPT',
    ),
    [],
  ],
  [
    'a chain of nft drops',
    nft({
      chain: {
        family: 'inet',
        table: 'f',
        name: 'fwd',
        handle: 1,
        type: 'filter',
        hook: 'forward',
        prio: 0,
        policy: 'drop',
      },
    }),
    ['forward-drop'],
  ],
  [
    'FORWARD rejects before our rules',
    saved({
      filter: [
        ':FORWARD ACCEPT [0:0]',
        ':FLANNEL-FWD - [0:0]',
        '-A FORWARD -j REJECT --reject-with icmp-host-prohibited',
        '-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD',
        '-A FLANNEL-FWD -s 10.5.0.0/16 -j ACCEPT',
      ],
    }),
    ['forward-drop'],
  ],
  [
    'Docker drops what is routed to a container',
    saved({ raw: [':PREROUTING ACCEPT [0:0]', '-A PREROUTING -d 10.5.7.2/32 ! -i docker0 -j DROP'] }),
    ['forward-drop'],
  ],
  [
    'INPUT of this host rejects, and no peer is reported',
    { ...saved({ filter: CATCH_ALL }), ...probe({ udp: 'silent' }) },
    ['udp-blocked-here'],
  ],
  ['INPUT of this host rejects, but the peers answer', saved({ filter: CATCH_ALL }), []],
  [
    'rules that could not be read cause no finding',
    {
      ...saved({}, [{ text: 'rules of nftables: Operation not permitted', denied: true }]),
      ...probe({ udp: 'silent' }),
    },
    ['udp-blocked-in'],
  ],
  ['the guard drops what is not encrypted, and no peer answers', GUARDED, ['udp-blocked-in']],
  [
    'a rule with a limit is undecided',
    saved({ filter: [':FORWARD DROP [0:0]', '-A FORWARD -m limit --limit 100/second -j ACCEPT'] }),
    ['firewall-undecided'],
  ],
  [
    'Docker masquerades what goes to other hosts',
    saved({ nat: [':POSTROUTING ACCEPT [0:0]', '-A POSTROUTING -s 10.5.7.0/24 ! -o docker0 -j MASQUERADE'] }),
    ['masqueraded'],
  ],
  [
    "another program's address on the device",
    kernel({ addresses: [...KERNEL.addresses, address(DEVICE, '192.0.2.11/24')] }),
    ['device-address'],
  ],
  [
    'the route to the underlay leads over the device',
    { ...wayOver(DEVICE), ...probe({ underlaySmall: LOST, udp: 'silent' }) },
    ['underlay-over-device'],
  ],
  [
    'forwarding is off for the device alone',
    { switches: new Map([['flannel.1', { forwarding: false }]]) },
    ['forwarding-off'],
  ],
  [
    'DirectRouting on one side, a strict filter, and packets that it dropped',
    {
      ...config(CONFIG.replace('"vxlan"', '"vxlan","DirectRouting":true')),
      ...probe({ udp: 'silent' }),
      rpFilter: new Map([['all', 1]]),
      counted: new Map([['IPReversePathFilter', 6]]),
    },
    ['rp-filter-strict'],
  ],
  [
    'DirectRouting and a strict filter that dropped nothing',
    {
      ...config(CONFIG.replace('"vxlan"', '"vxlan","DirectRouting":true')),
      ...probe({ udp: 'silent' }),
      rpFilter: new Map([['all', 1]]),
      counted: new Map(),
    },
    ['udp-blocked-in'],
  ],
  ['a peer that answers TCP and no ping', probe({ udp: 'silent', overlayTcp: true }), ['ping-blocked']],
  [
    'losses that the kernel counted',
    { ...probe({ overlayFull: { sent: 3, received: 2 } }), counted: new Map([['eth0 drops in', 9]]) },
    ['peer-loss', 'kernel-drops'],
  ],
  [
    'losses that the kernel counted, while no probe was lost',
    { counted: new Map([['eth0 drops in', 9]]) },
    [],
  ],
  [
    'a container does not reach what its host reaches',
    { containerProbes: [{ peer: '10.5.42.0/24', from: '10.5.7.2', ping: LOST }] },
    ['container-unreached'],
  ],
  [
    'overlayd waits for the other host of its address',
    {
      ...waiting({ part: 'lease', code: 'rival', reason: 'another live host has 10.0.2.15' }),
      ...kernel({ devices: [] }),
      ...probe({ udp: 'silent' }),
    },
    ['daemon-waiting'],
  ],
  [
    'overlayd waits for another config',
    waiting({ part: 'config', code: 'network-covers-host', reason: 'the network contains 192.0.2.1' }),
    ['daemon-waiting'],
  ],
  [
    'overlayd has ended three times',
    {
      daemon: missing('no answer', 'daemon-down'),
      lastExit: { at: '2026-01-01T00:00:00Z', reason: 'no default route', times: 3 },
    },
    ['daemon-crashes'],
  ],
  ...(['state', 'lease', 'etcd', 'peers', 'multicast', 'subnet-file'] as const).map(
    (part): [string, Changes, string[]] => [
      `the daemon has a problem with its ${part}, and nothing else has`,
      { daemon: { ...DAEMON, ...reporting({ part, code: 'x', text: 'it is broken' }) } },
      ['daemon-problem'],
    ],
  ),
  [
    'an older daemon has a problem',
    { daemon: { ...DAEMON, problems: ['state: cannot be written: ENOSPC'] } },
    ['daemon-problem'],
  ],
  [
    'a clash of other hosts, and overlayd has a problem with its own lease',
    {
      ...etcd({ leases: [...LEASES, { ...lease('10.5.50.0/24', '192.0.2.50', mac(9)), value: OTHER_VNI }] }),
      daemon: { ...DAEMON, ...reporting({ part: 'lease', code: 'lease-renewal', text: 'no renewal' }) },
    },
    ['vni-differs', 'daemon-problem'],
  ],
  [
    'a lease of another with an address of this host',
    {
      ...etcd({ leases: [...LEASES, lease('10.5.50.0/24', '192.0.2.111', mac(0x020000000009))] }),
      ...kernel({ addresses: [...KERNEL.addresses, address(UNDERLAY, '192.0.2.111/24')] }),
    },
    // The kernel of the fixture has no objects of this peer.
    ['peer-has-own-address', 'peer-incomplete'],
  ],
  ['bridge on our subnet', bridge('10.5.7.1/24'), []],
  ['bridge elsewhere', bridge('172.17.0.1/16'), ['bridge-subnet']],
  [
    'bridge elsewhere, because Docker started before subnet.env was written',
    { ...bridge('172.17.0.1/16'), dockerd: [{ pid: 5, startedAt: NOW - 120_000 }] },
    ['docker-started-early'],
  ],
  ['containers with too large an MTU', bridge('10.5.7.1/24', 1500), ['bridge-mtu']],
  ['bridges that share our subnet', bridges([8, 'docker0', '10.5.7.1/27'], [10, 'br-1', '10.5.7.33/27']), []],
  ['a bridge on a further subnet', { ...bridge('10.5.250.1/26'), ...furtherSubnet }, []],
  ['a bridge on a further subnet that was given back', bridge('10.5.250.1/26'), ['bridge-subnet']],
  [
    'a bridge with more than its further subnet',
    { ...bridge('10.5.250.1/24'), ...furtherSubnet },
    ['bridge-subnet'],
  ],
  [
    'containers of a further subnet with too large an MTU',
    {
      ...bridges([8, 'docker0', '10.5.7.1/24'], [10, 'br-1', '10.5.250.1/26', 1500]),
      ...furtherSubnet,
    },
    ['bridge-mtu'],
  ],
  [
    'the route of a bridge on a further subnet',
    {
      ...kernel({
        links: [...KERNEL.links, link(10, 'br-1', { kind: 'bridge' })],
        addresses: [...KERNEL.addresses, address(10, '10.5.250.1/26')],
        routes: [...KERNEL.routes, route('10.5.250.0/26', 10)],
      }),
      ...furtherSubnet,
    },
    [],
  ],
  [
    'containers of another bridge with too large an MTU',
    bridges([8, 'docker0', '10.5.7.1/27'], [10, 'br-1', '10.5.7.33/27', 1500]),
    ['bridge-mtu'],
  ],
  [
    'containers of CNI with too large an MTU',
    bridges([8, 'docker0', '10.5.7.1/27'], [10, 'cni-0a050720', '10.5.7.33/27', 1500]),
    ['bridge-mtu'],
  ],
  [
    'a bridge on our subnet and more beside a right one',
    bridges([8, 'docker0', '10.5.7.1/27'], [10, 'br-1', '10.5.7.33/16']),
    ['lease-overlap', 'bridge-subnet'],
  ],
  [
    'docker0 elsewhere, and a network on our subnet',
    bridges([8, 'docker0', '172.17.0.1/16'], [10, 'br-1', '10.5.7.1/24']),
    [],
  ],
  [
    'a rule that masquerades one of our bridges',
    {
      ...bridges([8, 'docker0', '10.5.7.1/27'], [10, 'br-1', '10.5.7.33/27']),
      ...saved({
        nat: [':POSTROUTING ACCEPT [0:0]', '-A POSTROUTING -s 10.5.7.32/27 ! -o br-1 -j MASQUERADE'],
      }),
    },
    ['masqueraded'],
  ],
  [
    'a rule that drops what comes to one of our bridges',
    {
      ...bridges([8, 'docker0', '10.5.7.1/27'], [10, 'br-1', '10.5.7.33/27']),
      ...saved({ filter: [':FORWARD ACCEPT [0:0]', '-A FORWARD ! -i br-1 -o br-1 -j DROP'] }),
    },
    ['forward-drop'],
  ],
  ...dockerCases,
  ['UDP does not leave', probe({ udp: 'blocked' }), ['udp-blocked-out']],
  ['nobody listens', probe({ udp: 'refused' }), ['port-differs']],
  ['UDP does not arrive', probe({ udp: 'silent' }), ['udp-blocked-in']],
  [
    "UDP does not arrive, and the daemon's own probes say so too",
    { ...probe({ udp: 'silent' }), daemon: { ...DAEMON, ...reporting(UNREACHED) } },
    ['udp-blocked-in'],
  ],
  [
    "the daemon's probes were not answered, and the doctor's own, which are newer, are",
    { daemon: { ...DAEMON, ...reporting(UNREACHED) } },
    [],
  ],
  ['a host is gone', probe({ udp: 'silent', underlaySmall: LOST }), ['peer-silent']],
  [
    'large packets do not arrive',
    probe({ overlaySmall: { sent: 3, received: 3 }, underlayFull: LOST, pathMtu: 1400 }),
    ['mtu-black-hole'],
  ],
  ['some packets do not arrive', probe({ overlayFull: { sent: 3, received: 2 } }), ['peer-loss']],
  [
    'the effect of a reported cause is not reported',
    { ...device({ up: false }), ...probe({ udp: 'silent' }) },
    ['device-down'],
  ],
])('%s', (_, changes, expected) => {
  expect(codes(changes)).toEqual(expected)
})

/** Docker 29's tables of nftables as `nft -j` shows them; and rules of ours beside. */
function docker29(...more: readonly object[]): Changes {
  const captured: { name: string; nft: object[] }[] = JSON.parse(
    readFileSync(join(__dirname, 'packet-path/captured.json'), 'utf8'),
  )
  const tables = captured.find(({ name }) => name === 'Docker 29 with nftables')?.nft ?? []
  return { ...bridge('10.5.7.1/24'), ...nft(...tables, ...more) }
}
const IN_DOCKER = { family: 'ip', table: 'docker-bridges' }
const OURS = { family: 'ip', table: 'overlayd-docker' }
const MARK = { meta: { key: 'mark' } }
const setMark = (bit: number) => [
  {
    chain: { ...OURS, name: 'prerouting', type: 'filter', hook: 'prerouting', prio: -150, policy: 'accept' },
  },
  {
    rule: {
      ...OURS,
      chain: 'prerouting',
      expr: [
        match({ meta: { key: 'iifname' } }, 'flannel.1'),
        { mangle: { key: MARK, value: { '|': [MARK, bit] } } },
      ],
    },
  },
]
const DIRECT = {
  rule: {
    ...IN_DOCKER,
    chain: 'raw-PREROUTING',
    expr: [
      { match: { op: '!=', left: { meta: { key: 'iifname' } }, right: 'docker0' } },
      match({ payload: { protocol: 'ip', field: 'daddr' } }, '10.5.7.2'),
      { drop: null },
    ],
  },
}
const firewallFindings = (changes: Changes) =>
  diagnose(facts(changes)).find(({ name }) => name === 'firewall')?.findings ?? []

test('Docker’s nftables backend: the option that is missing is named, and no command touches its tables', () => {
  const fixes = (...more: readonly object[]): string[] => {
    const found = firewallFindings(docker29(...more))
    for (const { commands = [] } of found)
      for (const command of commands) expect(command).not.toMatch(/^nft (?!list)/)
    return found.map(({ fix }) => fix)
  }
  expect(fixes(...setMark(0x1000))).toEqual([expect.stringContaining('--bridge-accept-fwmark=0x1000/0x1000')])
  expect(fixes(DIRECT, ...setMark(0x1000))).toContainEqual(expect.stringContaining('--allow-direct-routing'))
})

test('every finding has a text, evidence, an effect and a fix', () => {
  const all = diagnose(
    facts({
      ...probe({ udp: 'silent' }),
      daemon: missing('no answer'),
      forwarding: { ipv4: false, ipv6: false },
      conntrack: { count: 5, max: 5 },
      etcd: missing('x', 'etcd-unreachable'),
    }),
  ).flatMap(({ findings }) => findings)
  expect(all.length).toBeGreaterThan(3)
  for (const { what, evidence, breaks, fix, commands } of all) {
    expect([what, breaks, fix, ...evidence, ...(commands ?? [])].filter((text) => text === '')).toEqual([])
    expect(evidence).not.toEqual([])
  }
})

test('findings of a check that was not asked for are left out, but still explain others', () => {
  const changes = { ...device({ up: false }), ...probe({ udp: 'silent' }) }
  expect(diagnose(facts(changes), ['udp'])).toMatchObject([{ name: 'udp', state: 'ok', findings: [] }])
})

test('without etcd the peers are taken from the kernel', () => {
  const results = diagnose(facts({ etcd: missing('x', 'etcd-timeout') }))
  expect(results.find(({ name }) => name === 'reach')?.summary).toBe('1 of 1 peer answer')
})

describe('multicast', () => {
  const VNI = 8388609
  const announcing = (each: (typeof LEASES)[number], multicast: number | undefined) => ({
    ...each,
    value: { ...each.value, vtep: { vni: 1, mac: OWN_MAC, ...(multicast !== undefined && { multicast }) } },
  })
  const leases = (...vnis: readonly (number | undefined)[]) =>
    LEASES.map((each, index) => announcing(each, vnis[index]))
  const snooping = { queriers: ['IPv4' as const], answeredWithin: 72_500 }
  const bridge = { index: 9, name: 'docker0', multicastRouter: 2, snooping }
  const well: MulticastFacts = {
    link: link(8, 'fl-mc.1'),
    destinations: [ip('192.0.2.12')],
    chains: ['out-1-docker0', 'in'],
    bridges: [bridge, { index: 10, name: 'elsewhere', multicastRouter: 1 }],
  }
  const look = (
    multicast: MulticastFacts | undefined,
    announced = leases(VNI, VNI),
    groups: readonly GroupsEntry[] = [],
  ) => {
    const changes = {
      ...etcd({
        config: '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","Multicast":true}}',
        leases: announced,
        groups,
      }),
      ...kernel({
        addresses: [...KERNEL.addresses, address(9, '10.5.7.1/24')],
      }),
      multicast,
    }
    const [result] = diagnose(facts(changes), ['multicast'])
    return [result?.summary, ...(result?.findings ?? []).map(({ code }) => code)]
  }

  test('is fine, off, or not used by this host', () => {
    expect(look(well)).toEqual(['fl-mc.1 sends from docker0 to 1 of 1 other host'])
    expect(look(undefined, leases(undefined, VNI))).toEqual([
      'this host takes no part: its lease does not say so',
    ])
    expect(diagnose(facts(), ['multicast'])).toMatchObject([{ state: 'ok', findings: [] }])
  })

  test.each<[string, MulticastFacts | undefined, string]>([
    ['no device', undefined, 'multicast-device'],
    ['a device that is down', { ...well, link: link(8, 'fl-mc.1', { up: false }) }, 'multicast-device'],
    ['no rules', { ...well, chains: [] }, 'multicast-rules'],
    ['no rules for a bridge', { ...well, chains: ['in', 'out-1-other'] }, 'multicast-rules'],
    [
      'a bridge that is no router’s port',
      { ...well, bridges: [{ ...bridge, multicastRouter: 1 }] },
      'multicast-router',
    ],
    [
      'a bridge without querier',
      { ...well, bridges: [{ ...bridge, snooping: { ...snooping, queriers: [] } }] },
      'multicast-querier',
    ],
    [
      'a bridge without snooping',
      { ...well, bridges: [{ index: 9, name: 'docker0', multicastRouter: 2 }] },
      'multicast-querier',
    ],
    ['a host that is missing from the destinations', { ...well, destinations: [] }, 'multicast-hosts'],
    [
      'a destination that is no host of the network',
      { ...well, destinations: [...well.destinations, ip('192.0.2.99')] },
      'multicast-hosts',
    ],
  ])('%s is found', (_, multicast, code) => {
    expect(look(multicast).slice(1)).toEqual([code])
  })

  test('a host that joined a group is missed in its list; without a list all hosts get the group', () => {
    const other = LEASES[1]?.key.split('/').at(-1) ?? ''
    const groups = [
      {
        name: other,
        modRevision: 7n as Revision,
        value: { vni: VNI, tells: FAMILIES, groups: [ip('239.1.2.3')] },
      },
    ]
    const codes = (changed: Partial<MulticastFacts>) =>
      look({ ...well, ...changed }, leases(VNI, VNI), groups).slice(1)
    const list = { mac: hw('01:00:5e:01:02:03'), address: ip('192.0.2.12'), via: 0 }
    expect(codes({})).toEqual([])
    expect(codes({ lists: [list], wanted: { IPv4: [ip('239.1.2.3')] } })).toEqual([])
    expect(codes({ lists: [{ ...list, address: ip('192.0.2.13') }] })).toEqual(['multicast-groups'])
    expect(codes({ wanted: { IPv4: [] } })).toEqual(['multicast-groups'])
  })

  test('rules that may not be read are not reported as missing', () => {
    expect(look({ ...well, chains: undefined })).toHaveLength(1)
  })

  test('a host without multicast is named', () => {
    expect(look({ ...well, destinations: [] }, leases(VNI, undefined)).slice(1)).toEqual(['multicast-peers'])
  })
})

describe('two hosts with one PublicIP', () => {
  const twin = lease('10.5.50.0/24', '192.0.2.12', mac(0x020000000009))
  const first = lease('10.5.42.0/24', '192.0.2.12')
  const look = (...probes: ProbeFact[]) =>
    diagnose(facts({ ...etcd({ leases: [LEASES[0] ?? fail('no lease'), first, twin] }), probes: probes }), [
      'leases',
    ])
      .flatMap(({ findings }) => findings)
      .filter(({ code }) => code === 'duplicate-public-ip')
      .flatMap(({ commands = [] }) => commands)
  const silent = (peer: string): ProbeFact => ({ peer, overlayFull: LOST, overlaySmall: LOST })

  test.each([
    ['10.5.42.0/24', '10.5.50.0/24'],
    ['10.5.50.0/24', '10.5.42.0/24'],
  ])('if %s answers, the fix evicts %s', (live, dead) => {
    expect(look({ ...GOOD_PROBE, peer: live }, silent(dead))).toEqual([`overlayctl evict ${dead}`])
  })

  test('if neither answers, the fix evicts none', () => {
    expect(look(silent('10.5.42.0/24'), silent('10.5.50.0/24')).join()).not.toContain('evict')
  })
})

test('checks without the rights they need are skipped for that reason, without a finding', () => {
  const denied = missing('permission denied', 'no-rights')
  const results = diagnose(
    facts({
      daemon: denied,
      probes: missing('ping may not send', 'no-rights'),
      firewall: {
        chains: [],
        unread: [{ text: 'rules of nftables: Operation not permitted (you must be root)', denied: true }],
      },
    }),
  )
  expect(results.flatMap(({ findings }) => findings)).toEqual([])
  expect(results.filter(({ unmade }) => unmade === 'rights').map(({ name, state }) => [name, state])).toEqual(
    ['daemon', 'firewall', 'udp', 'mtu', 'reach'].map((name) => [name, 'skip']),
  )
})

describe('what systemd says of the service', () => {
  const SERVICE = {
    unit: 'overlayd.service',
    state: 'activating (auto-restart)',
    result: 'exit-code',
    ended: 'exit status 1',
    restarts: 7,
    runsSeconds: undefined,
    lastLine: 'overlayd: etcd-certfile: no such file',
  }
  const down = missing('nobody answers', 'daemon-down')
  const ofDaemon = (changes: Changes) =>
    diagnose(facts(changes), ['daemon'])[0]?.findings.map(({ code, evidence }) => [code, evidence])
  const words = [
    'systemd: overlayd.service is activating (auto-restart), result exit-code, ' +
      'the last process ended with exit status 1, started again 7 times',
    'its last error: overlayd: etcd-certfile: no such file',
  ]

  test('a crash loop is named with its last error, also where the daemon could not write down why', () => {
    expect(ofDaemon({ daemon: down, service: SERVICE })).toEqual([
      ['daemon-crashes', ['nobody answers', ...words]],
    ])
    const once = { ...SERVICE, restarts: 0, result: 'oom-kill' }
    expect(ofDaemon({ daemon: down, service: once })?.map(([code]) => code)).toEqual(['daemon-failed'])
    const stopped = { ...SERVICE, state: 'inactive (dead)', restarts: 0, result: 'success', ended: undefined }
    expect(ofDaemon({ daemon: down, service: stopped })).toEqual([
      ['daemon-down', ['nobody answers', 'systemd: overlayd.service is inactive (dead)', words[1]]],
    ])
  })

  test('a daemon that answers now, and was started again and again a moment ago, is a warning', () => {
    const running = { ...SERVICE, state: 'active (running)', runsSeconds: 20 }
    expect(ofDaemon({ service: running })?.map(([code]) => code)).toEqual(['daemon-restarts'])
    expect(ofDaemon({ service: { ...running, runsSeconds: 3600 } })).toEqual([])
    expect(ofDaemon({ service: { ...running, restarts: 1 } })).toEqual([])
  })
})

test('what overlayd has found by its own probes until now is evidence', () => {
  const probes = [{ peer: '10.5.42.0/24', overlayFull: LOST, overlaySmall: LOST, underlaySmall: LOST }]
  const evidence = (probe: PeerWord['probe']) =>
    diagnose(
      facts({
        probes,
        daemon: { ...DAEMON, peers: [word({ subnet: '10.5.42.0/24', state: 'ok', probe })] },
      }),
    ).flatMap(({ findings }) => findings.flatMap((finding) => finding.evidence))
  const line =
    '10.5.42.0/24 at 192.0.2.12: 0 of 3 pings answered through the overlay, 0 of 3 pings answered to its PublicIP'
  expect(evidence(undefined)).toContain(line)
  expect(evidence({ reach: 'unknown' })).toContain(line)
  expect(evidence({ reach: 'unreachable', layer: 'underlay', loss: 0.25, answeredSecondsAgo: 90 })).toContain(
    `${line}; it answered overlayd 90 s ago, and 25 % of the last probes were lost`,
  )
  expect(evidence({ reach: 'unreachable', layer: 'underlay', loss: 1 })).toContain(
    `${line}; it has never answered overlayd, and 100 % of the last probes were lost`,
  )
})

describe('what overlayd itself says', () => {
  const BRIDGE = { part: 'bridge', code: 'bridge-subnet', text: 'docker0 is elsewhere' } as const
  const DROPS = { part: 'firewall', code: 'forward-drop', text: 'a rule drops' } as const
  const said = (changes: Changes) => diagnose(facts(changes)).find(({ name }) => name === 'status')
  const daemon = { daemon: { ...DAEMON, ...reporting(BRIDGE, DROPS) } }

  test('and the doctor finds no more just now, is told as over, and is no finding', () => {
    expect(codes(daemon)).toEqual([])
    expect(said(daemon)?.summary).toBe(
      'over by now: bridge: docker0 is elsewhere; over by now: firewall: a rule drops',
    )
  })

  test('and the doctor cannot look at, is a finding', () => {
    const blind = { ...daemon, firewall: missing('denied', 'no-rights') }
    expect(said(blind)).toMatchObject({
      state: 'fail',
      findings: [{ code: 'daemon-problem', evidence: ['firewall: a rule drops'] }],
    })
    const half = { ...daemon, firewall: { chains: [], unread: [{ text: 'denied', denied: true }] } }
    expect(said(half)?.findings[0]?.evidence).toEqual(['firewall: a rule drops'])
  })

  test('every problem is in the report, in its own words or as what is named above', () => {
    const changes = {
      ...saved({ filter: [':FORWARD DROP [0:0]'] }),
      daemon: {
        ...DAEMON,
        ...reporting(
          ...[BRIDGE, DROPS],
          { part: 'firewall', code: 'rules-not-written', text: 'no nft' },
          { part: 'subnet-file', code: 'subnet-file', text: 'the disk is full' },
        ),
      },
    }
    const report = JSON.stringify(diagnose(facts(changes)))
    for (const text of ['docker0 is elsewhere', 'a rule drops', 'no nft', 'the disk is full'])
      expect(report).toContain(text)
  })
})

describe('overlayd and the doctor agree on a peer that is', () => {
  const lonely = (words: readonly GivenPeer[], more: Changes = {}, changes: Partial<KernelFacts> = {}) =>
    diagnose(
      facts({
        ...kernel({
          devices: KERNEL.devices.map((each) => ({
            ...each,
            objects: { ...each.objects, route: new Map() },
          })),
          ...changes,
        }),
        probes: missing('they were not asked for'),
        daemon: { ...DAEMON, peers: words.map(word) },
        ...more,
      }),
    ).flatMap(({ findings }) => findings)
  const told = (said: Partial<PeerWord>, ...rest: [Changes?, Partial<KernelFacts>?]) =>
    lonely([{ subnet: '10.5.42.0/24', state: 'ok', ...said }], ...rest)
  const rejected = { subnet: '10.5.42.0-24', key: '10.5.42.0-24', state: 'rejected' } as const

  test('rejected: one finding with the reason', () => {
    const reason = 'subnet 10.5.42.0/24 covers 10.5.42.1, an address of this host'
    const findings = told({ ...rejected, reason })
    expect(findings.map(({ code }) => code)).toEqual(['lease-rejected'])
    expect(findings[0]?.evidence).toEqual([`/coreos.com/network/subnets/10.5.42.0-24: ${reason}`])
    expect(findings[0]?.breaks).toMatch(/not reached/)
  })

  test('rejected in both families of a host, or in one', () => {
    const six = { ...rejected, subnet: '10.5.42.0-24&fd00::-64', key: '10.5.42.0-24&fd00::-64' }
    const [, own] = [LEASES[1], LEASES[0]]
    const dual = {
      ...(LEASES[1] ?? fail('no lease')),
      key: '/coreos.com/network/subnets/10.5.42.0-24&fd00::-64',
    }
    const leases = etcd({ leases: own === undefined ? [dual] : [own, dual] })
    const findings = lonely(
      [
        { ...six, reason: 'one' },
        { ...six, reason: 'two' },
      ],
      leases,
    )
    expect(findings.map(({ evidence }) => evidence)).toEqual([[`${dual.key}: one; two`]])
    const half = lonely(
      [
        { ...six, reason: 'two' },
        { subnet: '10.5.42.0/24', state: 'ok' },
      ],
      leases,
    )
    expect(half.map(({ code }) => code)).toEqual(['peer-incomplete'])
  })

  test('failing: one finding with the reason, whatever the kernel has', () => {
    const problems = reporting(REFUSED, { part: 'lease', code: 'x', text: 'something else' })
    const said = { subnet: '10.5.42.0/24', state: 'failing', reason: 'the kernel refuses' } as const
    const more = { daemon: { ...DAEMON, ...problems, peers: [word(said)] } }
    for (const changes of [{}, { devices: KERNEL.devices }]) {
      const findings = told(said, more, changes)
      expect(findings.map(({ code }) => code)).toEqual(['peer-failing', 'daemon-problem'])
      expect(findings.map(({ evidence }) => evidence)).toEqual([
        ['10.5.42.0/24: the kernel refuses'],
        ['lease: something else'],
      ])
    }
  })

  test('pending: a warning', () => {
    expect(told({ state: 'pending' })).toMatchObject([{ code: 'peer-pending', severity: 'warn' }])
  })

  test('ok or unknown to overlayd, and incomplete in the kernel', () => {
    for (const words of [[], [{ subnet: '10.5.42.0/24', state: 'ok' } as const]])
      expect(lonely(words)).toMatchObject([{ code: 'peer-incomplete', severity: 'fail' }])
  })

  test('held: the problem that overlayd reports, once', () => {
    const problem = { part: 'peers', code: 'peers-held', text: '1 disappeared from etcd' } as const
    const said = { subnet: '10.5.42.0/24', state: 'held' } as const
    const findings = lonely([said], {
      ...etcd({ leases: LEASES.slice(0, 1) }),
      daemon: { ...DAEMON, ...reporting(problem), peers: [word(said)] },
    })
    expect(findings).toMatchObject([
      { code: 'daemon-problem', severity: 'warn', evidence: ['peers: 1 disappeared from etcd'] },
    ])
  })

  test('kept by its last valid lease, or accepted although its lease in etcd is bad', () => {
    const bad = lease('10.5.42.0/24', '10.5.9.9')
    const complete = { devices: KERNEL.devices }
    const leases = etcd({ leases: [...LEASES.slice(0, 1), bad] })
    const reason = 'kept as its last valid lease says; its newer lease is rejected: bad'
    const kept = told({ reason }, leases, complete)
    expect(kept).toMatchObject([{ code: 'lease-rejected', evidence: [`${bad.key}: ${reason}`] }])
    expect(kept[0]?.breaks).toMatch(/^nothing yet/)
    expect(told({}, leases, complete)).toEqual([])
  })
})

test('a subnet that overlaps a network of this host is reported once, though overlayd reports it too', () => {
  const text =
    'the subnet of this host, 10.5.7.0/24, overlaps 10.5.0.0/20, which is on eth0: a part of one of the two is unreachable'
  const findings = diagnose(
    facts({
      ...kernel({ addresses: [...KERNEL.addresses, address(UNDERLAY, '10.5.9.1/20')] }),
      daemon: { ...DAEMON, ...reporting({ part: 'lease', code: 'lease-overlap', text }) },
    }),
  ).flatMap((each) => each.findings)
  expect(findings).toMatchObject([{ code: 'lease-overlap', severity: 'fail', evidence: [text] }])
})

test('the fix names no packet size that was not measured', () => {
  const [finding] = diagnose(
    facts(probe({ overlaySmall: { sent: 3, received: 3 }, underlayFull: LOST })),
  ).flatMap(({ findings }) => findings)
  expect([finding?.what, finding?.fix].join(' ')).not.toMatch(/\?|"MTU":1500/)
})

describe('a missing fact', () => {
  const needed = CHECKS.flatMap(({ name, needs }) => needs.map((need) => [name, need] as const))

  test.each(needed)('%s is skipped without %s, and says why', (name, need) => {
    const [result] = diagnose(facts({ counted: new Map(), [need]: missing('it hides', 'no-rights') }), [name])
    expect(result).toMatchObject({ state: 'skip', unmade: 'rights', findings: [], summary: 'it hides' })
  })
})

test('a missing fact is explained once, by the check that is about it', () => {
  const results = diagnose(facts({ etcd: missing('nobody answers', 'etcd-timeout') }))
  const summaries = results.filter(({ state }) => state === 'skip').map(({ summary }) => summary)
  expect(summaries).toContain('etcd cannot be read')
  expect(summaries).not.toContain('nobody answers')
})

describe('--only gathers the facts', () => {
  test.each([
    ['config', ['daemon', 'subnetFile', 'etcd', 'config']],
    ['conntrack', ['daemon', 'subnetFile', 'conntrack']],
    ['certificates', ['daemon', 'subnetFile', 'certificates']],
  ])('of %s, and no other', (only, expected) => {
    expect(factsFor([only])).toEqual(expected)
  })

  test('of the checks that explain it', () => {
    expect(factsFor(['reach'])).toEqual(expect.arrayContaining(['probes', 'firewall', 'rpFilter', 'kernel']))
    expect(factsFor(['routes'])).not.toContain('probes')
  })

  test('of all checks where none is named', () => {
    const found = new Set(factsFor([]))
    for (const { needs, uses = [] } of CHECKS)
      expect([...needs, ...uses].filter((name) => !found.has(name))).toEqual([])
  })
})
