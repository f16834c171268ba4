/** Which announcements of hosts are used: a key and an address belong to one host. */
import { tunnelHosts } from '../../../../src/plan/encryption/tunnel-hosts'
import { ip, ip6, net6 } from '../support'
import { announcement, key, peer } from './support'

const refusals = (...peers: ReturnType<typeof peer>[]) =>
  [...tunnelHosts([peers], [key(2), key(3)]).refused].map(([lease, reason]) => [
    lease.slice('/p/subnets/10.5.'.length, -3),
    reason,
  ])

test('hosts without keys are none, and those with keys have their address as source and end point', () => {
  const { hosts, refused } = tunnelHosts([[peer(7), peer(8, announcement(8))]], [])
  expect(refused.size).toBe(0)
  expect(hosts).toEqual([
    {
      leases: [peer(8).key],
      announced: announcement(8),
      addresses: new Map([['IPv4', ip('192.168.77.8')]]),
      endpoint: ip('192.168.77.8'),
      isBehindNat: false,
    },
  ])
})

test('a host of both families is one, with an address of each', () => {
  const six = peer(8, announcement(8), { publicIp: ip6('fd77::8'), subnet: net6('fd00:5:0:8::/64') })
  const { hosts, refused } = tunnelHosts([[peer(8, announcement(8))], [six]], [])
  expect(refused.size).toBe(0)
  expect(hosts).toHaveLength(1)
  expect([...(hosts[0]?.addresses ?? [])]).toEqual([
    ['IPv4', ip('192.168.77.8')],
    ['IPv6', ip6('fd77::8')],
  ])
})

test('two leases of one host are one; its former lease does not take its tunnel away', () => {
  const stale = { ...peer(9, announcement(8)), publicIp: ip('192.168.77.8') }
  const { hosts, refused } = tunnelHosts([[stale, peer(8, announcement(8))]], [])
  expect(refused.size).toBe(0)
  expect(hosts.map(({ leases }) => leases)).toEqual([[stale.key, peer(8).key]])
})

test.each([
  ['a key of this host', [peer(4, announcement(4, { keys: [key(9), key(3)] }))], [['4.0', 'own-key']]],
  [
    'the key of an older lease',
    [peer(4, announcement(4)), peer(5, announcement(5, { keys: [key(50), key(9)] }))],
    [['5.0', 'key-twin']],
  ],
  [
    'the source of an older lease',
    [peer(4, announcement(4)), peer(5, announcement(5, { source: ip('192.168.77.4') }))],
    [['5.0', 'address-twin']],
  ],
  ['a source that is no host', [peer(4, announcement(4, { source: ip('224.0.0.1') }))], [['4.0', 'source']]],
  ['a source of another family', [peer(4, announcement(4, { source: ip6('fd77::4') }))], [['4.0', 'source']]],
])('%s is refused', (_, peers, expected) => {
  expect(refusals(...peers)).toEqual(expected)
})

test('families that announce different keys are refused as a whole', () => {
  const six = peer(8, announcement(9), { publicIp: ip6('fd77::8'), subnet: net6('fd00:5:0:8::/64') })
  const { hosts, refused } = tunnelHosts([[peer(8, announcement(8))], [six]], [])
  expect(hosts).toEqual([])
  expect([...refused.values()]).toEqual(['differs'])
})
