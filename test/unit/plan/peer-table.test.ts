import fc from 'fast-check'
import { formatMac, formatPrefix, type IpAddress, type MacAddress } from '../../../src/model/address'
import type { Lease, UnreadableLease } from '../../../src/model/lease'
import { type PeerChange, PeerTable } from '../../../src/plan/peer-table'
import { dualLease, hw, ip, ip6, ipv4Range, ipv6Range, type LeaseFields, lease, net, net6 } from './support'

const own = {
  key: '/coreos.com/network/subnets/10.5.1.0-24',
  subnet: net('10.5.1.0/24'),
  publicIp: ip('192.168.77.11'),
  mac: hw('02:00:00:00:00:01'),
}

const table = () => new PeerTable({ range: ipv4Range(), vni: 1 }, own)
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

test('a good lease is a peer; the same again changes nothing', () => {
  const peers = table()
  expect(what(peers.put(lease('10.5.2.0/24')))).toEqual(['join'])
  expect(peers.put(lease('10.5.2.0/24', { revision: 2 }))).toEqual([])
  expect(peers.peerAt(ip('10.5.2.0'))).toMatchObject({ publicIp: ip('192.168.77.12') })
  expect(peers.peerWithMac(hw('02:00:00:00:00:02'))).toBe(peers.peerAt(ip('10.5.2.0')))
})

test('a peer that takes part in something else changes, and its claim is as old as before', () => {
  const peers = table()
  peers.put(lease('10.5.2.0/24'))
  peers.put(lease('10.5.3.0/24', { publicIp: '192.168.77.13', revision: 2 }))
  expect(what(peers.put(lease('10.5.2.0/24', { multicast: 7, revision: 3 })))).toEqual(['change'])
  expect(peers.peerAt(ip('10.5.2.0'))).toMatchObject({ multicast: 7 })
  // Its MAC, which the other waits for, is still its own: also in a listing, where the other's revision is the lower one.
  const listing = [
    lease('10.5.2.0/24', { multicast: 8, revision: 4 }),
    lease('10.5.3.0/24', { publicIp: '192.168.77.13', revision: 2 }),
  ]
  expect(what(peers.reset(listing, []))).toEqual(['change'])
  expect(subnets(peers)).toEqual(['10.5.2.0/24'])
})

test('our own lease is no peer', () => {
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

test('poison hides no good peer', () => {
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

test('a changed MAC or PublicIP is one change, and the old MAC is forgotten', () => {
  const peers = table()
  peers.put(lease('10.5.2.0/24'))
  const changes = peers.put(lease('10.5.2.0/24', { mac: '02:00:00:00:00:99', publicIp: '192.168.77.99' }))
  expect(changes).toMatchObject([{ before: { mac: 0x020000000002 }, after: { mac: 0x020000000099 } }])
  expect(peers.peerWithMac(hw('02:00:00:00:00:02'))).toBeUndefined()
})

test('a peer whose lease turns bad stays as it was last good until its key goes', () => {
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

test('a lease that becomes readable again is followed again', () => {
  const good = lease('10.5.2.0/24')
  const peers = table()
  peers.putUnreadable(unreadable(good))
  expect(what(peers.put(good))).toEqual(['join'])
  expect(reasons(peers)).toEqual([])
})

describe('a MAC that two hosts announce', () => {
  const first = lease('10.5.2.0/24')
  const second = lease('10.5.3.0/24', { publicIp: '192.168.77.13', revision: 2 })

  test('stays with the first', () => {
    const peers = table()
    peers.put(first)
    peers.put(second)
    expect(subnets(peers)).toEqual(['10.5.2.0/24'])
    expect(reasons(peers)).toEqual([expect.stringContaining('is already that of 192.168.77.12')])
  })

  test('goes to the second when the first leaves, or takes another', () => {
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

  test('in a listing, stays with the older claim, in whatever order it is listed', () => {
    for (const listed of [
      [first, second],
      [second, first],
    ]) {
      const peers = table()
      peers.reset(listed, [])
      expect(subnets(peers)).toEqual(['10.5.2.0/24'])
    }
  })

  test('is no clash when they are two leases of one host', () => {
    const peers = table()
    peers.put(first)
    expect(what(peers.put(lease('10.5.3.0/24')))).toEqual(['join'])
    peers.remove(first.key)
    expect(peers.peerWithMac(hw('02:00:00:00:00:02'))?.key).toContain('10.5.3.0')
  })
})

test('one subnet under two keys stays with the first', () => {
  const peers = table()
  peers.put(lease('10.5.2.0/24'))
  peers.put(lease('10.5.2.0/24', { key: 'dual', publicIp: '192.168.77.13', mac: '02:00:00:00:00:03' }))
  expect(reasons(peers)).toEqual([
    expect.stringContaining('subnet 10.5.2.0/24 is already that of 192.168.77.12'),
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

test('a listing tells only what differs, and keeps the last good state of what cannot be read', () => {
  const peers = table()
  const stays = lease('10.5.2.0/24')
  const leaves = lease('10.5.3.0/24', { publicIp: '192.168.77.13', mac: '02:00:00:00:00:03' })
  const broken = lease('10.5.4.0/24', { publicIp: '192.168.77.14', mac: '02:00:00:00:00:04' })
  const joins = lease('10.5.5.0/24', { publicIp: '192.168.77.15', mac: '02:00:00:00:00:05' })
  expect(what(peers.reset([stays, leaves, broken], []))).toEqual(['join', 'join', 'join'])
  expect(what(peers.reset([stays, joins], [unreadable(broken)])).sort()).toEqual(['join', 'leave'])
  expect(subnets(peers)).toEqual(['10.5.2.0/24', '10.5.4.0/24', '10.5.5.0/24'])
})

test('events and a listing of their outcome lead to the same rejections and sound peers', () => {
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
      // The changes told add up to the peers.
      expect([...mirror].sort()).toEqual(
        [...peers.peers()].map((peer): [string, string] => [peer.key, JSON.stringify(peer)]).sort(),
      )
      // No two peers clash.
      const owners = new Map<MacAddress, IpAddress>()
      for (const { mac, publicIp } of peers.peers()) {
        expect(owners.get(mac) ?? publicIp).toBe(publicIp)
        owners.set(mac, publicIp)
      }
      // Every lease is either a peer or rejected with a reason, or ours.
      const rejected = new Set([...peers.rejected()].map(({ key }) => key))
      for (const key of outcome.keys()) {
        const isPeer = [...peers.peers()].some((peer) => peer.key === key)
        expect(isPeer || rejected.has(key) || key === own.key).toBe(true)
      }
    }),
  )
})

describe('claims on each other’s places', () => {
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

  test('three hosts pass theirs on in a ring', () => {
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

  test('writing the same again makes a claim no later', () => {
    const peers = table()
    const [first, second] = [lease('10.5.2.0/24', a), lease('10.5.3.0/24', { ...b, mac: a.mac, revision: 2 })]
    peers.put(first)
    peers.put(second)
    const renewed = lease('10.5.2.0/24', { ...a, revision: 3 })
    expect([peers.put(renewed), peers.reset([renewed, second], [])]).toEqual([[], []])
    expect(subnets(peers)).toEqual(['10.5.2.0/24'])
  })

  test('what cannot be read gives up nothing', () => {
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
    // A second key for the same subnet, as a dual-stack host has it.
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

  test('leads to what a listing of the outcome would', () => {
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
      { numRuns: 2000 },
    )
  })

  test('without what is kept of the past, it leads to what a host that starts now would list', () => {
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
          // A claim is as old as its first saying.
          outcome.set(next.key, same && before !== undefined ? before : next)
        }
        const fresh = table()
        fresh.reset([...outcome.values()], [])
        const past = new Set([...peers.rejected()].map(({ key }) => key))
        const current = [...peers.peers()].filter(({ key }) => !past.has(key))
        expect(current.map((peer) => JSON.stringify(peer)).sort()).toEqual(state(fresh).peers)
        expect(state(peers).rejected).toEqual(state(fresh).rejected)
      }),
      { numRuns: 2000 },
    )
  })
  const big = (_: string, value: unknown) => (typeof value === 'bigint' ? String(value) : value)
})

describe('an address that this host must reach outside the overlay', () => {
  const gateway = { address: ip('10.5.9.1'), what: 'the gateway of the default route' }

  test('is covered by no peer, neither one that comes nor one that is there', () => {
    const peers = table()
    peers.protect([gateway])
    peers.put(lease('10.5.9.0/24'))
    expect(reasons(peers)).toEqual(['subnet 10.5.9.0/24 covers 10.5.9.1, the gateway of the default route'])
    const late = table()
    late.put(lease('10.5.9.0/24'))
    expect(what(late.protect([gateway]))).toEqual(['leave'])
    expect([late.size, reasons(late).length]).toEqual([0, 1])
  })

  test('is forgotten when it is no more', () => {
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

  test('lets another have the place that a peer lost', () => {
    const peers = table()
    peers.put(lease('10.5.9.0/24'))
    peers.put(lease('10.5.10.0/24', { publicIp: '192.168.77.13', revision: 2 }))
    expect(what(peers.protect([gateway])).sort()).toEqual(['join', 'leave'])
    expect(what(peers.protect([])).sort()).toEqual(['join', 'leave'])
  })
})

test('a peer whose address becomes ours goes, and comes back when we move on', () => {
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
  ])('a bad IPv6 half (%s) costs the IPv4 half nothing', (_, bad, reason) => {
    const [four, other] = [table(), six()]
    four.put(bad)
    other.put(bad)
    expect([four.size, other.size]).toEqual([1, 0])
    expect(reasons(other)[0]).toContain(reason)
  })
})
