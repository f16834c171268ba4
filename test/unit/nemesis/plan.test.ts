/** The nemesis's plan is a function of seed and round; its pings are counted by sequence number. */

import type { World } from '../../nemesis/fault'
import { FAULTS } from '../../nemesis/faults'
import { countPings } from '../../nemesis/pings'
import { describeFault, FEWEST, MOST, planRound, touchedBy } from '../../nemesis/plan'

const WORLD: World = { hosts: 4, members: 3, longest: 15_000 }
const ROUNDS = Array.from({ length: 300 }, (_, index) => index + 1)
const plan = (seed: number, round: number, world = WORLD) => planRound(FAULTS, seed, round, world)

test('the same seed and round give the same faults, others give others', () => {
  const text = (seed: number, round: number) => plan(seed, round).map(describeFault).join('\n')
  for (const round of ROUNDS.slice(0, 50)) expect(text(7, round)).toBe(text(7, round))
  expect(new Set(ROUNDS.map((round) => text(7, round))).size).toBe(ROUNDS.length)
  expect(new Set(ROUNDS.map((seed) => text(seed, 1))).size).toBe(ROUNDS.length)
})

test('a round has two to six faults, on hosts that may be harmed, with different targets', () => {
  for (const round of ROUNDS) {
    const planned = plan(1, round)
    expect(planned.length).toBeGreaterThanOrEqual(FEWEST)
    expect(planned.length).toBeLessThanOrEqual(MOST)
    for (const number of touchedBy(planned)) expect([1, 2, 3, 4]).toContain(number)
    const claims = planned.flatMap((fault) => fault.claims)
    expect(new Set(claims).size).toBe(claims.length)
    for (const fault of planned) {
      expect(fault.claims.length + Object.keys(fault.parameters).length).toBeGreaterThan(0)
      expect(fault.lasts).toBeLessThanOrEqual(WORLD.longest)
    }
  }
})

test('every kind of fault occurs, and each has a unique name', () => {
  const names = new Set(ROUNDS.flatMap((round) => plan(3, round).map(({ name }) => name)))
  expect([...names].sort()).toEqual(FAULTS.map(({ name }) => name).sort())
  expect(new Set(FAULTS.map(({ name }) => name)).size).toBe(FAULTS.length)
})

test('no fault lasts longer than the maximum', () => {
  const lengths = ROUNDS.flatMap((round) =>
    plan(3, round, { ...WORLD, longest: 2000 }).map(({ lasts }) => lasts),
  )
  expect(Math.max(...lengths)).toBeLessThanOrEqual(2000)
})

describe('pings', () => {
  const answers = (...numbers: readonly number[]) =>
    numbers.map((number) => `65 bytes from 10.5.1.2: icmp_seq=${number} ttl=62 time=0.1 ms\n`).join('')

  test.each([
    ['all answered', answers(1, 2, 3), 0, { sent: 3, lost: 0, last: 3 }],
    ['one lost', answers(1, 2, 4), 0, { sent: 4, lost: 1, last: 4 }],
    ['the first lost since the last count', answers(12, 13), 10, { sent: 3, lost: 1, last: 13 }],
    [
      'an answer to another ping with the same identifier',
      `${answers(40_000)}64 bytes from 10.5.1.2: icmp_seq=1 ttl=62 time=0.1 ms\n${answers(40_001)}`,
      39_999,
      { sent: 2, lost: 0, last: 40_001 },
    ],
    ['none answered', '', 10, { sent: 0, lost: 0, last: 10 }],
    ['answered twice', answers(1, 2, 2, 3), 0, { sent: 3, lost: 0, last: 3 }],
    ['sequence numbers that wrap around', answers(65_535, 0, 2), 65_534, { sent: 4, lost: 1, last: 65_538 }],
    [
      'sequence numbers after two wraps',
      answers(1, 2),
      65_536 * 2,
      { sent: 2, lost: 0, last: 65_536 * 2 + 2 },
    ],
  ])('%s', (_, output, after, counted) => {
    expect(countPings(output, after)).toEqual(counted)
  })
})
