import { routeKey } from '../../../../src/model/kernel/route'
import { Contests } from '../../../../src/plan/reconcile/contests'
import { ip, net } from '../support'

const ROUTE = { kind: 'route', key: routeKey(net('10.5.2.0/24')) } as const
const NEIGHBOUR = { kind: 'neighbour', key: ip('10.5.2.0') } as const
/** Backoff without randomness: the longest delay. */
const contests = () => new Contests(() => 1)

/** Repairs as often as admitted, at most once in the given milliseconds; returns the times of the repairs. */
function fight(over: Contests, from: number, until: number, every: number): number[] {
  const repairs: number[] = []
  for (let now = from; now < until; now += every) {
    over.begin()
    if (!over.admit(ROUTE, now)) continue
    over.note([ROUTE], now)
    repairs.push(now)
  }
  return repairs
}

test('a few repairs are made at once', () => {
  const some = contests()
  expect(fight(some, 0, 1900, 100)).toHaveLength(19)
  expect(some.contests()).toEqual([])
})

test('repairs that are far apart are never delayed', () => {
  const some = contests()
  expect(fight(some, 0, 1_000_000, 10_000)).toHaveLength(100)
  expect(some.contests()).toEqual([])
})

test('a contest is reported once, and its repairs become rarer', () => {
  const some = contests()
  const news = Array.from({ length: 21 }, (_, i) => some.note([ROUTE], i * 100))
  expect(news.flatMap((each, i) => each.map(() => i))).toEqual([19])
  expect(news[19]).toMatchObject([{ subject: ROUTE, since: 0 }])
  const long = contests()
  const repairs = fight(long, 0, 60_000, 100)
  const gaps = repairs.slice(1).map((at, i) => at - (repairs[i] ?? 0))
  expect(gaps.slice(0, 19)).toEqual(Array(19).fill(100))
  expect(gaps.slice(19)).toEqual([1000, 2000, 4000, 8000, 10_000, 10_000, 10_000, 10_000])
  expect(long.contests()).toMatchObject([{ subject: ROUTE, times: repairs.length, since: 0 }])
})

test('a delayed repair is due when its delay ends, and other objects are not delayed', () => {
  const some = contests()
  fight(some, 0, 2000, 100)
  expect([some.waiting(), some.nextDue]).toEqual([[], Number.POSITIVE_INFINITY])
  some.begin()
  expect([some.admit(ROUTE, 2000), some.admit(NEIGHBOUR, 2000)]).toEqual([false, true])
  expect(some.nextDue).toBe(2900)
  expect(some.waiting()).toMatchObject([{ subject: ROUTE, times: 20 }])
  // The other program repairs the object itself.
  some.begin()
  expect([some.waiting(), some.nextDue]).toEqual([[], Number.POSITIVE_INFINITY])
})

test('a contest is over after half a minute without a repair; then counting begins anew', () => {
  const some = contests()
  fight(some, 0, 2000, 100)
  expect([some.nextSettle, some.settle(31_900)]).toEqual([31_900, []])
  expect(some.settle(31_901)).toMatchObject([{ subject: ROUTE, times: 20 }])
  expect(some.contests()).toEqual([])
  expect(fight(some, 40_000, 41_900, 100)).toHaveLength(19)
})

test('a contest is not over while the object is wrong and its repair is delayed', () => {
  const some = contests()
  fight(some, 0, 2000, 100)
  some.begin()
  some.admit(ROUTE, 2500)
  expect(some.settle(100_000)).toEqual([])
})

test('two changes of one object in one pass are one repair', () => {
  const some = contests()
  for (let i = 0; i < 19; i++) some.note([ROUTE, ROUTE], i)
  expect(some.contests()).toEqual([])
})
