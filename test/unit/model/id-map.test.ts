import fc from 'fast-check'
import { type Id, IdMap } from '../../../src/model/id-map'

const someId: fc.Arbitrary<Id> = fc.record({
  kind: fc.constantFrom('route', 'neighbour'),
  key: fc.constantFrom<Id['key']>(1, 2, 1n, 2n, '1'),
})

test('is a map by kind and key', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(someId, fc.option(fc.integer(), { nil: undefined }))), (steps) => {
      const map = new IdMap<Id, number>()
      const model = new Map<string, number>()
      for (const [id, value] of steps) {
        const text = `${id.kind} ${typeof id.key} ${id.key}`
        if (value === undefined) {
          map.delete({ ...id })
          model.delete(text)
        } else {
          map.set({ ...id }, value)
          model.set(text, value)
        }
        expect([map.get({ ...id }), map.size]).toEqual([model.get(text), model.size])
      }
      expect([...map.values()].sort()).toEqual([...model.values()].sort())
    }),
  )
})
