import { FAMILIES, mac } from '../../../../src/model/address'
import type { IptablesListing } from '../../../../src/model/firewall'
import type { Revision } from '../../../../src/model/lease'
import type { GroupsEntry } from '../../../../src/model/multicast'
import { CHECKS, diagnose } from '../../../../src/plan/doctor/diagnose'
import type { Facts, KernelFacts, MulticastFacts, ProbeFact } from '../../../../src/plan/doctor/facts'
import { hw } from '../support'
import {
  address,
  CONFIG,
  DAEMON,
  DEVICE,
  DEVICE_LINK,
  ETCD,
  facts,
  GOOD_PROBE,
  HOST,
  ip,
  KERNEL,
  LEASES,
  LOST,
  lease,
  link,
  NOW,
  OWN_MAC,
  route,
} from './support'

const codes = (changes: Partial<Facts>): string[] =>
  diagnose(facts(changes)).flatMap(({ findings }) => findings.map(({ code }) => code))

const kernel = (changes: Partial<KernelFacts>): Partial<Facts> => ({
  kernel: { value: { ...KERNEL, ...changes } },
})
const device = (changes: Partial<typeof DEVICE_LINK>): Partial<Facts> => {
  const changed = { ...DEVICE_LINK, ...changes }
  return kernel({
    links: KERNEL.links.map((each) => (each.index === DEVICE ? changed : each)),
    devices: KERNEL.devices.map((each) => ({ ...each, link: changed })),
  })
}
const etcd = (
  changes: Partial<typeof ETCD> & { readonly unreadable?: never[]; readonly groups?: readonly GroupsEntry[] },
): Partial<Facts> => ({
  etcd: { value: { ...ETCD, ...changes } },
})
const probe = (changes: Partial<ProbeFact>): Partial<Facts> => ({
  probes: { value: [{ ...GOOD_PROBE, overlayFull: LOST, overlaySmall: LOST, ...changes }] },
})
const config = (text: string) => etcd({ config: text })
const vxlan = DEVICE_LINK.vxlan ?? fail('the device is a VXLAN device')
const bridge = (ownAddress: string, portMtu = 1450): Partial<Facts> =>
  kernel({
    links: [
      ...KERNEL.links,
      link(8, 'docker0', { kind: 'bridge' }),
      link(9, 'veth1', { master: 8, mtu: portMtu }),
    ],
    addresses: [...KERNEL.addresses, address(8, ownAddress)],
  })
const forward = (...lines: string[]): Partial<Facts> => {
  const listing: IptablesListing = new Map([['filter', [':FORWARD DROP [0:0]', ...lines]]])
  return { firewall: { value: { iptables: new Map([['IPv4', listing]]), ruleset: '' } } }
}
const wayOver = (linkIndex: number): Partial<Facts> => ({
  ways: new Map([...facts().ways, [ip('192.0.2.12'), { linkIndex, source: undefined }]]),
})

function fail(message: string): never {
  throw new Error(message)
}

test('a host that is well has no finding, and says what was looked at', () => {
  const results = diagnose(facts())
  expect(results.map(({ name }) => name)).toEqual(CHECKS.map(({ name }) => name))
  expect(results.filter(({ state }) => state !== 'ok')).toEqual([])
  expect(results.filter(({ summary }) => summary === '')).toEqual([])
})

test.each<[string, Partial<Facts>, string[]]>([
  ['daemon down', { daemon: { missing: 'no answer', code: 'daemon-down' } }, ['daemon-down']],
  ['daemon mute', { daemon: { missing: 'timeout', code: 'control-socket' } }, ['daemon-mute']],
  [
    'the daemon has a problem of its own',
    { daemon: { value: { ...DAEMON, problems: ['kernel: 1 changes fail'] } } },
    ['daemon-problem'],
  ],
  ['etcd away', { etcd: { missing: 'x', code: 'etcd-unreachable' } }, ['etcd-unreachable']],
  ['etcd refuses', { etcd: { missing: 'x', code: 'etcd-refused' } }, ['etcd-refused']],
  ['etcd as slow as may be', etcd({ latencyMs: 100 }), []],
  ['etcd slow', etcd({ latencyMs: 101 }), ['etcd-slow']],
  [
    'certificates at their ends',
    {
      certificates: {
        value: [
          { name: 'a', path: '/a', notAfter: NOW + 22 * 86_400_000 },
          { name: 'b', path: '/b', notAfter: NOW + 20 * 86_400_000 },
          { name: 'c', path: '/c', notAfter: NOW },
        ],
      },
    },
    ['certificate-near-expiry', 'certificate-expired'],
  ],
  ['clock within bounds', { clock: { value: { endpoint: 'x', aheadSeconds: -10 } } }, []],
  ['clock off', { clock: { value: { endpoint: 'x', aheadSeconds: -11 } } }, ['clock-skew']],
  ['config invalid', config('{"Network":"10.5.0.0/16"}'), ['config-invalid']],
  ['config of another network', config(CONFIG.replace('16"', '17"')), ['config-changed']],
  [
    'config that covers the underlay',
    {
      ...config(CONFIG.replace('10.5.0.0/16', '192.0.0.0/8')),
      daemon: { missing: 'no answer' },
      probes: { missing: 'not asked for' },
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
    ['network-overlaps-route'],
  ],
  ['lease gone', etcd({ leases: LEASES.slice(1) }), ['lease-expired']],
  [
    'lease given back by request',
    {
      ...etcd({ leases: LEASES.slice(1) }),
      daemon: { value: { ...DAEMON, lease: { ...DAEMON.lease, state: 'drained' } } },
    },
    ['lease-drained'],
  ],
  ['lease near its end', etcd({ timeToLive: new Map([['77', 1799]]) }), ['lease-near-expiry']],
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
    'peers by another interface, and none here leads there',
    { ...wayOver(4), ...kernel({ routes: [] }) },
    ['wrong-interface'],
  ],
  [
    'peers by another interface, and a strict filter',
    { ...wayOver(4), host: { ...HOST, rpFilter: new Map([['all', 1]]) } },
    ['rp-filter-strict'],
  ],
  [
    'a strict filter overruled by a loose one',
    {
      ...wayOver(4),
      host: {
        ...HOST,
        rpFilter: new Map([
          ['all', 1],
          ['eth0', 2],
        ]),
      },
    },
    [],
  ],
  ['a strict filter that does no harm', { host: { ...HOST, rpFilter: new Map([['all', 1]]) } }, []],
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
        objects: { ...each.objects, neighbours: new Map() },
      })),
    }),
    ['peer-incomplete'],
  ],
  ['forwarding off', { host: { ...HOST, ipForward: false } }, ['forwarding-off']],
  ['connections full', { host: { ...HOST, conntrack: { count: 5, max: 5 } } }, ['conntrack-full']],
  [
    'connections nearly full',
    { host: { ...HOST, conntrack: { count: 9, max: 10 } } },
    ['conntrack-nearly-full'],
  ],
  [
    'no br_netfilter',
    { host: { ...HOST, bridgeNetfilter: { present: false, ipv4: false, ipv6: false } } },
    ['br-netfilter-missing'],
  ],
  [
    'no br_netfilter, where rules are those of nft',
    {
      host: { ...HOST, bridgeNetfilter: { present: false, ipv4: false, ipv6: false } },
      ...config(CONFIG.replace('{"Net', '{"EnableNFTables":true,"Net')),
    },
    [],
  ],
  ['FORWARD drops', forward(), ['forward-drop']],
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
    {
      firewall: {
        value: {
          iptables: new Map(),
          ruleset:
            'table inet f {\n\tchain fwd {\n\t\ttype filter hook forward priority 0; policy drop;\n\t}\n}\n',
        },
      },
    },
    ['forward-drop'],
  ],
  ['bridge on our subnet', bridge('10.5.7.1/24'), []],
  ['bridge elsewhere', bridge('172.17.0.1/16'), ['bridge-subnet']],
  [
    'bridge elsewhere, for Docker was early',
    { ...bridge('172.17.0.1/16'), host: { ...HOST, dockerd: [{ pid: 5, startedAt: NOW - 120_000 }] } },
    ['docker-started-early'],
  ],
  ['containers with too large an MTU', bridge('10.5.7.1/24', 1500), ['bridge-mtu']],
  ['UDP does not leave', probe({ udp: 'blocked' }), ['udp-blocked-out']],
  ['nobody listens', probe({ udp: 'refused' }), ['port-differs']],
  ['UDP does not arrive', probe({ udp: 'silent' }), ['udp-blocked-in']],
  ['a host is gone', probe({ udp: 'silent', underlaySmall: LOST }), ['peer-silent']],
  [
    'large packets do not arrive',
    probe({ overlaySmall: { sent: 3, received: 3 }, underlayFull: LOST, pathMtu: 1400 }),
    ['mtu-black-hole'],
  ],
  ['some packets do not arrive', probe({ overlayFull: { sent: 3, received: 2 } }), ['peer-loss']],
  [
    'a cause is not told again by its effect',
    { ...device({ up: false }), ...probe({ udp: 'silent' }) },
    ['device-down'],
  ],
])('%s', (_, changes, expected) => {
  expect(codes(changes)).toEqual(expected)
})

test('every finding says what it breaks and how to mend it', () => {
  const all = diagnose(
    facts({
      ...probe({ udp: 'silent' }),
      daemon: { missing: 'no answer' },
      host: { ...HOST, ipForward: false, conntrack: { count: 5, max: 5 } },
      etcd: { missing: 'x', code: 'etcd-unreachable' },
    }),
  ).flatMap(({ findings }) => findings)
  expect(all.length).toBeGreaterThan(3)
  for (const { what, evidence, breaks, fix, commands } of all) {
    expect([what, breaks, fix, ...evidence, ...(commands ?? [])].filter((text) => text === '')).toEqual([])
    expect(evidence).not.toEqual([])
  }
})

test('what was not asked for is left out, and still explains', () => {
  const changes = { ...device({ up: false }), ...probe({ udp: 'silent' }) }
  expect(diagnose(facts(changes), ['udp'])).toMatchObject([{ name: 'udp', state: 'ok', findings: [] }])
})

test('without etcd the kernel tells the peers', () => {
  const results = diagnose(facts({ etcd: { missing: 'x', code: 'etcd-timeout' } }))
  expect(results.find(({ name }) => name === 'reach')?.summary).toBe('1 of 1 peer answer')
})

describe('multicast', () => {
  const VNI = 8388609
  const saying = (each: (typeof LEASES)[number], multicast: number | undefined) => ({
    ...each,
    value: { ...each.value, vtep: { vni: 1, mac: OWN_MAC, ...(multicast !== undefined && { multicast }) } },
  })
  const leases = (...vnis: readonly (number | undefined)[]) =>
    LEASES.map((each, index) => saying(each, vnis[index]))
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
        ...(multicast !== undefined && { multicast }),
      }),
    }
    const [result] = diagnose(facts(changes), ['multicast'])
    return [result?.summary, ...(result?.findings ?? []).map(({ code }) => code)]
  }

  test('is well, off, or none of this host’s business', () => {
    expect(look(well)).toEqual(['fl-mc.1 sends from docker0 to 1 of 1 other host'])
    expect(look(undefined, leases(undefined, VNI))).toEqual([
      'this host takes no part: its lease does not say so',
    ])
    expect(diagnose(facts(), ['multicast'])).toMatchObject([{ state: 'ok', findings: [] }])
  })

  test.each<[string, MulticastFacts | undefined, string]>([
    ['no device', undefined, 'multicast-device'],
    ['one that is down', { ...well, link: link(8, 'fl-mc.1', { up: false }) }, 'multicast-device'],
    ['no rules', { ...well, chains: [] }, 'multicast-rules'],
    ['no rules for a bridge', { ...well, chains: ['in', 'out-1-other'] }, 'multicast-rules'],
    [
      'a bridge that is no router’s port',
      { ...well, bridges: [{ ...bridge, multicastRouter: 1 }] },
      'multicast-router',
    ],
    [
      'a bridge that asks nobody',
      { ...well, bridges: [{ ...bridge, snooping: { ...snooping, queriers: [] } }] },
      'multicast-querier',
    ],
    [
      'one that does not listen',
      { ...well, bridges: [{ index: 9, name: 'docker0', multicastRouter: 2 }] },
      'multicast-querier',
    ],
    ['a host that is not sent to', { ...well, destinations: [] }, 'multicast-hosts'],
    [
      'a stranger that is',
      { ...well, destinations: [...well.destinations, ip('192.0.2.99')] },
      'multicast-hosts',
    ],
  ])('%s is found', (_, multicast, code) => {
    expect(look(multicast).slice(1)).toEqual([code])
  })

  test('a host that wants a group and is not sent it is found; without a list all are sent it', () => {
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
    const list = { mac: hw('01:00:5e:01:02:03'), address: ip('192.0.2.12') }
    expect(codes({})).toEqual([])
    expect(codes({ lists: [list], wanted: { IPv4: [ip('239.1.2.3')] } })).toEqual([])
    expect(codes({ lists: [{ ...list, address: ip('192.0.2.13') }] })).toEqual(['multicast-groups'])
    expect(codes({ wanted: { IPv4: [] } })).toEqual(['multicast-groups'])
  })

  test('rules that may not be read are not missed', () => {
    expect(look({ ...well, chains: undefined })).toHaveLength(1)
  })

  test('a host that takes no part is named', () => {
    expect(look({ ...well, destinations: [] }, leases(VNI, undefined)).slice(1)).toEqual(['multicast-peers'])
  })
})
