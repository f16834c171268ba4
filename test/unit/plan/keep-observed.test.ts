import type { KernelObjects, Route } from '../../../src/model/kernel'
import { routeKey } from '../../../src/model/kernel'
import { applyOperation, diffObjects } from '../../../src/plan/diff'
import { keepObserved } from '../../../src/plan/keep-observed'
import { hw, ip, net, remember } from './support'

/** What one peer has, with a gateway route. */
function peer(subnet: string, mac: string, at: string): KernelObjects {
  const destination = net(subnet)
  const route: Route = {
    destination,
    metric: 0,
    tos: 0,
    protocol: 79,
    target: { kind: 'gateway', gateway: destination.address, onlink: true },
  }
  return {
    neighbours: new Map([[destination.address, hw(mac)]]),
    fdb: new Map([[hw(mac), [ip(at)]]]),
    nexthops: new Map(),
    routes: new Map([[routeKey(destination), [route]]]),
  }
}

const join = (...all: readonly KernelObjects[]): KernelObjects => ({
  neighbours: new Map(all.flatMap(({ neighbours }) => [...neighbours])),
  fdb: new Map(all.flatMap(({ fdb }) => [...fdb])),
  nexthops: new Map(all.flatMap(({ nexthops }) => [...nexthops])),
  routes: new Map(all.flatMap(({ routes }) => [...routes])),
})

const known = peer('10.5.1.0/24', '02:00:00:00:00:01', '192.0.2.1')
const moved = peer('10.5.1.0/24', '02:00:00:00:00:01', '192.0.2.9')
const newer = peer('10.5.2.0/24', '02:00:00:00:00:02', '192.0.2.2')

test('a peer that the kernel has and the state file has not is kept', () => {
  expect(diffObjects(keepObserved(known, join(known, newer)), join(known, newer))).toEqual([])
})

test('a peer that the kernel has otherwise is kept as it is there', () => {
  expect(diffObjects(keepObserved(known, moved), moved)).toEqual([])
})

test('a peer that the kernel has not is added, and nothing else is done', () => {
  const operations = diffObjects(keepObserved(join(known, newer), moved), moved)
  expect(operations.map(({ kind }) => kind)).toEqual(['set-neighbour', 'set-fdb', 'set-route'])
  const memory = remember(moved)
  for (const operation of operations) applyOperation(memory, operation)
  expect(memory).toEqual(join(moved, newer))
})
