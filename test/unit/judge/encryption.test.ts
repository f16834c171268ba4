/** The doctor in a network with encryption: what it finds, and what is no fault there. */
import { CHECKS, diagnose } from '../../../src/judge/diagnose'
import type { DaemonFacts, WireguardFacts } from '../../../src/judge/facts'
import { NO_RIGHTS } from '../../../src/judge/facts'
import { mac } from '../../../src/model/address'
import type { ObservedWireguardPeer, WireguardKey } from '../../../src/model/kernel/wireguard'
import type { Lease, WireguardAnnouncement } from '../../../src/model/lease'
import { announcement, key, only } from '../plan/encryption/support'
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
  nft,
  OWN_MAC,
  PEER_MAC,
  reporting,
  saved,
  word,
} from './support'

const OWN = announcement(1)
const OTHER = announcement(2)
const WIREGUARD = 20
const PEER = '10.5.42.0/24'

const configOf = (mode: string): string => CONFIG.replace('"vxlan"', `"vxlan","Encryption":"${mode}"`)

const announcing = (each: Lease, wireguard: WireguardAnnouncement | undefined): Lease => ({
  ...each,
  value: {
    ...each.value,
    vtep: { vni: 1, mac: each.value.vtep?.mac ?? OWN_MAC, ...(wireguard !== undefined && { wireguard }) },
  },
})
const [own, other] = [lease('10.5.7.0/24', '192.0.2.11', OWN_MAC), lease(PEER, '192.0.2.12')]

const PEERED: ObservedWireguardPeer = {
  publicKey: OTHER.keys[0],
  endpoint: { address: ip('192.0.2.12'), port: 51_820 },
  allowedIps: only(ip('192.0.2.12')),
  keepalive: 0,
  lastHandshake: 1,
  received: 500n,
  sent: 600n,
}

const wireguard = (
  peers: readonly ObservedWireguardPeer[] = [PEERED],
  device: Partial<WireguardFacts['device']> = {},
  more: Partial<WireguardFacts> = {},
): WireguardFacts[] => [
  {
    slot: 0,
    link: link(WIREGUARD, 'fl-wg.1', { kind: 'wireguard', mtu: 1440 }),
    device: {
      index: WIREGUARD,
      name: 'fl-wg.1',
      publicKey: OWN.keys[0],
      port: 51_820,
      peers: new Map(peers.map((each) => [each.publicKey, each])),
      ...device,
    },
    hasRule6: undefined,
    ...more,
  },
]

const inet = { family: 'inet', table: 'fl-wg.1' } as const
const match = (left: object, right: unknown) => ({ match: { op: '==', left, right } })
const port = match({ payload: { protocol: 'udp', field: 'dport' } }, 8472)
const vni = match({ payload: { base: 'th', offset: 96, len: 24 } }, 1)
const hooked = (name: string, hook: string) => ({
  chain: { ...inet, name, handle: 1, type: 'filter', hook, prio: -300, policy: 'accept' },
})
const ruled = (chain: string, handle: number, ...expr: readonly object[]) => ({
  rule: { ...inet, chain, handle, expr },
})
/** The guard as nft shows it. */
const GUARD = nft(
  { chain: { ...inet, name: 'cut', handle: 2 } },
  hooked('in', 'input'),
  hooked('out', 'output'),
  ...(['in', 'out'] as const).flatMap((chain) => [
    ruled(chain, 3, match({ meta: { key: chain === 'in' ? 'iifname' : 'oifname' } }, 'fl-wg.1'), {
      accept: null,
    }),
    ruled(chain, 4, port, vni, { counter: { packets: 0, bytes: 0 } }, { drop: null }),
  ]),
)

interface World {
  readonly mode?: 'prefer' | 'required'
  readonly others?: readonly Lease[]
  readonly isAnnounced?: boolean
  readonly peers?: readonly GivenPeer[]
  readonly status?: Partial<NonNullable<DaemonFacts['encryption']>>
  readonly via?: number
}

/** A host with one peer, encrypted. */
function world(
  {
    mode = 'prefer',
    others = [announcing(other, OTHER)],
    isAnnounced = true,
    peers = [{ subnet: PEER, state: 'ok', encryption: 'encrypted' }],
    status,
    via = WIREGUARD,
  }: World = {},
  changes: Changes = {},
): Changes {
  const device = { ...DEVICE_LINK, mtu: 1390 }
  return {
    etcd: {
      ...ETCD,
      config: configOf(mode),
      leases: [announcing(own, isAnnounced ? OWN : undefined), ...others],
    },
    daemon: {
      ...DAEMON,
      peers: peers.map(word),
      encryption: {
        mode,
        state: 'on',
        devices: [{ name: 'fl-wg.1', port: 51_820 }],
        peers: { encrypted: 1, clear: 0, none: 0 },
        ...status,
      },
    },
    kernel: {
      ...KERNEL,
      links: [
        ...KERNEL.links.map((each) => (each.index === DEVICE ? device : each)),
        link(WIREGUARD, 'fl-wg.1', { kind: 'wireguard' }),
      ],
      addresses: [...KERNEL.addresses, address(WIREGUARD, '10.5.7.0/32')],
      devices: KERNEL.devices.map((each) => ({
        ...each,
        link: device,
        objects: {
          ...each.objects,
          fdb: new Map(via < 0 ? [] : [[PEER_MAC, [{ address: ip('192.0.2.12'), via }]]]),
        },
      })),
    },
    subnetFile: { ...subnetFile, mtu: 1390 },
    wireguard: wireguard(),
    ...GUARD,
    ...changes,
  }
}
const subnetFile = facts().subnetFile.value ?? fail('there is a file')

function fail(message: string): never {
  throw new Error(message)
}

const codes = (changes: Changes): string[] =>
  diagnose(facts(changes)).flatMap(({ findings }) => findings.map(({ code }) => code))

const only1 = (changes: Changes) => {
  const [result] = diagnose(facts(changes), ['encryption'])
  return result ?? fail('no result')
}

test.each(['prefer', 'required'] as const)('a host of a network with %s is well', (mode) => {
  const results = diagnose(facts(world({ mode })))
  expect(results.map(({ name }) => name)).toEqual(CHECKS.map(({ name }) => name))
  expect(results.filter(({ state }) => state !== 'ok')).toEqual([])
  expect(only1(world({ mode })).summary).toBe(`${mode}; 1 of 1 peer get packets encrypted`)
})

test('without encryption there is nothing to check', () => {
  expect(only1({})).toMatchObject({
    state: 'ok',
    summary: 'packets go in clear, as the network config says',
  })
})

test('a host without root cannot look at the devices, and says so', () => {
  expect(only1(world({}, { wireguard: missing('only root may', NO_RIGHTS) }))).toMatchObject({
    state: 'skip',
    unmade: 'rights',
    findings: [],
  })
})

const silent: ObservedWireguardPeer = { ...PEERED, lastHandshake: undefined, received: 0n }
const required = (given: World, changes: Changes = {}) => world({ mode: 'required', ...given }, changes)
const cut: GivenPeer[] = [{ subnet: PEER, state: 'pending', encryption: 'none' }]
const clear: GivenPeer[] = [{ subnet: PEER, state: 'ok', encryption: 'clear' }]
const strange: ObservedWireguardPeer = { ...PEERED, publicKey: key(77) }
const twin = lease('10.5.50.0/24', '192.0.2.50', mac(0x020000000050))
const UNREACHED = { ...GOOD_PROBE, overlayFull: LOST, overlaySmall: LOST }

test.each<[string, Changes, string[]]>([
  [
    'a kernel without WireGuard',
    world({ isAnnounced: false, status: { state: 'unable', reason: 'no WireGuard', fix: 'load it' } }),
    ['encryption-unable'],
  ],
  ['a lease without keys', world({ isAnnounced: false, peers: clear, via: 0 }), ['encryption-unannounced']],
  ['a problem of overlayd', world({ status: { problem: 'port in use' } }, {}), ['encryption-problem']],
  ['no device', world({}, { wireguard: undefined }), ['encryption-device']],
  [
    'a device that is down',
    world({}, { wireguard: wireguard([PEERED], {}, { link: link(WIREGUARD, 'fl-wg.1', { up: false }) }) }),
    ['encryption-device'],
  ],
  [
    'a link of another kind',
    world({}, { wireguard: wireguard([], {}, { device: undefined }) }),
    ['encryption-device'],
  ],
  [
    'another key',
    world({}, { wireguard: wireguard([PEERED], { publicKey: key(9) }) }),
    ['encryption-device'],
  ],
  ['another port', world({}, { wireguard: wireguard([PEERED], { port: 51_999 }) }), ['encryption-device']],
  [
    'addresses of another host',
    world({}, { wireguard: wireguard([{ ...PEERED, allowedIps: only(ip('192.0.2.99')) }]) }),
    ['encryption-allowed-ips'],
  ],
  [
    'a peer that no lease announces',
    world({}, { wireguard: wireguard([PEERED, strange]) }),
    ['encryption-stranger'],
  ],
  [
    'no rule for IPv6',
    world({}, { wireguard: wireguard([PEERED], {}, { hasRule6: false }) }),
    ['encryption-rule6'],
  ],
  ['no guard where encryption is preferred', world({}, { firewall: { chains: [], unread: [] } }), []],
  ['no guard', required({}, { firewall: { chains: [], unread: [] } }), ['encryption-guard']],
  [
    'rules that could not be read',
    required({}, { firewall: { chains: [], unread: [{ text: 'nft', denied: true }] } }),
    [],
  ],
  [
    'a flannel host',
    world({ others: [other], peers: clear, via: 0 }, { wireguard: wireguard([]) }),
    ['encryption-keyless'],
  ],
  [
    'a flannel host that is cut off',
    required({ others: [other], peers: cut, via: -1 }, { wireguard: wireguard([]), probes: [UNREACHED] }),
    ['encryption-keyless'],
  ],
  [
    'a twin of a key',
    world(
      {
        others: [announcing(other, OTHER), announcing(twin, OTHER)],
        peers: [{ subnet: PEER, state: 'ok', encryption: 'encrypted' }],
      },
      { kernel: missing('not asked for') },
    ),
    ['encryption-refused'],
  ],
  [
    'a peer that answers no handshake, and gets packets in clear',
    world({ peers: clear, via: 0 }, { wireguard: wireguard([silent]) }),
    ['encryption-blocked'],
  ],
  [
    'a peer that answers no handshake, and gets none',
    required({ peers: cut, via: -1 }, { wireguard: wireguard([silent]), probes: [UNREACHED] }),
    ['encryption-blocked'],
  ],
  ['a peer that has fallen silent', world({}, { wireguard: wireguard([silent]) }), ['encryption-blocked']],
  [
    'a peer that overlayd does not encrypt for, whatever the device says',
    world({ peers: clear, via: 0 }, { wireguard: missing('only root may', NO_RIGHTS) }),
    ['encryption-blocked'],
  ],
  ['a handshake that was made just now', world({ peers: clear, via: 0 }), []],
  [
    'WireGuard blocked by a policy of this host',
    world(
      { peers: clear, via: 0 },
      {
        wireguard: wireguard([silent]),
        ...saved({ filter: [':INPUT DROP [0:0]', '-A INPUT -p udp -m udp --dport 8472 -j ACCEPT'] }),
      },
    ),
    ['encryption-blocked', 'udp-blocked-here'],
  ],
  [
    'the same policy, where the peer is encrypted and answers',
    world({}, saved({ filter: [':INPUT DROP [0:0]', '-A INPUT -p icmp -j ACCEPT'] })),
    [],
  ],
])('%s', (_, changes, expected) => {
  expect(codes(changes)).toEqual(expected)
})

describe('the evidence', () => {
  const findings = (changes: Changes) => only1(changes).findings

  test('of a silent peer has its bytes, the ports, and the command for its firewall', () => {
    const [finding] = findings(world({ peers: clear, via: 0 }, { wireguard: wireguard([silent]) }))
    expect(finding).toMatchObject({
      severity: 'warn',
      evidence: [`${PEER} at 192.0.2.12, UDP port 51820: no handshake, 600 bytes sent, 0 received`],
      commands: ['iptables -I INPUT -p udp --dport 51820:51821 -j ACCEPT    # on 192.0.2.12'],
    })
    expect(finding?.explains).toBeUndefined()
  })

  test('says which direction is blocked, and names a clock that is wrong', () => {
    const one = wireguard([{ ...silent, received: 148n }])
    const [finding] = findings(
      required({ peers: cut, via: -1 }, { wireguard: one, clock: { endpoint: 'x', aheadSeconds: 9000 } }),
    )
    expect(finding?.evidence.slice(1)).toEqual([
      'packets of those hosts arrive here, so the way there is the one that is blocked',
      "this host's clock is 9000 s behind etcd's",
    ])
    expect(finding?.commands).toContain('timedatectl set-ntp true')
    expect(finding?.explains).toEqual(new Set([PEER]))
  })

  test('names hosts without keys, as a failure only where they are cut off', () => {
    const given = { others: [other], peers: clear, via: 0 }
    const changes = { wireguard: wireguard([]) }
    expect(findings(world(given, changes))).toMatchObject([
      {
        severity: 'warn',
        what: '1 host announces no key',
        evidence: [`${PEER} at 192.0.2.12: no key in its lease`],
      },
    ])
    expect(findings(required(given, changes))).toMatchObject([
      { severity: 'fail', explains: new Set([PEER]) },
    ])
  })

  test('of a stranger is its key, which the command removes', () => {
    const unknown: WireguardKey = key(77)
    expect(findings(world({}, { wireguard: wireguard([PEERED, strange]) }))).toMatchObject([
      { evidence: [`the key ${unknown}`], commands: [`wg set fl-wg.1 peer ${unknown} remove`] },
    ])
  })
})

test('while etcd is away, the MTU of the device is not judged, and no host is named', () => {
  const away = missing('no answer', 'etcd-unreachable')
  expect(codes(world({}, { etcd: away }))).toEqual(['etcd-unreachable'])
})

test("overlayd's problem is named once", () => {
  const problem = { part: 'encryption', code: 'encryption-problem', text: 'port in use' } as const
  const changes = world({ status: { problem: 'port in use' } })
  const daemon = changes.daemon as DaemonFacts
  expect(codes({ ...changes, daemon: { ...daemon, ...reporting(problem) } })).toEqual(['encryption-problem'])
})

test('a host whose VXLAN packets come from another address than it announces has its entry there', () => {
  const nat = { ...OTHER, source: ip('10.9.0.12') }
  const changes = world({ others: [announcing(other, nat)] })
  const kernel = changes.kernel as typeof KERNEL
  const devices = kernel.devices.map((each) => ({
    ...each,
    objects: {
      ...each.objects,
      fdb: new Map([[PEER_MAC, [{ address: ip('10.9.0.12'), via: WIREGUARD }]]]),
    },
  }))
  const device = wireguard([{ ...PEERED, allowedIps: only(ip('10.9.0.12')) }])
  expect(codes({ ...changes, kernel: { ...kernel, devices }, wireguard: device })).toEqual([])
})

test('the leases of the tests are those of a healthy host', () => {
  expect([own, other]).toEqual(LEASES)
})
