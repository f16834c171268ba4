import { Retries } from '../../../src/daemon/retries'
import type { ObjectOperation } from '../../../src/model/kernel'
import { emptyScope } from '../../../src/plan/scope'
import { hw, ip } from '../plan/support'

const neighbour = (address: string): ObjectOperation => ({
  kind: 'set-neighbour',
  address: ip(address),
  mac: hw('02:00:00:00:00:02'),
})
const a = neighbour('10.5.2.0')
const b = neighbour('10.5.3.0')
const error = new Error('EINVAL')
const half = () => 0

test('a failure waits, alone, and longer each time', () => {
  const retries = new Retries()
  expect(retries.settle([a, b], [{ operation: a, error }], 0, half)).toHaveLength(1)
  expect(retries.nextDue).toBe(50)
  expect(retries.filter([a, b], undefined, 10)).toEqual([b])
  expect(retries.filter([a, b], undefined, 50)).toEqual([a, b])
  expect(retries.settle([a], [{ operation: a, error }], 50, half)).toEqual([])
  expect(retries.nextDue).toBe(150)
})

test('the wait has a limit', () => {
  const retries = new Retries()
  for (let i = 0; i < 50; i++) retries.settle([a], [{ operation: a, error }], 0, () => 1)
  expect(retries.nextDue).toBe(30_000)
})

test('a success ends it', () => {
  const retries = new Retries()
  retries.settle([a], [{ operation: a, error }], 0, half)
  retries.settle([a], [], 50, half)
  expect([retries.size, retries.nextDue]).toEqual([0, Number.POSITIVE_INFINITY])
})

test('what is no longer wanted is forgotten, but not what a pass did not look at', () => {
  const retries = new Retries()
  retries.settle(
    [a, b],
    [
      { operation: a, error },
      { operation: b, error },
    ],
    0,
    half,
  )
  const scope = emptyScope()
  scope.neighbours.add(ip('10.5.2.0'))
  retries.filter([], scope, 0)
  expect([...retries.failures()].map(({ operation }) => operation)).toEqual([b])
  retries.filter([], undefined, 0)
  expect(retries.size).toBe(0)
})

test('what is due is looked at again', () => {
  const retries = new Retries()
  retries.settle([a], [{ operation: a, error }], 0, half)
  const early = emptyScope()
  retries.addDue(early, 49)
  const due = emptyScope()
  retries.addDue(due, 50)
  expect([[...early.neighbours], [...due.neighbours]]).toEqual([[], [ip('10.5.2.0')]])
})
