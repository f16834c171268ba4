import { operationName } from '../../../../src/model/kernel/objects'
import { routeKey } from '../../../../src/model/kernel/route'
import type { Peer } from '../../../../src/model/lease'
import { compareSlice, passSlices, wantedObjects } from '../../../../src/plan/reconcile/compare-slice'
import { hostObjects } from '../../../../src/plan/reconcile/desired'
import { applyOperation } from '../../../../src/plan/reconcile/diff'
import { addPeer, emptyScope } from '../../../../src/plan/reconcile/scope'
import { hw, ip, net, remember } from '../support'

const subnet = net('10.5.1.0/24')
const routing = { style: 'nexthop', directLink: () => undefined } as const
const wanted = { subnet, blackhole: true, routing }

const peer = (n: number): Peer => ({
  key: `peer${n}`,
  subnet: net(`10.5.${n}.0/24`),
  publicIp: ip(`192.168.77.${n}`),
  mac: hw(`02:00:00:00:00:0${n}`),
})
const lookup = (peers: readonly Peer[]) => ({
  peerAt: (address: Peer['subnet']['address']) => peers.find((each) => each.subnet.address === address),
  peerWithMac: (mac: Peer['mac']) => peers.find((each) => each.mac === mac),
})
const nothing = hostObjects([], routing, undefined)

/** Compares all slices of a pass, and applies the operations. @returns their names, slice by slice */
function pass(peers: readonly Peer[], observed = nothing, how: object = {}): string[][] {
  const memory = remember(observed)
  const parts = { subnet, table: lookup(peers), failed: emptyScope }
  const operations = []
  for (const slice of passSlices(peers, memory, parts)) {
    const changes = compareSlice(slice, memory, { ...wanted, ...how })
    for (const change of changes) applyOperation(memory, change)
    if (changes.length > 0) operations.push(changes.map(operationName))
  }
  return operations
}

test('a pass compares the host’s own object, those of peers, and in the end those of nobody', () => {
  expect(pass([peer(2)])).toEqual([['set-route'], ['set-neighbour', 'set-fdb', 'set-nexthop', 'set-route']])
  const state = hostObjects([peer(2), peer(3)], routing, { subnet, blackhole: true })
  expect(pass([peer(2)], state)).toEqual([
    ['delete-route'],
    ['delete-nexthop'],
    ['delete-fdb'],
    ['delete-neighbour'],
  ])
  expect(pass([peer(2), peer(3)], state)).toEqual([])
})

test('objects that failed are compared after those of peers, also when they are nobody’s', () => {
  const failed = emptyScope()
  addPeer(failed, peer(3))
  const parts = { subnet, table: lookup([peer(2)]), failed: () => failed }
  const scopes = Array.from(passSlices([peer(2)], nothing, parts), ({ scope }) => [...scope.neighbour])
  expect(scopes).toEqual([[], [ip('10.5.2.0')], [ip('10.5.3.0')]])
})

test('the blackhole is wanted in the scope of the own subnet only, and goes when it is not wanted', () => {
  const scope = emptyScope()
  addPeer(scope, peer(2))
  expect(compareSlice({ peers: [], scope }, nothing, wanted)).toEqual([])
  const state = hostObjects([], routing, { subnet, blackhole: true })
  expect(pass([], state, { blackhole: false })).toEqual([['delete-route']])
})

test('with peers of a state file nothing is removed or replaced', () => {
  const moved = hostObjects([{ ...peer(2), publicIp: ip('192.168.77.99') }, peer(3)], routing, undefined)
  expect(pass([peer(2), peer(4)], moved, { unconfirmed: true })).toEqual([
    ['set-route'],
    ['set-neighbour', 'set-fdb', 'set-nexthop', 'set-route'],
  ])
})

test('all wanted objects are in the order of the subnets, and include what is only kept', () => {
  const keys = (unconfirmed: boolean) => {
    const observed = hostObjects([peer(9)], routing, undefined)
    return [...wantedObjects([peer(3), peer(2)], observed, { ...wanted, unconfirmed }).route.keys()]
  }
  const key = (n: number) => routeKey(net(`10.5.${n}.0/24`))
  expect(keys(false)).toEqual([key(2), key(3), key(1)])
  expect(keys(true)).toEqual([key(2), key(3), key(1), key(9)])
})
