import fc from 'fast-check'
import { formatMac, formatPrefix, type IpAddress, type MacAddress } from '../../../../src/model/address'
import { type Lease, MOST_MISNAMED, type UnreadableLease } from '../../../../src/model/lease'
import type { LeaseEvent, PeerChange } from '../../../../src/plan/peers/claim'
import { PeerTable } from '../../../../src/plan/peers/peer-table'
import { runs } from '../../support/runs'
import { dualLease, hw, ip, ip6, ipv4Range, ipv6Range, type LeaseFields, lease, net, net6 } from '../support'

const own = {
  key: '/coreos.com/network/subnets/10.5.1.0-24',
  subnet: net('10.5.1.0/24'),
  publicIp: ip('192.168.77.11'),
  mac: hw('02:00:00:00:00:01'),
}

const range = ipv4Range()
const table = () => new PeerTable({ range, vni: 1 }, own)
const subnets = (peers: PeerTable) => [...peers.peers()].map((peer) => formatPrefix(peer.subnet)).sort()
const reasons = (peers: PeerTable) => [...peers.rejected()].map(({ reason }) => reason)
const what = (changes: readonly PeerChange[]) =>
  changes.map(({ before, after }) =>
    before === undefined ? 'join' : after === undefined ? 'leave' : 'change',
  )

const unreadable = (of: Lease, revision = 9): UnreadableLease => ({
  key: of.key,
  reason: 'not JSON',
  modRevision: BigInt(revision) as Lease['modRevision'],
})

test('a valid lease is a peer; the same lease again changes nothing', () => {
  const peers = table()
  expect(what(peers.put(lease('10.5.2.0/24')))).toEqual(['join'])
  expect(peers.put(lease('10.5.2.0/24', { revision: 2 }))).toEqual([])
  expect(peers.peerAt(ip('10.5.2.0'))).toMatchObject({ publicIp: ip('192.168.77.12') })
  expect(peers.peerWithMac(hw('02:00:00:00:00:02'))).toBe(peers.peerAt(ip('10.5.2.0')))
})

test('a change of the multicast VNI changes the peer, and keeps the age of its claim', () => {
  const peers = table()
  peers.put(lease('10.5.2.0/24'))
  peers.put(lease('10.5.3.0/24', { publicIp: '192.168.77.13', revision: 2 }))
  expect(what(peers.put(lease('10.5.2.0/24', { multicast: 7, revision: 3 })))).toEqual(['change'])
  expect(peers.peerAt(ip('10.5.2.0'))).toMatchObject({ multicast: 7 })
  // The peer keeps its MAC, which the other host waits for, also in a listing where the other's revision is
  // lower.
  const listing = [
    lease('10.5.2.0/24', { multicast: 8, revision: 4 }),
    lease('10.5.3.0/24', { publicIp: '192.168.77.13', revision: 2 }),
  ]
  expect(what(peers.reset(listing, []))).toEqual(['change'])
  expect(subnets(peers)).toEqual(['10.5.2.0/24'])
})

test('our own lease is not a peer', () => {
  const peers = table()
  expect(peers.put(lease('10.5.1.0/24', { key: own.key }))).toEqual([])
  peers.putUnreadable(unreadable(lease('10.5.1.0/24', { key: own.key })))
  expect([peers.size, reasons(peers)]).toEqual([0, []])
})

const poison: [string, LeaseFields, string][] = [
  ['10.6.2.0/24', {}, 'outside the network'],
  ['10.0.0.0/8', {}, 'outside the network'],
  ['10.5.0.0/16', {}, 'outside the network'],
  ['0.0.0.0/0', {}, 'outside the network'],
  ['128.0.0.0/1', {}, 'outside the network'],
  ['192.168.77.0/24', {}, 'outside the network'],
  ['10.5.2.0/25', {}, 'not a /24'],
  ['10.5.1.0/24', { key: 'other' }, 'overlaps our own'],
  ['10.5.2.0/24', { backendType: 'udp' }, 'BackendType "udp"'],
  ['10.5.2.0/24', { backendType: 'VXLAN' }, 'BackendType "VXLAN"'],
  ['10.5.2.0/24', { publicIp: '0.0.0.0' }, 'not a unicast address'],
  ['10.5.2.0/24', { publicIp: '127.0.0.1' }, 'not a unicast address'],
  ['10.5.2.0/24', { publicIp: '239.1.1.1' }, 'not a unicast address'],
  ['10.5.2.0/24', { publicIp: '192.168.77.11' }, 'is our own'],
  ['10.5.2.0/24', { publicIp: '10.5.9.9' }, 'inside the overlay'],
  ['10.5.2.0/24', { vni: 2 }, 'VNI 2'],
  ['10.5.2.0/24', { mac: '00:00:00:00:00:00' }, 'not a unicast address'],
  ['10.5.2.0/24', { mac: '01:00:5e:00:00:01' }, 'not a unicast address'],
  ['10.5.2.0/24', { mac: 'ff:ff:ff:ff:ff:ff' }, 'not a unicast address'],
  ['10.5.2.0/24', { mac: '02:00:00:00:00:01' }, 'is our own'],
]

test.each(poison)('%s %j is rejected: %s', (subnet, fields, reason) => {
  const peers = table()
  expect(peers.put(lease(subnet, fields))).toEqual([])
  expect(peers.size).toBe(0)
  expect(reasons(peers)).toEqual([expect.stringContaining(reason)])
})

test('poisonous leases hide no valid peer', () => {
  const peers = table()
  for (const [i, [subnet, fields]] of poison.entries())
    peers.put(lease(subnet, { key: `poison${i}`, ...fields }))
  expect(what(peers.put(lease('10.5.2.0/24')))).toEqual(['join'])
  expect(reasons(peers)).toHaveLength(poison.length)
})

test('a lease without VTEP data is rejected', () => {
  const bare = lease('10.5.2.0/24')
  const peers = table()
  peers.put({ ...bare, value: { ...bare.value, vtep: undefined } })
  expect(reasons(peers)).toEqual(['BackendData has no usable VNI and VtepMAC'])
})

test('a changed MAC or PublicIP is one change, and the old MAC is free', () => {
  const peers = table()
  peers.put(lease('10.5.2.0/24'))
  const changes = peers.put(lease('10.5.2.0/24', { mac: '02:00:00:00:00:99', publicIp: '192.168.77.99' }))
  expect(changes).toMatchObject([{ before: { mac: 0x020000000002 }, after: { mac: 0x020000000099 } }])
  expect(peers.peerWithMac(hw('02:00:00:00:00:02'))).toBeUndefined()
})

test('a peer whose lease becomes invalid stays as its last valid lease says until its key is deleted', () => {
  const good = lease('10.5.2.0/24')
  const peers = table()
  peers.put(good)
  peers.putUnreadable(unreadable(good))
  expect([...peers.rejected()]).toEqual([{ key: good.key, reason: 'not JSON', keepsLastGood: true }])
  peers.put(lease('10.5.2.0/24', { mac: '00:00:00:00:00:00', revision: 10 }))
  expect([...peers.rejected()]).toMatchObject([{ keepsLastGood: true }])
  expect(subnets(peers)).toEqual(['10.5.2.0/24'])
  expect(what(peers.remove(good.key))).toEqual(['leave'])
  expect(reasons(peers)).toEqual([])
})

test('a lease that becomes readable again is accepted again', () => {
  const good = lease('10.5.2.0/24')
  const peers = table()
  peers.putUnreadable(unreadable(good))
  expect(what(peers.put(good))).toEqual(['join'])
  expect(reasons(peers)).toEqual([])
})

describe('a MAC that two hosts announce', () => {
  const first = lease('10.5.2.0/24')
  const second = lease('10.5.3.0/24', { publicIp: '192.168.77.13', revision: 2 })

  test('stays with the first host', () => {
    const peers = table()
    peers.put(first)
    peers.put(second)
    expect(subnets(peers)).toEqual(['10.5.2.0/24'])
    expect(reasons(peers)).toEqual([expect.stringContaining('already belongs to 192.168.77.12')])
  })

  test('goes to the second host when the first leaves or changes its MAC', () => {
    const peers = table()
    peers.put(first)
    peers.put(second)
    expect(what(peers.remove(first.key))).toEqual(['leave', 'join'])
    const others = table()
    others.put(first)
    others.put(second)
    expect(what(others.put(lease('10.5.2.0/24', { mac: '02:00:00:00:00:99' })))).toEqual(['change', 'join'])
    expect(subnets(others)).toEqual(['10.5.2.0/24', '10.5.3.0/24'])
  })

  test('in a listing, stays with the older claim, in any order of the listing', () => {
    for (const listed of [
      [first, second],
      [second, first],
    ]) {
      const peers = table()
      peers.reset(listed, [])
      expect(subnets(peers)).toEqual(['10.5.2.0/24'])
    }
  })

  test('is no conflict if both leases are of one host', () => {
    const peers = table()
    peers.put(first)
    expect(what(peers.put(lease('10.5.3.0/24')))).toEqual(['join'])
    peers.remove(first.key)
    expect(peers.peerWithMac(hw('02:00:00:00:00:02'))?.key).toContain('10.5.3.0')
  })
})

test('one subnet under two keys stays with the first key', () => {
  const peers = table()
  peers.put(lease('10.5.2.0/24'))
  peers.put(lease('10.5.2.0/24', { key: 'dual', publicIp: '192.168.77.13', mac: '02:00:00:00:00:03' }))
  expect(reasons(peers)).toEqual([
    expect.stringContaining('subnet 10.5.2.0/24 already belongs to 192.168.77.12'),
  ])
})

test('two hosts may exchange their MACs between two listings', () => {
  const peers = table()
  const a = { publicIp: '192.168.77.12', mac: '02:00:00:00:00:02' }
  const b = { publicIp: '192.168.77.13', mac: '02:00:00:00:00:03' }
  peers.reset([lease('10.5.2.0/24', a), lease('10.5.3.0/24', b)], [])
  const changes = peers.reset(
    [lease('10.5.2.0/24', { ...a, mac: b.mac }), lease('10.5.3.0/24', { ...b, mac: a.mac })],
    [],
  )
  expect(what(changes)).toEqual(['change', 'change'])
})

test('a listing reports only differences, and keeps peers whose lease is unreadable', () => {
  const peers = table()
  const stays = lease('10.5.2.0/24')
  const leaves = lease('10.5.3.0/24', { publicIp: '192.168.77.13', mac: '02:00:00:00:00:03' })
  const broken = lease('10.5.4.0/24', { publicIp: '192.168.77.14', mac: '02:00:00:00:00:04' })
  const joins = lease('10.5.5.0/24', { publicIp: '192.168.77.15', mac: '02:00:00:00:00:05' })
  expect(what(peers.reset([stays, leaves, broken], []))).toEqual(['join', 'join', 'join'])
  expect(what(peers.reset([stays, joins], [unreadable(broken)])).sort()).toEqual(['join', 'leave'])
  expect(subnets(peers)).toEqual(['10.5.2.0/24', '10.5.4.0/24', '10.5.5.0/24'])
})

test('events lead to consistent peers, and to the same rejections as a listing of their outcome', () => {
  const anyLease = fc
    .record({
      subnet: fc.integer({ min: 1, max: 6 }),
      mac: fc.integer({ min: 1, max: 5 }),
      publicIp: fc.integer({ min: 11, max: 15 }),
    })
    .map(({ subnet, mac, publicIp }) => ({
      subnet: `10.5.${subnet}.0/24`,
      mac: `02:00:00:00:00:0${mac}`,
      publicIp: `192.168.77.${publicIp}`,
    }))
  fc.assert(
    fc.property(fc.array(fc.record({ lease: anyLease, gone: fc.boolean() }), { maxLength: 30 }), (events) => {
      const peers = table()
      const mirror = new Map<string, string>()
      const outcome = new Map<string, Lease>()
      for (const [revision, { lease: fields, gone }] of events.entries()) {
        const next = lease(fields.subnet, { ...fields, revision })
        const changes = gone ? peers.remove(next.key) : peers.put(next)
        if (gone) outcome.delete(next.key)
        else outcome.set(next.key, next)
        for (const { before, after } of changes) {
          if (before !== undefined) mirror.delete(before.key)
          if (after !== undefined) mirror.set(after.key, JSON.stringify(after))
        }
      }
      // The reported changes add up to the peers.
      expect([...mirror].sort()).toEqual(
        [...peers.peers()].map((peer): [string, string] => [peer.key, JSON.stringify(peer)]).sort(),
      )
      // No two peers are in conflict.
      const owners = new Map<MacAddress, IpAddress>()
      for (const { mac, publicIp } of peers.peers()) {
        expect(owners.get(mac) ?? publicIp).toBe(publicIp)
        owners.set(mac, publicIp)
      }
      // Every lease is a peer, or rejected with a reason, or ours.
      const rejected = new Set([...peers.rejected()].map(({ key }) => key))
      for (const key of outcome.keys()) {
        const isPeer = [...peers.peers()].some((peer) => peer.key === key)
        expect(isPeer || rejected.has(key) || key === own.key).toBe(true)
      }
    }),
  )
})

describe('conflicting claims', () => {
  const a = { publicIp: '192.168.77.12', mac: '02:00:00:00:00:02' }
  const b = { publicIp: '192.168.77.13', mac: '02:00:00:00:00:03' }
  const c = { publicIp: '192.168.77.14', mac: '02:00:00:00:00:04' }
  const macs = (peers: PeerTable) =>
    Object.fromEntries([...peers.peers()].map(({ subnet, mac }) => [formatPrefix(subnet), formatMac(mac)]))

  test('two hosts exchange their MACs by two events', () => {
    const peers = table()
    peers.put(lease('10.5.2.0/24', a))
    peers.put(lease('10.5.3.0/24', { ...b, revision: 2 }))
    expect(peers.put(lease('10.5.2.0/24', { ...a, mac: b.mac, revision: 3 }))).toEqual([])
    expect([...peers.rejected()]).toMatchObject([{ keepsLastGood: true }])
    const changes = peers.put(lease('10.5.3.0/24', { ...b, mac: a.mac, revision: 4 }))
    expect(what(changes).sort()).toEqual(['change', 'change'])
    expect(macs(peers)).toEqual({ '10.5.2.0/24': b.mac, '10.5.3.0/24': a.mac })
    expect(reasons(peers)).toEqual([])
  })

  test('three hosts pass their MACs on in a ring', () => {
    const peers = table()
    const hosts = [a, b, c]
    for (const [i, host] of hosts.entries()) peers.put(lease(`10.5.${i + 2}.0/24`, host))
    for (const [i, host] of hosts.entries()) {
      peers.put(
        lease(`10.5.${i + 2}.0/24`, { ...host, mac: hosts[(i + 1) % 3]?.mac ?? '', revision: 10 + i }),
      )
    }
    expect(Object.values(macs(peers))).toHaveLength(3)
    expect(macs(peers)).toEqual({ '10.5.2.0/24': b.mac, '10.5.3.0/24': c.mac, '10.5.4.0/24': a.mac })
  })

  test('writing the same value again does not make a claim newer', () => {
    const peers = table()
    const [first, second] = [lease('10.5.2.0/24', a), lease('10.5.3.0/24', { ...b, mac: a.mac, revision: 2 })]
    peers.put(first)
    peers.put(second)
    const renewed = lease('10.5.2.0/24', { ...a, revision: 3 })
    expect([peers.put(renewed), peers.reset([renewed, second], [])]).toEqual([[], []])
    expect(subnets(peers)).toEqual(['10.5.2.0/24'])
  })

  test('an unreadable lease keeps its claim', () => {
    const peers = table()
    const [first, second] = [lease('10.5.2.0/24', a), lease('10.5.3.0/24', { ...b, mac: a.mac, revision: 2 })]
    peers.put(first)
    peers.put(second)
    peers.putUnreadable(unreadable(first))
    expect(peers.reset([second], [unreadable(first)])).toEqual([])
    expect(subnets(peers)).toEqual(['10.5.2.0/24'])
  })
})

describe('a sequence of events', () => {
  interface AnyEvent {
    readonly subnet: number
    readonly mac: number
    readonly publicIp: number
    readonly twin: boolean
  }
  const anyEvent = fc.record({
    subnet: fc.integer({ min: 2, max: 6 }),
    mac: fc.integer({ min: 2, max: 6 }),
    publicIp: fc.integer({ min: 12, max: 16 }),
    // A second key for the same subnet, as of a dual-stack host.
    twin: fc.boolean(),
    kind: fc.constantFrom('put', 'put', 'put', 'remove', 'spoil'),
  })
  const leaseOf = ({ subnet, mac, publicIp, twin }: AnyEvent, revision: number): Lease =>
    lease(`10.5.${subnet}.0/24`, {
      mac: `02:00:00:00:00:0${mac}`,
      publicIp: `192.168.77.${publicIp}`,
      revision,
      ...(twin && { key: `twin-${subnet}` }),
    })
  const state = (peers: PeerTable) => ({
    peers: [...peers.peers()].map((peer) => JSON.stringify(peer)).sort(),
    rejected: [...peers.rejected()].map(({ key }) => key).sort(),
  })

  test('leads to the same peers as a listing of the outcome', () => {
    fc.assert(
      fc.property(fc.array(anyEvent, { maxLength: 40 }), (events) => {
        const peers = table()
        const good = new Map<string, Lease>()
        const bad = new Map<string, UnreadableLease>()
        for (const [index, event] of events.entries()) {
          const next = leaseOf(event, index + 1)
          good.delete(next.key)
          bad.delete(next.key)
          if (event.kind === 'remove') peers.remove(next.key)
          else if (event.kind === 'put') {
            peers.put(next)
            good.set(next.key, next)
          } else {
            peers.putUnreadable(unreadable(next))
            bad.set(next.key, unreadable(next))
          }
        }
        const before = state(peers)
        expect(peers.reset([...good.values()], [...bad.values()])).toEqual([])
        expect(state(peers)).toEqual(before)
      }),
      { numRuns: runs(400, 50_000) },
    )
  })

  test('leads to the peers of a host that starts now, apart from those kept from the past', () => {
    fc.assert(
      fc.property(fc.array(anyEvent, { maxLength: 40 }), (events) => {
        const peers = table()
        const outcome = new Map<string, Lease>()
        for (const [index, event] of events.entries()) {
          const next = leaseOf(event, index + 1)
          const before = outcome.get(next.key)
          if (event.kind === 'remove') {
            peers.remove(next.key)
            outcome.delete(next.key)
            continue
          }
          peers.put(next)
          const same = JSON.stringify(before?.value, big) === JSON.stringify(next.value, big)
          // A claim is as old as the first write of its value.
          outcome.set(next.key, same && before !== undefined ? before : next)
        }
        const fresh = table()
        fresh.reset([...outcome.values()], [])
        const past = new Set([...peers.rejected()].map(({ key }) => key))
        const current = [...peers.peers()].filter(({ key }) => !past.has(key))
        expect(current.map((peer) => JSON.stringify(peer)).sort()).toEqual(state(fresh).peers)
        expect(state(peers).rejected).toEqual(state(fresh).rejected)
      }),
      { numRuns: runs(400, 50_000) },
    )
  })
  const big = (_: string, value: unknown) => (typeof value === 'bigint' ? String(value) : value)
})

describe('an address that this host must reach outside the overlay', () => {
  const gateway = { address: ip('10.5.9.1'), what: 'the gateway of the default route' }

  test('is covered by no peer, neither a new nor a present one', () => {
    const peers = table()
    peers.protect([gateway])
    peers.put(lease('10.5.9.0/24'))
    expect(reasons(peers)).toEqual(['subnet 10.5.9.0/24 covers 10.5.9.1, the gateway of the default route'])
    const late = table()
    late.put(lease('10.5.9.0/24'))
    expect(what(late.protect([gateway]))).toEqual(['leave'])
    expect([late.size, reasons(late).length]).toEqual([0, 1])
  })

  test('is no longer protected when the address is gone', () => {
    const peers = table()
    peers.put(lease('10.5.9.0/24'))
    peers.protect([gateway])
    expect(what(peers.protect([]))).toEqual(['join'])
    peers.protect([gateway])
    peers.put(lease('10.5.9.0/24', { mac: '02:00:00:00:00:99' }))
    expect(peers.protect([])).toMatchObject([{ after: { mac: 0x020000000099 } }])
    expect(reasons(peers)).toEqual([])
  })

  test('does not count outside the network, nor in our own subnet', () => {
    const peers = table()
    peers.put(lease('10.5.9.0/24'))
    expect(
      peers.protect([
        { ...gateway, address: ip('10.5.1.1') },
        { ...gateway, address: ip('192.0.2.1') },
      ]),
    ).toEqual([])
  })

  test('lets a waiting lease replace the peer that is removed for it', () => {
    const peers = table()
    peers.put(lease('10.5.9.0/24'))
    peers.put(lease('10.5.10.0/24', { publicIp: '192.168.77.13', revision: 2 }))
    expect(what(peers.protect([gateway])).sort()).toEqual(['join', 'leave'])
    expect(what(peers.protect([])).sort()).toEqual(['join', 'leave'])
  })
})

test('a peer whose address becomes ours is removed, and comes back when our address changes again', () => {
  const peers = table()
  peers.put(lease('10.5.2.0/24'))
  expect(what(peers.moveTo(ip('192.168.77.12')))).toEqual(['leave'])
  expect(reasons(peers)).toEqual(['PublicIP 192.168.77.12 is our own'])
  expect(what(peers.moveTo(ip('192.168.77.20')))).toEqual(['join'])
})

describe('of a dual-stack lease', () => {
  const six = () =>
    new PeerTable(
      { range: ipv6Range({ IPv6Network: 'fd00:5::/48' }), vni: 1 },
      {
        key: 'own',
        subnet: net6('fd00:5:0:1::/64'),
        publicIp: ip6('fd77::11'),
        mac: hw('02:00:00:00:06:01'),
      },
    )
  const good = dualLease('10.5.2.0/24', 'fd00:5:0:2::/64')

  test('each family takes its half', () => {
    const [four, other] = [table(), six()]
    four.put(good)
    other.put(good)
    expect([...four.peers()]).toMatchObject([{ subnet: net('10.5.2.0/24'), publicIp: ip('192.168.77.12') }])
    expect([...other.peers()]).toMatchObject([
      { subnet: net6('fd00:5:0:2::/64'), publicIp: ip6('fd77::12'), mac: hw('02:00:00:00:06:02') },
    ])
  })

  test('a placeholder for a missing IPv6 address keeps the routes of both families', () => {
    const [four, other] = [table(), six()]
    for (const each of [four, other])
      each.put(dualLease('10.5.2.0/24', 'fd00:5:0:2::/64', { publicIpv6: '100::c0a8:4d0c' }))
    expect([four.size, other.size]).toEqual([1, 1])
  })

  test.each<[string, Lease, string]>([
    ['no IPv6 half', lease('10.5.2.0/24'), 'it has no IPv6 subnet'],
    [
      'no PublicIPv6',
      dualLease('10.5.2.0/24', 'fd00:5:0:2::/64', { publicIpv6: '' }),
      'it has no PublicIPv6',
    ],
    ['no data', dualLease('10.5.2.0/24', 'fd00:5:0:2::/64', { mac6: '' }), 'BackendV6Data has no usable'],
    [
      'a link-local address',
      dualLease('10.5.2.0/24', 'fd00:5:0:2::/64', { publicIpv6: 'fe80::1' }),
      'PublicIPv6 fe80::1 is not a unicast address',
    ],
    ['a foreign subnet', dualLease('10.5.2.0/24', 'fd00:6:0:2::/64'), 'outside the network fd00:5::/48'],
    [
      'our address',
      dualLease('10.5.2.0/24', 'fd00:5:0:2::/64', { publicIpv6: 'fd77::11' }),
      'PublicIPv6 fd77::11 is our own',
    ],
  ])('an invalid IPv6 half (%s) does not affect the IPv4 half', (_, bad, reason) => {
    const [four, other] = [table(), six()]
    four.put(bad)
    other.put(bad)
    expect([four.size, other.size]).toEqual([1, 0])
    expect(reasons(other)[0]).toContain(reason)
  })
})

describe('many leases at once', () => {
  const anyEvent = fc.record({
    subnet: fc.integer({ min: 2, max: 6 }),
    mac: fc.integer({ min: 2, max: 4 }),
    publicIp: fc.integer({ min: 12, max: 14 }),
    kind: fc.constantFrom('put', 'put', 'put', 'remove', 'spoil'),
  })
  const state = (peers: PeerTable) => ({
    peers: [...peers.peers()].map((peer) => JSON.stringify(peer)).sort(),
    rejected: [...peers.rejected()].map(({ key, keepsLastGood }) => `${key} ${keepsLastGood}`).sort(),
  })
  /** Enough events to be applied in pieces. */
  const padding = Array.from({ length: 501 }, (_, i): LeaseEvent => ({ kind: 'removed', key: `none-${i}` }))

  test.each([
    ['few', []],
    ['many', padding],
  ])('(%s) lead to the same peers as a listing of their outcome', (_, more) => {
    fc.assert(
      fc.property(fc.array(fc.array(anyEvent, { maxLength: 8 }), { maxLength: 8 }), (batches) => {
        const [peers, listed] = [table(), table()]
        const [got, wanted]: [unknown[], unknown[]] = [[], []]
        const leases = new Map<string, Lease>()
        const bad = new Map<string, UnreadableLease>()
        const mirror = new Map<string, string>()
        let revision = 0
        for (const batch of batches) {
          const events = new Map<string, LeaseEvent>()
          for (const { subnet, mac, publicIp, kind } of batch) {
            revision += 1
            const next = lease(`10.5.${subnet}.0/24`, {
              mac: `02:00:00:00:00:0${mac}`,
              publicIp: `192.168.77.${publicIp}`,
              revision,
            })
            const { key } = next
            leases.delete(key)
            bad.delete(key)
            events.delete(key)
            if (kind === 'put') {
              leases.set(key, next)
              events.set(key, { kind: 'lease', lease: next })
            } else if (kind === 'spoil') {
              bad.set(key, unreadable(next))
              events.set(key, { kind: 'unreadable', lease: unreadable(next) })
            } else events.set(key, { kind: 'removed', key })
          }
          for (const { before, after } of peers.apply([...events.values(), ...more])) {
            if (before !== undefined) mirror.delete(before.key)
            if (after !== undefined) mirror.set(after.key, JSON.stringify(after))
          }
          listed.reset([...leases.values()], [...bad.values()])
          const [now, changes] = [state(peers), [...mirror.values()].sort()]
          // The reported changes add up to the peers.
          got.push({ ...now, changes })
          wanted.push({ ...state(listed), changes: now.peers })
        }
        expect(got).toEqual(wanted)
      }),
      { numRuns: runs(200, 20_000) },
    )
  })

  /** Number of look-ups in maps: a measure of work that does not depend on the speed of the machine. */
  function lookUps(act: () => void): number {
    const { get } = Map.prototype
    let count = 0
    // A spy of jest would keep all arguments and results.
    Map.prototype.get = function (key) {
      count += 1
      return get.call(this, key)
    }
    try {
      act()
      return count
    } finally {
      Map.prototype.get = get
    }
  }
  const many = (count: number, fields: (i: number) => Partial<LeaseFields>): Lease[] =>
    Array.from({ length: count }, (_, i) => {
      const subnet = `10.5.${Math.floor(i / 64) + 2}.${(i % 64) * 4}/30`
      return lease(subnet, { revision: i + 1, ...fields(i) })
    })
  const small = () => new PeerTable({ range: { ...range, subnetLength: 30 }, vni: 1 }, own)

  const ONE = { mac: '02:00:00:00:00:02', publicIp: '192.168.77.12' }
  test.each<[string, (i: number) => Partial<LeaseFields>]>([
    ['one MAC and one PublicIP', () => ONE],
    ['one MAC and two PublicIPs', (i) => ({ ...ONE, publicIp: `192.168.77.${12 + (i % 2)}` })],
    [
      'one MAC and many PublicIPs',
      (i) => ({ ...ONE, publicIp: `192.168.${80 + (i >> 7)}.${1 + (i & 127)}` }),
    ],
  ])('with %s cost time linear in their number', (_, fields) => {
    const works: readonly [string, (leases: readonly Lease[]) => void][] = [
      ['listed', (leases) => small().reset(leases, [])],
      ['told', (leases) => small().apply(leases.map((each) => ({ kind: 'lease', lease: each })))],
      [
        'in events one by one',
        (leases) => {
          const peers = small()
          for (const each of leases) peers.put(each)
        },
      ],
      [
        'gone',
        (leases) => {
          const peers = small()
          peers.reset(leases, [])
          peers.apply(leases.map(({ key }) => ({ kind: 'removed', key })))
        },
      ],
      [
        'gone one by one, the newest first',
        (leases) => {
          const peers = small()
          peers.reset(leases, [])
          for (const { key } of [...leases].reverse()) peers.remove(key)
        },
      ],
      [
        'turned bad, listed again',
        (leases) => {
          const peers = small()
          peers.reset(leases, [])
          peers.reset(
            many(leases.length, () => ({ mac: '02:00:00:00:00:02', publicIp: '192.168.77.99' })),
            leases.map((each) => unreadable(each)),
          )
        },
      ],
    ]
    for (const [name, work] of works) {
      const [half, whole] = [1000, 2000].map((count) => lookUps(() => work(many(count, fields))))
      expect([name, (whole ?? 0) / (half ?? 1) < 2.5]).toEqual([name, true])
    }
  })

  test('are applied in pieces, and the table does not change before the end', () => {
    const peers = small()
    peers.put(lease('10.5.250.0/30'))
    const leases = many(2000, (i) => ({
      mac: `02:00:00:01:${(i >> 8).toString(16).padStart(2, '0')}:${(i & 255).toString(16).padStart(2, '0')}`,
      publicIp: '192.168.77.50',
    }))
    const pieces = peers.resetting(leases, () => ({ leases: [] }))
    let count = 0
    for (let next = pieces.next(); !next.done; next = pieces.next()) {
      expect(subnets(peers)).toEqual(['10.5.250.0/30'])
      count += 1
    }
    expect(count).toBeGreaterThan(8)
    expect(peers.size).toBe(2000)
  })

  test('applied in pieces while the address of this host changes are judged by the new address', () => {
    const peers = table()
    const leases = Array.from({ length: 3 }, (_, i) =>
      lease(`10.5.${i + 2}.0/24`, { publicIp: `192.168.77.${12 + i}`, mac: `02:00:00:00:00:0${i + 2}` }),
    )
    const pieces = peers.resetting(leases, () => ({ leases: [] }))
    pieces.next()
    peers.moveTo(ip('192.168.77.13'))
    let next = pieces.next()
    while (!next.done) next = pieces.next()
    expect(subnets(peers)).toEqual(['10.5.2.0/24', '10.5.4.0/24'])
    expect(reasons(peers)).toEqual(['PublicIP 192.168.77.13 is our own'])
  })
})

describe('misnamed keys', () => {
  const misnamed = (i: number, isNew = true): UnreadableLease => ({
    key: `k${i}`,
    reason: 'no subnet',
    modRevision: 1n as Lease['modRevision'],
    misnamed: { isNew },
  })
  const COUNT = 1000
  const all = Array.from({ length: COUNT }, (_, i) => misnamed(i))

  test.each<[string, (peers: PeerTable) => void]>([
    [
      'in events one by one',
      (peers) => {
        for (const each of all) peers.putUnreadable(each)
      },
    ],
    ['in one update', (peers) => peers.apply(all.map((each) => ({ kind: 'unreadable', lease: each })))],
    ['in a listing', (peers) => peers.reset([], all)],
  ])('%s, are kept up to a bound, and counted', (_, act) => {
    const peers = table()
    act(peers)
    expect([reasons(peers).length, peers.moreMisnamed]).toEqual([MOST_MISNAMED, COUNT - MOST_MISNAMED])
    // A key that is not kept and is written again counts once; a deleted one no longer counts.
    peers.putUnreadable(misnamed(COUNT - 1, false))
    peers.apply([{ kind: 'removed', key: `k${COUNT - 2}`, misnamed: true }])
    expect(peers.moreMisnamed).toBe(COUNT - MOST_MISNAMED - 1)
    peers.reset([], [])
    expect([reasons(peers).length, peers.moreMisnamed]).toEqual([0, 0])
  })

  test('displace no lease', () => {
    const peers = table()
    peers.reset([], all)
    peers.putUnreadable({
      key: '/p/subnets/10.5.9.0-24',
      reason: 'not JSON',
      modRevision: 2n as Lease['modRevision'],
    })
    expect(peers.reasonAgainst('/p/subnets/10.5.9.0-24')).toBe('not JSON')
  })
})

describe('a PublicIP that no host can have', () => {
  const at = (publicIp: string) => lease('10.5.2.0/24', { publicIp })
  const links = [net('192.168.77.11/24'), net('172.20.0.1/30'), net('203.0.113.4/31'), net('198.51.100.7/32')]

  test.each([
    ['192.168.77.255', /is the broadcast address of 192\.168\.77\.0\/24, a network of this host/],
    ['192.168.77.0', /is the network address of 192\.168\.77\.0\/24/],
    ['172.20.0.3', /broadcast/],
    ['172.20.0.0', /network address/],
    ['169.254.169.254', /metadata/],
    ['169.254.1.1', /link-local/],
    ['127.0.0.1', /not a unicast/],
    ['0.1.2.3', /not a unicast/],
    ['224.0.0.1', /not a unicast/],
    ['240.0.0.1', /not a unicast/],
    ['255.255.255.255', /not a unicast/],
    ['10.5.77.1', /inside the overlay network/],
  ])('%s is rejected', (publicIp, reason) => {
    const peers = table()
    peers.protect([], links)
    expect(peers.put(at(publicIp))).toEqual([])
    expect(reasons(peers)).toEqual([expect.stringMatching(reason)])
  })

  test.each(['192.168.77.254', '192.168.78.255', '203.0.113.5', '203.0.113.4', '198.51.100.7', '172.20.0.2'])(
    '%s is accepted',
    (publicIp) => {
      const peers = table()
      peers.protect([], links)
      expect(what(peers.put(at(publicIp)))).toEqual(['join'])
    },
  )

  test('is judged again when this host gets another prefix', () => {
    const peers = table()
    peers.put(at('192.168.77.127'))
    expect(peers.protect([], [net('192.168.77.11/24')])).toEqual([])
    expect(what(peers.protect([], [net('192.168.77.11/25')]))).toEqual(['leave'])
    expect(what(peers.protect([], [net('192.168.77.11/24')]))).toEqual(['join'])
    expect(peers.put(lease('10.5.3.0/24', { publicIp: '169.254.3.3', mac: '02:00:00:00:00:03' }))).toEqual([])
    expect(what(peers.protect([], [net('169.254.1.1/16')]))).toEqual(['join'])
  })
})
