/** Which prefixes are routed where, without a daemon. */
import { placePrefixes } from '../../../../src/cli/ask/known-prefixes'
import { formatPrefix } from '../../../../src/model/address'
import type { EtcdLeaseId, Peer, Revision } from '../../../../src/model/lease'
import { type PrefixClaim, parseVia, prefixName } from '../../../../src/model/prefixes'
import { DEVICE_LINK, KERNEL, link } from '../../judge/support'
import { hw, ip, lease, net } from '../../plan/support'

const claim = (host: string, text: string, fields: object = {}): PrefixClaim => ({
  name: `${host}/${prefixName(net(text))}`,
  host,
  announcement: { prefix: net(text), priority: 100, until: undefined, via: undefined, ...fields },
  claimedAt: 1n as Revision,
  etcdLease: '1' as EtcdLeaseId,
  modRevision: 1n as Revision,
})
const peer: Peer = {
  key: '10.5.42.0/24',
  subnet: net('10.5.42.0/24'),
  publicIp: ip('192.0.2.12'),
  mac: hw('02:00:00:00:00:42'),
}
const OWN = '10.5.7.0-24'
const OTHER = '10.5.42.0-24'

const THIRD = '10.5.50.0-24'
const third: Peer = { ...peer, key: '10.5.50.0/24', subnet: net('10.5.50.0/24'), publicIp: ip('192.0.2.13') }

const placed = (...claims: readonly PrefixClaim[]) =>
  placePrefixes(
    {
      allowed: [net('10.5.240.0/20'), net('192.0.2.0/24')],
      claims,
      leases: [lease('10.5.7.0/24'), lease('10.5.42.0/24'), lease('10.5.50.0/24')],
      surroundings: [{ address: ip('10.5.241.1'), what: 'the address of etcd' }],
    },
    {
      family: 'IPv4',
      subnet: net('10.5.7.0/24'),
      link: DEVICE_LINK,
      peers: [peer, third],
      network: { ...KERNEL, links: [...KERNEL.links, link(9, 'br-moving', { kind: 'bridge' })] },
    },
  )

const place = (...claims: readonly PrefixClaim[]) => {
  const { prefixesOf, local } = placed(...claims)
  const routes = [...local.route.values()].map(({ destination }) => formatPrefix(destination))
  return { others: prefixesOf(peer).map(formatPrefix), own: routes }
}

test('winners are routed to their peers, and those of this host to where it says', () => {
  const via = parseVia('br-moving')
  expect(
    place(
      claim(OTHER, '10.5.240.7/32'),
      claim(OWN, '10.5.240.8/32', { via }),
      // Each of the two has a claim of lower priority.
      claim(OWN, '10.5.240.7/32', { via, priority: 99 }),
      claim(OTHER, '10.5.240.8/32', { priority: 99 }),
    ),
  ).toEqual({ others: ['10.5.240.7/32'], own: ['10.5.240.8/32'] })
})

test('further subnets of this host are told, and prefixes that peers share', () => {
  const found = placed(
    claim(OWN, '10.5.243.0/26', { further: true }),
    claim(OTHER, '10.5.244.0/26', { further: true }),
    claim(OTHER, '10.5.240.7/32', { share: 1 }),
    claim(THIRD, '10.5.240.7/32', { share: 2 }),
    claim(OTHER, '10.5.240.8/32', { share: 1 }),
    // What this host shares, it sends to no other host.
    claim(OWN, '10.5.240.9/32', { share: 1 }),
    claim(OTHER, '10.5.240.9/32', { share: 1 }),
  )
  expect(found.further.map(formatPrefix)).toEqual(['10.5.243.0/26'])
  expect(found.shared.map(formatPrefix)).toEqual(['10.5.240.7/32'])
})

test('what the daemon refuses is not expected', () => {
  expect(
    place(
      claim('10.5.43.0-24', '10.5.240.7/32'),
      claim(OTHER, '10.6.0.7/32'),
      claim(OTHER, '10.5.241.0/24'),
      claim(OTHER, '192.0.2.13/32'),
      claim(OTHER, '10.5.240.9/32', { until: 1 }),
    ),
  ).toEqual({ others: [], own: [] })
})
