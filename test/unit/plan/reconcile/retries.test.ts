import type { ObjectOperation, OperationFailure } from '../../../../src/model/kernel/objects'
import { Retries } from '../../../../src/plan/reconcile/retries'
import { emptyScope } from '../../../../src/plan/reconcile/scope'
import { set } from '../../../support/operations'
import { hw, ip } from '../support'

const neighbour = (address: string): ObjectOperation => set('neighbour', ip(address), hw('02:00:00:00:00:02'))
const a = neighbour('10.5.2.0')
const b = neighbour('10.5.3.0')
const error = new Error('EINVAL')
const refused = (operation: ObjectOperation): OperationFailure => ({
  operation,
  error,
  cause: 'refused',
  errno: 'EINVAL',
})
const half = () => 0

test('a failed operation waits, longer after each failure, and delays no other', () => {
  const retries = new Retries()
  expect(retries.settle([a, b], [refused(a)], 0, half)).toHaveLength(1)
  expect(retries.nextDue).toBe(50)
  expect(retries.filter([a, b], undefined, 10)).toEqual([b])
  expect(retries.filter([a, b], undefined, 50)).toEqual([a, b])
  expect(retries.settle([a], [refused(a)], 50, half)).toEqual([])
  expect(retries.nextDue).toBe(150)
})

test('the wait has a limit', () => {
  const retries = new Retries()
  for (let i = 0; i < 50; i++) retries.settle([a], [refused(a)], 0, () => 1)
  expect(retries.nextDue).toBe(30_000)
})

test('a success ends the waiting', () => {
  const retries = new Retries()
  retries.settle([a], [refused(a)], 0, half)
  retries.settle([a], [], 50, half)
  expect([retries.size, retries.nextDue]).toEqual([0, Number.POSITIVE_INFINITY])
})

test('an operation is forgotten if a pass compared its object and no longer desires it', () => {
  const retries = new Retries()
  retries.settle([a, b], [refused(a), refused(b)], 0, half)
  const scope = emptyScope()
  scope.neighbour.add(ip('10.5.2.0'))
  retries.filter([], scope, 0)
  expect([...retries.failures()].map(({ operation }) => operation)).toEqual([b])
  retries.filter([], undefined, 0)
  expect(retries.size).toBe(0)
})

test('an operation that is due is part of the next scope', () => {
  const retries = new Retries()
  retries.settle([a], [refused(a)], 0, half)
  const early = emptyScope()
  retries.addDue(early, 49)
  const due = emptyScope()
  retries.addDue(due, 50)
  expect([[...early.neighbour], [...due.neighbour]]).toEqual([[], [ip('10.5.2.0')]])
})
