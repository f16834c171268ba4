import { Contests } from '../../../src/daemon/contests'

const ROUTE = 'the route to 10.5.2.0/24'
/** Backoff without chance: the longest. */
const contests = () => new Contests(() => 1)

/** Repairs every so many milliseconds, as far as it may; answers when each was. */
function fight(over: Contests, from: number, until: number, every: number): number[] {
  const repairs: number[] = []
  for (let now = from; now < until; now += every) {
    over.begin()
    if (over.holds(ROUTE, now)) continue
    over.note([ROUTE], now)
    repairs.push(now)
  }
  return repairs
}

test('a few repairs are at once', () => {
  const some = contests()
  expect(fight(some, 0, 1900, 100)).toHaveLength(19)
  expect(some.contests()).toEqual([])
})

test('repairs far apart are never held back', () => {
  const some = contests()
  expect(fight(some, 0, 1_000_000, 10_000)).toHaveLength(100)
  expect(some.contests()).toEqual([])
})

test('a fight is told once, and has ever fewer rounds', () => {
  const some = contests()
  const news = Array.from({ length: 21 }, (_, i) => some.note([ROUTE], i * 100))
  expect(news.flatMap((each, i) => each.map(() => i))).toEqual([19])
  expect(news[19]).toMatchObject([{ what: ROUTE, since: 0 }])
  const long = contests()
  const repairs = fight(long, 0, 60_000, 100)
  const gaps = repairs.slice(1).map((at, i) => at - (repairs[i] ?? 0))
  expect(gaps.slice(0, 19)).toEqual(Array(19).fill(100))
  expect(gaps.slice(19)).toEqual([1000, 2000, 4000, 8000, 10_000, 10_000, 10_000, 10_000])
  expect(long.contests()).toMatchObject([{ what: ROUTE, times: repairs.length, since: 0 }])
})

test('what waits is due when its hold ends, and another object is not held', () => {
  const some = contests()
  fight(some, 0, 2000, 100)
  expect([some.waiting, some.nextDue]).toEqual([0, Number.POSITIVE_INFINITY])
  some.begin()
  expect([some.holds(ROUTE, 2000), some.holds('the neighbour 10.5.2.0', 2000)]).toEqual([true, false])
  expect([some.waiting, some.nextDue]).toEqual([1, 2900])
  expect(some.waitingFor(ROUTE)).toMatchObject({ times: 20 })
  // The other program puts it right itself.
  some.begin()
  expect([some.waiting, some.nextDue, some.waitingFor(ROUTE)]).toEqual([
    0,
    Number.POSITIVE_INFINITY,
    undefined,
  ])
})

test('it is over after half a minute without a repair, and begins anew then', () => {
  const some = contests()
  fight(some, 0, 2000, 100)
  expect([some.nextSettle, some.settle(31_900)]).toEqual([31_900, []])
  expect(some.settle(31_901)).toMatchObject([{ what: ROUTE, times: 20 }])
  expect(some.contests()).toEqual([])
  expect(fight(some, 40_000, 41_900, 100)).toHaveLength(19)
})

test('it is not over while the object is wrong and waits', () => {
  const some = contests()
  fight(some, 0, 2000, 100)
  some.begin()
  some.holds(ROUTE, 2500)
  expect(some.settle(100_000)).toEqual([])
})

test('two changes of one object in one pass are one repair', () => {
  const some = contests()
  for (let i = 0; i < 19; i++) some.note([ROUTE, ROUTE], i)
  expect(some.contests()).toEqual([])
})
