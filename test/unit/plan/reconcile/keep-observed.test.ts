import { type KernelObjects, operationName } from '../../../../src/model/kernel/objects'
import type { Route } from '../../../../src/model/kernel/route'
import { routeKey } from '../../../../src/model/kernel/route'
import { applyOperation, diffObjects } from '../../../../src/plan/reconcile/diff'
import { keepObserved } from '../../../../src/plan/reconcile/keep-observed'
import { to } from '../../../support/operations'
import { hw, ip, net, remember } from '../support'

/** The objects of one peer, with a route that names its gateway. */
function peer(subnet: string, mac: string, at: string, via = 0): KernelObjects {
  const destination = net(subnet)
  const route: Route = {
    destination,
    metric: 0,
    tos: 0,
    mtu: 0,
    protocol: 79,
    target: { kind: 'gateway', gateway: destination.address, onlink: true },
  }
  return {
    neighbour: new Map([[destination.address, hw(mac)]]),
    fdb: new Map([[hw(mac), [to(ip(at), via)]]]),
    nexthop: new Map(),
    route: new Map([[routeKey(destination), [route]]]),
    proxy: new Map(),
  }
}

const join = (...all: readonly KernelObjects[]): KernelObjects => ({
  neighbour: new Map(all.flatMap(({ neighbour }) => [...neighbour])),
  fdb: new Map(all.flatMap(({ fdb }) => [...fdb])),
  nexthop: new Map(all.flatMap(({ nexthop }) => [...nexthop])),
  route: new Map(all.flatMap(({ route }) => [...route])),
  proxy: new Map(all.flatMap(({ proxy }) => [...proxy])),
})

const known = peer('10.5.1.0/24', '02:00:00:00:00:01', '192.0.2.1')
const moved = peer('10.5.1.0/24', '02:00:00:00:00:01', '192.0.2.9')
const newer = peer('10.5.2.0/24', '02:00:00:00:00:02', '192.0.2.2')

test('a peer that is in the kernel and not in the state file is kept', () => {
  expect(diffObjects(keepObserved(known, join(known, newer)), join(known, newer))).toEqual([])
})

test('a peer that differs in the kernel is kept as it is there', () => {
  expect(diffObjects(keepObserved(known, moved), moved)).toEqual([])
})

test('a peer that is not in the kernel is added, and nothing else is done', () => {
  const operations = diffObjects(keepObserved(join(known, newer), moved), moved)
  expect(operations.map(operationName)).toEqual(['set-neighbour', 'set-fdb', 'set-route'])
  const memory = remember(moved)
  for (const operation of operations) applyOperation(memory, operation)
  expect(memory).toEqual(join(moved, newer))
})

test.each<[string, from: number, to: number, string[]]>([
  ['another link than in the kernel is replaced, which may be gone', 7, 9, ['set-fdb']],
  ['a link for the first time is replaced', 0, 9, ['set-fdb']],
  ['no link is kept: it may have one only because nothing is known yet', 7, 0, []],
])('an entry to the same address with %s', (_what, from, link, changes) => {
  const there = peer('10.5.1.0/24', '02:00:00:00:00:01', '192.0.2.1', from)
  const wanted = peer('10.5.1.0/24', '02:00:00:00:00:01', '192.0.2.1', link)
  expect(diffObjects(keepObserved(wanted, there), there).map(operationName)).toEqual(changes)
})

test('an entry to another address is kept, whatever its link', () => {
  const tunnelled = peer('10.5.1.0/24', '02:00:00:00:00:01', '192.0.2.1', 7)
  expect(diffObjects(keepObserved(tunnelled, moved), moved)).toEqual([])
})
