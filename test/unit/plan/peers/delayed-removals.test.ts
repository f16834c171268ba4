import fc from 'fast-check'
import { DelayedRemovals } from '../../../../src/plan/peers/delayed-removals'

const GRACE = 60_000
const keys = (count: number, first = 0) => Array.from({ length: count }, (_, index) => `peer${first + index}`)
const departure = (gone: readonly string[], peers: number, doubt?: string) => ({ gone, peers, doubt })

test.each([
  ['one of one', 1, 1],
  ['two of two', 2, 2],
  ['three of six', 3, 6],
  ['half of a large network', 500, 1000],
])('%s are removed at once', (_, gone, peers) => {
  const holdBack = new DelayedRemovals(GRACE)
  expect(holdBack.judge(departure(keys(gone), peers), 0)).toEqual(keys(gone))
  expect([holdBack.size, holdBack.nextDue]).toEqual([0, Number.POSITIVE_INFINITY])
})

test.each([
  ['three of three', 3, 3],
  ['three of five', 3, 5],
  ['all of a large network', 1000, 1000],
])('%s are held back until the grace is over', (_, gone, peers) => {
  const holdBack = new DelayedRemovals(GRACE)
  expect(holdBack.judge(departure(keys(gone), peers), 5)).toEqual([])
  expect(holdBack.size).toBe(gone)
  expect(holdBack.reason).toBe(`${gone} of ${peers} peers disappeared within 10 s`)
  expect([holdBack.nextDue, holdBack.lastDue]).toEqual([GRACE + 5, GRACE + 5])
  expect(holdBack.takeDue(GRACE + 4)).toEqual([])
  expect(holdBack.takeDue(GRACE + 5)).toEqual(keys(gone))
  expect(holdBack.size).toBe(0)
})

test('departures within the window add up: from the half on they are held', () => {
  const holdBack = new DelayedRemovals(GRACE)
  const letGo = keys(10).flatMap((key, index) =>
    holdBack.judge(departure([key], 10 - Math.min(index, 5)), index * 100),
  )
  expect(letGo).toEqual(keys(5))
  expect(holdBack.keys()).toEqual(keys(5, 5))
})

test('all peers may leave if they leave slowly', () => {
  const holdBack = new DelayedRemovals(GRACE)
  for (const [index, key] of keys(10).entries()) {
    expect(holdBack.judge(departure([key], 10 - index), index * 10_000)).toEqual([key])
  }
})

test('a single departure is not held if the other departures were before the window', () => {
  const holdBack = new DelayedRemovals(GRACE)
  holdBack.judge(departure(keys(6), 8), 0)
  expect(holdBack.judge(departure(['peer7'], 8), 10_000)).toEqual(['peer7'])
})

test('a peer that joined within the window counts neither as present nor as departed', () => {
  const holdBack = new DelayedRemovals(GRACE)
  for (const key of keys(50, 10)) holdBack.joined(key, 0)
  expect(holdBack.judge(departure(keys(50, 10), 52), 9000)).toEqual(keys(50, 10))
  for (const key of keys(50, 10)) holdBack.joined(key, 9000)
  expect(holdBack.judge(departure(keys(3), 53), 9500)).toEqual([])
})

test('a peer that is back does not count as gone', () => {
  const holdBack = new DelayedRemovals(GRACE)
  expect(holdBack.judge(departure(keys(2), 5), 0)).toHaveLength(2)
  for (const key of keys(2)) holdBack.joined(key, 1)
  expect(holdBack.judge(departure(['peer2'], 5), 2)).toEqual(['peer2'])
})

test('if etcd is in doubt even one peer is held', () => {
  const holdBack = new DelayedRemovals(GRACE)
  expect(holdBack.judge(departure(['peer0'], 9, 'another history'), 0)).toEqual([])
  expect([holdBack.has('peer0'), holdBack.reason]).toEqual([true, 'another history'])
})

test('without a grace nothing is held', () => {
  const holdBack = new DelayedRemovals(0)
  expect(holdBack.judge(departure(keys(9), 9, 'another history'), 0)).toEqual(keys(9))
})

test('the grace begins anew after an outage of etcd', () => {
  const holdBack = new DelayedRemovals(GRACE)
  holdBack.judge(departure(keys(3), 3), 0)
  holdBack.extend(50_000)
  expect(holdBack.takeDue(GRACE)).toEqual([])
  expect(holdBack.takeDue(GRACE + 50_000)).toEqual(keys(3))
})

describe('for any sequence of departures and returns', () => {
  const key = fc.nat(11).map((number) => `peer${number}`)
  const step = fc.record({
    after: fc.nat(8000),
    what: fc.oneof(
      fc.record({ kind: fc.constant('gone' as const), keys: fc.uniqueArray(key, { minLength: 1 }) }),
      fc.record({ kind: fc.constant('back' as const), keys: fc.uniqueArray(key, { minLength: 1 }) }),
    ),
    doubt: fc.constantFrom(undefined, undefined, 'doubt'),
  })

  test('no peer in etcd is removed, none is held beyond the grace, and in the end all agree', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const holdBack = new DelayedRemovals(GRACE)
        const inEtcd = new Set(keys(12))
        const peers = new Set(keys(12))
        const heldSince = new Map<string, number>()
        let now = 0
        const letGo = (gone: readonly string[]) => {
          for (const each of gone) {
            expect(inEtcd.has(each)).toBe(false)
            expect(peers.delete(each)).toBe(true)
          }
        }
        const pass = (until: number) => {
          for (let due = holdBack.nextDue; due <= until; due = holdBack.nextDue) letGo(holdBack.takeDue(due))
          now = until
        }
        for (const { after, what, doubt } of steps) {
          pass(now + after)
          if (what.kind === 'gone') {
            const gone = what.keys.filter((each) => inEtcd.delete(each))
            letGo(holdBack.judge({ gone, peers: peers.size, doubt }, now))
            for (const each of gone) if (holdBack.has(each)) heldSince.set(each, now)
          } else {
            for (const each of what.keys) {
              inEtcd.add(each)
              if (holdBack.release(each) || peers.has(each)) continue
              peers.add(each)
              holdBack.joined(each, now)
            }
          }
          for (const each of holdBack.keys()) {
            expect(now - (heldSince.get(each) ?? Number.NaN)).toBeLessThan(GRACE)
          }
          expect(new Set([...inEtcd, ...holdBack.keys()])).toEqual(peers)
        }
        pass(now + GRACE)
        expect(peers).toEqual(inEtcd)
      }),
    )
  })

  test('within ten seconds at most half of the peers, or two, are removed without having been held', () => {
    fc.assert(
      fc.property(fc.array(fc.record({ after: fc.nat(3000), key }), { maxLength: 40 }), (steps) => {
        const holdBack = new DelayedRemovals(GRACE)
        const peers = new Set(keys(12))
        const letGoAt = new Map<string, number>()
        let now = 0
        for (const { after, key: gone } of steps) {
          now += after
          if (!peers.has(gone) || holdBack.has(gone)) continue
          for (const each of holdBack.judge(departure([gone], peers.size), now)) {
            peers.delete(each)
            letGoAt.set(each, now)
          }
          const recent = [...letGoAt.values()].filter((at) => now - at < 10_000).length
          const before = peers.size + recent
          expect(recent < 3 || recent * 2 <= before).toBe(true)
        }
      }),
    )
  })
})
