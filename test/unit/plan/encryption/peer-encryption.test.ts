/** How packets to a peer leave this host, by what is known of its keys and handshakes. */
import type { Peer } from '../../../../src/model/lease'
import type { Way } from '../../../../src/model/way'
import { peerEncryption, type Tunnels } from '../../../../src/plan/encryption/peer-encryption'
import { tunnelHosts } from '../../../../src/plan/encryption/tunnel-hosts'
import { NO_MEMORIES, planTunnels } from '../../../../src/plan/encryption/tunnels'
import { announcement, Device, key, peer } from './support'

const CLEAR: Way = { kind: 'clear' }
const NONE: Way = { kind: 'none' }
const tunnelTo = ({ publicIp }: Peer): Way => ({ kind: 'tunnel', link: 9, destination: publicIp })

/** What a host knows after passes at these milliseconds, while nobody answers. */
function tunnels(peers: readonly Peer[], times: readonly number[]): Tunnels {
  const { hosts, refused } = tunnelHosts([peers], [key(0), key(1)])
  const device = new Device(9)
  let memories = NO_MEMORIES
  for (const now of times) {
    const devices = [device.observed(), undefined] as const
    const step = planTunnels({ hosts, turn: 0, isBehindNat: false, takesClear: true, devices, memories, now })
    device.apply(step.operations[0])
    memories = step.memories
  }
  const known = new Map(hosts.flatMap((host) => host.leases.map((lease) => [lease, host] as const)))
  return { turn: 0, hosts: known, refused, memories }
}

const other = peer(2, announcement(1))

test('a peer without keys', () => {
  const flannel = peer(3)
  const known = tunnels([flannel], [0])
  expect(peerEncryption(flannel, CLEAR, known)).toEqual({ word: 'clear', obstacle: { kind: 'no-key' } })
  expect(peerEncryption(flannel, NONE, known)).toEqual({ word: 'none', obstacle: { kind: 'no-key' } })
})

test('a peer whose keys are not used', () => {
  const twin = peer(3, announcement(1))
  const known = tunnels([other, twin], [0])
  expect(peerEncryption(twin, NONE, known)).toEqual({
    word: 'none',
    obstacle: { kind: 'refused', refusal: 'key-twin' },
  })
})

test('a peer that is being tried, and one that was tried in vain', () => {
  const at = (times: number[]) => peerEncryption(other, CLEAR, tunnels([other], times)).obstacle
  expect(at([0])).toEqual({ kind: 'no-handshake', tries: 0, port: 51_820 })
  expect(at([0, 14_000])).toEqual({ kind: 'no-handshake', tries: 0, port: 51_820 })
  expect(at([0, 15_000])).toEqual({ kind: 'no-handshake', tries: 1, port: 51_820 })
})

test('the port is that of the slot in use', () => {
  const moved = peer(2, announcement(1, { turn: 3 }))
  expect(peerEncryption(moved, CLEAR, tunnels([moved], [])).obstacle).toMatchObject({ port: 51_821 })
})

test('an encrypted peer has no obstacle until it falls silent', () => {
  const way = tunnelTo(other)
  expect(peerEncryption(other, way, tunnels([other], [0]))).toEqual({
    word: 'encrypted',
    obstacle: undefined,
  })
  expect(peerEncryption(other, way, tunnels([other], [0, 15_000])).obstacle).toMatchObject({ tries: 1 })
})
