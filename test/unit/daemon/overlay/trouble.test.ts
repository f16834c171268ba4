import { troubledPeers } from '../../../../src/daemon/overlay/trouble'
import type { ObjectOperation } from '../../../../src/model/kernel/objects'
import { routeKey } from '../../../../src/model/kernel/route'
import type { Peer, Revision } from '../../../../src/model/lease'
import { PeerTable } from '../../../../src/plan/peers/peer-table'
import { Contests } from '../../../../src/plan/reconcile/contests'
import { Progress } from '../../../../src/plan/reconcile/progress'
import { Retries } from '../../../../src/plan/reconcile/retries'
import { set, to } from '../../../support/operations'
import { hw, ip, ipv4Range, lease, net } from '../../plan/support'

const own = {
  key: 'own',
  subnet: net('10.5.1.0/24'),
  publicIp: ip('192.168.77.11'),
  mac: hw('02:00:00:00:00:01'),
}

/** Three peers, all of which are in the kernel at revision 1. */
function settled() {
  const peers = new PeerTable({ range: ipv4Range(), vni: 1 }, own)
  peers.reset(
    [2, 3, 4].map((n) =>
      lease(`10.5.${n}.0/24`, { publicIp: `192.168.77.1${n}`, mac: `02:00:00:00:00:0${n}` }),
    ),
    [],
  )
  const [retries, contests, progress] = [new Retries(), new Contests(() => 1), new Progress()]
  progress.changed([], 1n as Revision, 0)
  progress.begin()
  progress.settled(0)
  const troubles = () =>
    [...troubledPeers(peers, { retries, contests, progress }, 2000)].map(
      ([{ subnet }, { state, reason }]) => [subnet.address, state, reason],
    )
  const at = (n: number): Peer => peers.peerAt(ip(`10.5.${n}.0`)) as Peer
  return { peers, retries, contests, progress, troubles, at }
}
const refuse = (retries: Retries, operation: ObjectOperation) =>
  retries.settle(
    [operation],
    [{ operation, error: new Error('refused'), cause: 'refused', errno: 'EINVAL' }],
    0,
    () => 1,
  )

test('without trouble there is none', () => {
  expect(settled().troubles()).toEqual([])
})

test('before a pass has succeeded all peers are pending', () => {
  const { peers, retries, contests } = settled()
  const parts = { retries, contests, progress: new Progress() }
  expect([...troubledPeers(peers, parts, 0).values()]).toEqual(Array(3).fill({ state: 'pending' }))
})

test('a peer is failing whose object is refused, whichever it is; an object of nobody is no peer’s', () => {
  const { retries, troubles, at } = settled()
  refuse(retries, set('fdb', at(2).mac, to(at(2).publicIp)))
  refuse(retries, set('nexthop', ip('10.5.3.0'), ip('10.5.3.0')))
  refuse(retries, set('neighbour', ip('10.5.99.0'), at(2).mac))
  expect(troubles()).toEqual([
    [ip('10.5.2.0'), 'failing', 'refused'],
    [ip('10.5.3.0'), 'failing', 'refused'],
  ])
})

test('a peer is failing while an object of it is contested and wrong', () => {
  const { contests, troubles } = settled()
  const route = { kind: 'route', key: routeKey(net('10.5.2.0/24')) } as const
  for (let round = 0; round < 20; round += 1)
    contests.note([route, { kind: 'device', key: 'x' }], round * 100)
  expect(troubles()).toEqual([])
  contests.admit(route, 2000)
  contests.admit({ kind: 'device', key: 'x' }, 2000)
  expect(troubles()).toEqual([
    [ip('10.5.2.0'), 'failing', expect.stringMatching(/changes the route to 10.5.2.0/)],
  ])
})

test('a peer that changed is pending, and one that fails besides is failing', () => {
  const { retries, progress, troubles, at } = settled()
  progress.touch(at(3))
  progress.begin()
  progress.touch(at(4))
  refuse(retries, set('fdb', at(4).mac, to(at(4).publicIp)))
  expect(troubles()).toEqual([
    [ip('10.5.4.0'), 'failing', 'refused'],
    [ip('10.5.3.0'), 'pending', undefined],
  ])
})
