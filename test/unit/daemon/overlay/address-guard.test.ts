import { AddressGuard } from '../../../../src/daemon/overlay/address-guard'
import type { Logger } from '../../../../src/daemon/tell/logger'
import type { PeerChange } from '../../../../src/plan/peers/claim'
import { PeerTable } from '../../../../src/plan/peers/peer-table'
import { hw, ip, ipv4Range, lease, net } from '../../plan/support'

const KEY = '/coreos.com/network/subnets/10.5.9.0-24'

/** A guard of a table with the peer 10.5.9.0/24, with what it logs, and what it tells its listener. */
function guarded() {
  const own = {
    key: 'own',
    subnet: net('10.5.1.0/24'),
    publicIp: ip('192.168.77.11'),
    mac: hw('02:00:00:00:00:01'),
  }
  const peers = new PeerTable({ range: ipv4Range(), vni: 1 }, own)
  peers.put(lease('10.5.9.0/24', { key: KEY }))
  const lines: [string, unknown][] = []
  const log = { warn: (text: string, fields: unknown) => lines.push([text, fields]) } as unknown as Logger
  const gateway = { address: ip('10.5.8.1'), what: 'the gateway of the default route' }
  const guard = new AddressGuard(peers, [gateway], log)
  const told: PeerChange[] = []
  guard.onPeersChange((changes) => told.push(...changes))
  return { guard, peers, lines, told }
}

test('a peer that covers an address of this host is rejected, and follows again when the address is gone', () => {
  const { guard, peers, lines, told } = guarded()
  const peer = peers.peer(KEY)
  const gone = { before: peer, after: undefined }
  expect(guard.protect([net('10.5.9.7/24')])).toEqual([gone])
  expect([peers.size, told]).toEqual([0, [gone]])
  const reason = 'subnet 10.5.9.0/24 covers 10.5.9.7, an address of this host'
  const fields = { kind: 'peer-rejected', about: ['10.5.9.0/24'] }
  expect(lines).toEqual([[`peer rejected: ${KEY}: ${reason}`, fields]])
  const back = { before: undefined, after: peer }
  expect(guard.protect([net('192.168.77.11/24')])).toEqual([back])
  expect([peers.size, told, lines.length]).toEqual([1, [gone, back], 1])
})

test('the same addresses again change nothing', () => {
  const { guard, lines, told } = guarded()
  guard.protect([net('10.5.9.7/24')])
  expect(guard.protect([net('10.5.9.7/24')])).toEqual([])
  expect([told.length, lines.length]).toEqual([1, 1])
})

test('the addresses that this host needs are protected besides its own', () => {
  const { guard, peers } = guarded()
  guard.protect([])
  peers.put(lease('10.5.8.0/24', { publicIp: '192.168.77.13', mac: '02:00:00:00:00:03' }))
  expect([...peers.rejected()].map(({ reason }) => reason)).toEqual([
    'subnet 10.5.8.0/24 covers 10.5.8.1, the gateway of the default route',
  ])
})
