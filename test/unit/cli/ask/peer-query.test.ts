import fc from 'fast-check'
import { PEER_SORTS } from '../../../../src/api/peer-order'
import type { PeerStatus } from '../../../../src/api/status'
import { PEER_STATES } from '../../../../src/api/words'
import { queryPeers, readPeerQuery } from '../../../../src/cli/ask/peer-query'
import { STATUS } from '../fixtures'

const subnets = (flags: Parameters<typeof readPeerQuery>[0], peers = STATUS.peers) =>
  queryPeers(peers, readPeerQuery(flags)).map(({ subnet }) => subnet)

test('the worst peers come first, equal ones in numerical order of their subnets', () => {
  expect(subnets({})).toEqual(['10.5.14.0/24', '10.6.0.0-24', '10.5.9.0/24', '10.5.13.0/24'])
})

test.each([
  [{ sort: 'subnet' as const }, ['10.5.9.0/24', '10.5.13.0/24', '10.5.14.0/24', '10.6.0.0-24']],
  [{ sort: 'public-ip' as const }, ['10.5.9.0/24', '10.5.13.0/24', '10.5.14.0/24', '10.6.0.0-24']],
  [{ state: 'ok' }, ['10.5.9.0/24', '10.5.13.0/24']],
  [{ state: ' rejected, failing' }, ['10.5.14.0/24', '10.6.0.0-24']],
  [{ match: '192.168.77.1' }, ['10.5.14.0/24', '10.5.13.0/24']],
  // The address is in no text of the peer, but in its subnet.
  [{ match: '10.5.13.77' }, ['10.5.13.0/24']],
  [{ match: 'OUTSIDE the network' }, ['10.6.0.0-24']],
  [{ match: '02:00:00:00:00:09', state: 'rejected' }, []],
])('%j', (flags, expected) => {
  expect(subnets(flags)).toEqual(expected)
})

test('a container is found by its IPv6 address too, and IPv4 subnets come first', () => {
  const six: PeerStatus = { subnet: 'fd00:5:0:9::/64', publicIp: 'fd77::9', mac: '-', state: 'ok' }
  const peers = [six, ...STATUS.peers]
  expect(subnets({ match: 'fd00:5:0:9::2' }, peers)).toEqual([six.subnet])
  expect(subnets({ sort: 'subnet' }, peers).slice(-2)).toEqual([six.subnet, '10.6.0.0-24'])
})

test('the hosts that announce the address are found by it, and no half of them in the other family', () => {
  const six: PeerStatus = { subnet: 'fd00:5:0:9::/64', publicIp: 'fd77::9', mac: '-', state: 'ok' }
  const behind = {
    prefix: '10.5.240.0/28',
    hosts: [
      { host: '10.5.13.0-24', own: false },
      { host: '10.5.9.0-24&fd00:5:0:9::-64', own: false },
      { host: '10.5.99.0-24', own: true },
    ],
  }
  const found = queryPeers([six, ...STATUS.peers], readPeerQuery({ match: '10.5.240.7' }), { behind })
  expect(found.map(({ subnet }) => subnet)).toEqual(['10.5.9.0/24', '10.5.13.0/24'])
})

test('an unknown state is refused by name', () => {
  expect(() => readPeerQuery({ state: 'ok,okay' })).toThrow('"okay"')
})

test('the order of the result does not depend on the order of the peers, for any sort', () => {
  const peer = fc.record({
    subnet: fc.oneof(
      fc.ipV4().map((ip) => `${ip}/24`),
      fc.ipV6().map((ip) => `${ip}/64`),
      fc.string(),
    ),
    publicIp: fc.oneof(fc.ipV4(), fc.constant('-')),
    mac: fc.constant('02:00:00:00:00:01'),
    state: fc.constantFrom(...PEER_STATES),
  })
  fc.assert(
    fc.property(
      fc.uniqueArray(peer, { selector: ({ subnet }) => subnet }),
      fc.constantFrom(...PEER_SORTS),
      (peers, sort) => {
        const query = readPeerQuery({ sort })
        const sorted = queryPeers(peers, query)
        expect(new Set(sorted)).toEqual(new Set(peers))
        expect(queryPeers([...peers].reverse(), query)).toEqual(sorted)
      },
    ),
  )
})
