/** What open pages are told: enough to have the next document, and no more. */
import fc from 'fast-check'
import { type Change, changeBetween } from '../../../../src/cli/ui/change'
import { makePage, type PageDocument, type Row } from '../../../../src/cli/ui/document'
import { peer, statusWith } from './support'

const AT = new Date('2026-11-29T08:00:00.000Z')

/** A host: its number, how it is, and seconds since its last answer. */
const host = fc.record({
  number: fc.integer({ min: 0, max: 12 }),
  reach: fc.constantFrom('answering', 'suspect', 'unreachable', 'unknown'),
  ago: fc.option(fc.integer({ min: 0, max: 9 }), { nil: undefined }),
  rttMs: fc.option(fc.constantFrom(0.5, 1.5), { nil: undefined }),
})
const pages = fc.array(host, { maxLength: 8 }).map((hosts) =>
  makePage(
    statusWith(
      hosts.map(({ number, reach, ago, rttMs }) =>
        peer(number, {
          probe: {
            reach,
            ...(ago !== undefined && { answeredSecondsAgo: ago }),
            ...(rttMs !== undefined && { rttMs }),
          },
        }),
      ),
    ),
    AT,
    'host1',
  ),
)

/** As the page does it. */
function applied({ rows }: PageDocument, { rows: told, gone }: Change): Map<string, Row> {
  const known = new Map(rows.map((row) => [row.id, row]))
  for (const id of gone) known.delete(id)
  for (const row of told) known.set(row.id, row)
  return known
}

test('a page that is told each change has the last document, but for two seconds of a last answer', () => {
  fc.assert(
    fc.property(fc.array(pages, { minLength: 2, maxLength: 6 }), (documents) => {
      let [shown] = documents as [PageDocument]
      for (const next of documents.slice(1)) {
        const known = shown
        const { change, shown: after } = changeBetween(known, next)
        const has = applied(known, change)
        expect([...has.values()].sort(byId)).toEqual([...after.rows].sort(byId))
        expect([...has.keys()].sort()).toEqual(next.rows.map(({ id }) => id).sort())
        for (const row of next.rows) {
          const kept = has.get(row.id)
          expect({ ...kept, cells: [], answeredAt: 0 }).toEqual({ ...row, cells: [], answeredAt: 0 })
          expect(Math.abs((kept?.answeredAt ?? 0) - (row.answeredAt ?? 0))).toBeLessThanOrEqual(2)
        }
        shown = after
      }
    }),
  )
})

const byId = (a: Row, b: Row): number => (a.id < b.id ? -1 : 1)

/** A document read some seconds later. */
const later = (seconds: number, ago: number): PageDocument =>
  makePage(
    statusWith([peer(1, { probe: { reach: 'answering', rttMs: 0.3, answeredSecondsAgo: ago } })]),
    new Date(AT.getTime() + seconds * 1000),
    'host1',
  )

test('the passing of time is no change of a row', () => {
  expect(changeBetween(later(0, 1), later(60, 61)).change).toMatchObject({ rows: [], gone: [] })
  expect(changeBetween(later(0, 1), later(60.4, 61)).change.rows).toEqual([])
})

test('a host that answers each second is told of, although each step is small', () => {
  let shown = later(0, 0)
  const told = [1, 2, 3, 4, 5, 6].map((second) => {
    const result = changeBetween(shown, later(second, 0))
    shown = result.shown
    return result.change.rows.length
  })
  expect(told).toEqual([0, 0, 1, 0, 0, 1])
})
