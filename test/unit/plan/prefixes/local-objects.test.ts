import { formatIp, type Prefix } from '../../../../src/model/address'
import type { ObservedLink } from '../../../../src/model/kernel/link'
import { emptyObjects, proxyKey } from '../../../../src/model/kernel/objects'
import { routeKey } from '../../../../src/model/kernel/route'
import { describeOperation, describeRoute } from '../../../../src/model/kernel/words'
import { parseVia, type Via } from '../../../../src/model/prefixes'
import { PeerTable } from '../../../../src/plan/peers/peer-table'
import { deliveryOf, type LocalNetwork } from '../../../../src/plan/prefixes/delivery'
import { localObjects } from '../../../../src/plan/prefixes/local-objects'
import { LocalTable } from '../../../../src/plan/prefixes/local-table'
import { MOST_PROXIED, proxiesFor } from '../../../../src/plan/prefixes/proxies'
import { compareSlice, passSlices } from '../../../../src/plan/reconcile/compare-slice'
import { applyOperation } from '../../../../src/plan/reconcile/diff'
import { emptyScope } from '../../../../src/plan/reconcile/scope'
import { hw, ip, ip6, ipv4Range, lease, net, net6 } from '../support'

const link = (index: number, name: string, fields: Partial<ObservedLink> = {}): ObservedLink => ({
  index,
  name,
  mac: hw('02:00:00:00:00:01'),
  mtu: 1450,
  up: true,
  kind: 'bridge',
  vxlan: undefined,
  ...fields,
})
const at = (linkIndex: number, address: Prefix) => ({ linkIndex, address, scope: 'global' as const })

const NETWORK: LocalNetwork = {
  links: [
    link(1, 'lo', { kind: undefined, loopback: true }),
    link(2, 'eth0', { kind: undefined }),
    link(3, 'flannel.1', { kind: 'vxlan' }),
    link(4, 'moving'),
    link(5, 'veth1', { kind: 'veth', master: 4 }),
    link(6, 'empty', { noCarrier: true }),
    link(7, 'off', { up: false }),
    link(8, 'lan'),
    link(9, 'eth1', { kind: undefined, master: 8 }),
  ],
  addresses: [
    at(2, net('192.168.77.11/24')),
    at(4, net('10.5.240.1/24')),
    at(4, net6('fd00:9::1/64')),
    at(7, net('10.5.241.1/24')),
    at(8, net('198.51.100.1/24')),
    at(4, net('198.51.100.33/28')),
  ],
}
const via = (text: string): Via => {
  const parsed = parseVia(text)
  if (parsed === undefined) throw new Error(`${text} is no via`)
  return parsed
}
const ADDRESS = net('10.5.240.7/32')

test.each([
  ['moving', ADDRESS, { kind: 'link', link: 4 }],
  ['eth0', ADDRESS, { kind: 'link', link: 2 }],
  // The kernel has that route already.
  ['moving', net('10.5.240.0/24'), undefined],
  ['10.5.240.9', net('192.0.2.0/24'), { kind: 'direct', gateway: ip('10.5.240.9'), link: 4 }],
  ['fd00:9::9', net6('fd00:9:0:7::/64'), { kind: 'direct', gateway: ip6('fd00:9::9'), link: 4 }],
  // Of two networks around it the smaller one.
  ['198.51.100.34', ADDRESS, { kind: 'direct', gateway: ip('198.51.100.34'), link: 4 }],
  ['198.51.100.2', ADDRESS, { kind: 'direct', gateway: ip('198.51.100.2'), link: 8 }],
])('by %s there is a way', (text, prefix, target) => {
  expect(deliveryOf(via(text), prefix, NETWORK)).toMatchObject({ kind: 'ready', target })
})

test.each([
  ['br-x', ADDRESS, /no link br-x/],
  ['lo', ADDRESS, /lo leads to no container/],
  ['flannel.1', ADDRESS, /flannel\.1 leads to no container/],
  ['off', ADDRESS, /off is down/],
  ['empty', ADDRESS, /nothing is connected to the link empty/],
  ['10.5.241.9', ADDRESS, /off is down/],
  ['203.0.113.9', ADDRESS, /in no network of this host's links/],
  ['10.5.240.1', ADDRESS, /an address of this host itself/],
  ['fd00:9::9', ADDRESS, /not of IPv4/],
  ['10.5.240.9', net('10.5.240.0/28'), /inside of the prefix itself/],
])('by %s a prefix waits', (text, prefix, reason) => {
  const delivery = deliveryOf(via(text), prefix, NETWORK)
  expect(delivery).toMatchObject({ kind: 'waits', reason: expect.stringMatching(reason) })
})

test.each(['', '.', '..', 'a/b', 'a:b', 'a b', 'sixteen-letters-', '10.5.240.7/32'])(
  '%j is no way',
  (text) => {
    expect(parseVia(text)).toBeUndefined()
  },
)

test('a bridge of containers is answered for what others announce inside of its subnet, and no other', () => {
  const entries = (...prefixes: readonly Prefix[]) =>
    proxiesFor(prefixes, NETWORK).map(({ address, link: on }) => `${formatIp(address)} ${on}`)
  expect(entries(ADDRESS, net6('fd00:9::7/128'))).toEqual(['10.5.240.7 4', 'fd00:9::7 4'])
  // Outside of each subnet; the subnet of a bridge that is down; that of a bridge with a port to elsewhere.
  expect(entries(net('192.0.2.0/32'), net('10.5.241.7/32'), net('198.51.100.7/32'))).toEqual([])
  expect(entries(net('10.5.240.16/28'))).toHaveLength(Number(MOST_PROXIED))
  // More addresses than are answered for; as many as the subnet has.
  expect(entries(net('10.5.240.32/27'), net('10.5.240.0/24'))).toEqual([])
})

test('a prefix of this host replaces the route to a peer, and its change is one replaced route', () => {
  const subnet = net('10.5.1.0/24')
  const own = { key: 'own', subnet, publicIp: ip('192.168.77.11'), mac: hw('02:00:00:00:00:01') }
  const table = new PeerTable({ range: ipv4Range(), vni: 1 }, own)
  const two = lease('10.5.2.0/24')
  table.reset([two], [])
  table.routed.replace([{ prefix: ADDRESS, carriers: [{ peer: two.key, weight: 1 }] }])
  const memory = emptyObjects()
  const local = new LocalTable()
  const full = () => {
    const wanted = {
      subnet,
      blackhole: true,
      local: local.objects,
      routing: {
        style: 'nexthop',
        directLink: () => undefined,
        prefixesOf: (peer: Parameters<typeof table.prefixesOf>[0]) => table.prefixesOf(peer),
      },
    } as const
    const parts = { subnet, local: local.objects, table, failed: emptyScope }
    return [...passSlices(table.peers(), memory, parts)].flatMap((slice) => {
      const operations = compareSlice(slice, memory, wanted)
      for (const operation of operations) applyOperation(memory, operation)
      return operations.map(describeOperation)
    })
  }
  const announcement = { prefix: ADDRESS, priority: 100, until: undefined, via: via('moving') }
  const objectsOf = (announced: readonly (typeof announcement)[]) =>
    localObjects('IPv4', announced, table.routed.all(), NETWORK)
  local.replace(objectsOf([]))
  expect(full()).toContain('add the proxy neighbour 10.5.240.7 on interface 4')
  expect(full()).toEqual([])
  // The prefix is routed to a peer still: others hear of the claim after the route is there.
  expect(local.replace(objectsOf([announcement]))).toEqual({
    routes: [routeKey(ADDRESS)],
    proxies: [proxyKey({ address: ADDRESS.address, link: 4 })],
  })
  expect(local.replace(objectsOf([announcement]))).toEqual({ routes: [], proxies: [] })
  expect(full().sort()).toEqual([
    'delete the proxy neighbour 10.5.240.7 on interface 4',
    'replace the route to 10.5.240.7/32 on interface 4 proto 79',
  ])
  expect(full()).toEqual([])
  expect([...local.links]).toEqual([4])
  expect(memory.route.get(routeKey(ADDRESS))?.map(describeRoute)).toEqual([
    '10.5.240.7/32 on interface 4 proto 79',
  ])
  local.replace(objectsOf([]))
  expect(full()).toContain(`replace the route to 10.5.240.7/32 through nexthop ${ip('10.5.2.0')} proto 79`)
  expect(local.isUsed).toBe(true)
})
