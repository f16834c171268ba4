import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { KernelChange } from '../../../src/kernel/kernel'
import type { ObjectOperation } from '../../../src/model/kernel/objects'
import { patient } from '../../lab/patience'
import { remove, removeRoute, set, setRoute, to } from '../../support/operations'
import {
  address,
  collectChanges,
  deviceForEachTest,
  openKernel,
  PARENT,
  peerOperations,
  routeOf,
  run,
  testPeer,
} from './network'

jest.setTimeout(patient(60_000))

const site = deviceForEachTest()

/**
 * The peers are of IPv4. The kernel makes routes of IPv6 for a new link by itself, a second later at worst.
 */
const ofPeers = (change: KernelChange) =>
  change.kind !== 'link' && change.kind !== 'address' && !('family' in change && change.family === 'IPv6')

/** Makes a change and waits for its notification. All earlier notifications have come by then. */
async function fence({ until }: ReturnType<typeof collectChanges>): Promise<void> {
  run('ip address add 192.0.2.200/32 dev lo')
  await until((change) => change.kind === 'address' && !change.deleted)
  run('ip address delete 192.0.2.200/32 dev lo')
  await until((change) => change.kind === 'address' && change.deleted)
}

test('changes of others are told', async () => {
  const changes = collectChanges(site.kernel)
  const told = (kind: KernelChange['kind'], deleted: boolean) =>
    changes.until(
      (change) =>
        change.kind === kind &&
        'linkIndex' in change &&
        change.linkIndex === site.index &&
        change.deleted === deleted,
    )
  run('ip neighbour add 10.16.1.0 lladdr 02:00:00:00:00:05 dev flannel.1')
  await told('neighbour', false)
  run('ip nexthop add id 7 via 10.16.1.0 dev flannel.1 onlink')
  await told('nexthop', false)
  run('ip route add 10.16.1.0/24 nhid 7')
  await told('route', false)
  run('ip route delete 10.16.1.0/24 nhid 7')
  await told('route', true)
  run('ip nexthop delete id 7')
  await told('nexthop', true)
  run('ip neighbour delete 10.16.1.0 dev flannel.1')
  await told('neighbour', true)
  run('ip address add 10.99.0.1/32 dev flannel.1')
  await told('address', false)
  run('ip link set flannel.1 down')
  await told('link', false)
  run('ip link delete flannel.1')
  await told('link', true)
})

test('a lost nexthop is notified, because its routes are not; so is any default route', async () => {
  expect(await site.kernel.apply(site.index, peerOperations(testPeer(1)))).toEqual([])
  const changes = collectChanges(site.kernel)
  run('ip nexthop delete id 10001')
  await changes.until((change) => change.kind === 'nexthop' && change.deleted)
  expect((await site.kernel.observe('IPv4', site.index)).route.size).toBe(0)
  run(`ip route add default dev ${PARENT} metric 77`)
  await changes.until((change) => change.kind === 'route' && change.linkIndex !== site.index)
  run(`ip route delete default dev ${PARENT} metric 77`)
})

test('changes of our own are not, whatever they are', async () => {
  const changes = collectChanges(site.kernel)
  const peers = Array.from({ length: 100 }, (_, n) => testPeer(n))
  const operations = peers.flatMap((peer, n): ObjectOperation[] => [
    ...peerOperations(peer),
    set('fdb', peer.mac, to(testPeer(n + 1).publicIp)),
    set('nexthop', peer.nexthop, testPeer(n + 1).subnet, true),
    setRoute({ ...routeOf(peer, 'gateway') }, true),
    removeRoute(routeOf(peer, 'gateway')),
    remove('nexthop', peer.nexthop, peer.subnet),
    remove('fdb', peer.mac, to(testPeer(n + 1).publicIp)),
    remove('neighbour', peer.subnet, peer.mac),
  ])
  // One at a time, and read before the next: of two quick changes of one entry, the first would differ from
  // what was last asked.
  for (const operation of operations) {
    expect(await site.kernel.apply(site.index, [operation])).toEqual([])
    await new Promise(setImmediate)
  }
  await fence(changes)
  expect(changes.seen.filter(ofPeers)).toEqual([])
})

test('nor are changes on links that are not watched', async () => {
  const changes = collectChanges(site.kernel)
  run(`ip neighbour add 192.0.2.50 lladdr 02:00:00:00:00:05 dev ${PARENT}`)
  run(`ip route add 198.51.100.0/24 dev ${PARENT}`)
  site.kernel.unwatchLink(site.index)
  run('ip neighbour add 10.16.1.0 lladdr 02:00:00:00:00:05 dev flannel.1')
  await fence(changes)
  expect(changes.seen.filter(ofPeers)).toEqual([])
})

test('a forwarding entry of ours that someone takes away is told', async () => {
  const peer = testPeer(1)
  await site.kernel.apply(site.index, [set('fdb', peer.mac, to(peer.publicIp))])
  const changes = collectChanges(site.kernel)
  run('bridge fdb delete 02:01:00:00:00:01 dst 172.16.0.1 dev flannel.1')
  await changes.until((change) => change.kind === 'neighbour' && change.deleted)
})

test('lost notifications are told as an overrun, and do no harm', async () => {
  const small = await openKernel({ eventBuffer: 20_000 })
  try {
    expect(small.eventBuffer).toBeLessThan(100_000)
    small.watchLink(site.index)
    const changes = collectChanges(small)
    const batch = Array.from({ length: 50_000 }, (_, n) => {
      const verb = n % 2 === 0 ? 'replace' : 'delete'
      return `neighbour ${verb} 10.16.1.0 ${verb === 'replace' ? 'lladdr 02:00:00:00:00:05 ' : ''}dev flannel.1`
    })
    const burst = promisify(execFile)('ip', ['-batch', '-'])
    burst.child.stdin?.end(batch.join('\n'))
    await burst
    await changes.until((change) => change.kind === 'overrun')
    // The socket still works.
    changes.seen.splice(0)
    await fence(changes)
    expect((await small.observe('IPv4', site.index)).neighbour.has(address('10.16.1.0'))).toBe(false)
  } finally {
    small.close()
  }
})
