import { withoutProbing } from '../../../../src/cli/ask/local-objects'
import type { ComparedObject } from '../../../../src/plan/reconcile/compare'

const route = (object: string, state: ComparedObject['state']): ComparedObject => ({
  kind: 'route',
  object,
  state,
})

test('a route that differs is unknown where its prefix is shared, and wrong where it is not', () => {
  const objects = [
    route('198.51.100.0/24 via 10.5.6.0 or via 10.5.56.0 proto 79', 'wrong'),
    route('198.51.100.0/25 via 10.5.6.0 proto 79', 'wrong'),
    route('192.0.2.0/24 via 10.5.6.0 or via 10.5.56.0 proto 79', 'in-sync'),
    route('203.0.113.0/24 via 10.5.6.0 or via 10.5.56.0 proto 79', 'missing'),
  ]
  const found = withoutProbing(objects, ['198.51.100.0/24', '192.0.2.0/24', '203.0.113.0/24'])
  expect(found.objects.map(({ state }) => state)).toEqual(['unknown', 'wrong', 'in-sync', 'missing'])
  expect(found.unprobed).toEqual(['198.51.100.0/24'])
})
