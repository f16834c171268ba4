/** When a host changes its keys. */
import { LAST_TURN } from '../../../../src/model/lease'
import {
  FOLLOW_TIME,
  LONGEST_FOLLOW_TIME,
  planRotation,
  type RotationInputs,
} from '../../../../src/plan/encryption/rotation'

const at = (fields: Partial<RotationInputs>) =>
  planRotation({
    turn: 3,
    since: 1000,
    isLeaving: false,
    changingSince: undefined,
    others: [0, 2],
    maxAge: 5000,
    isAsked: false,
    now: 1001,
    ...fields,
  })

test('a key is changed when it is old, or when an operator asks, by a turn above all others', () => {
  expect(at({})).toBeUndefined()
  expect(at({ now: 6000 })).toEqual({ kind: 'move', turn: 4 })
  expect(at({ now: 6000, maxAge: undefined })).toBeUndefined()
  expect(at({ isAsked: true, others: [8, 2] })).toEqual({ kind: 'move', turn: 9 })
})

test('the former key goes when others have had time to follow', () => {
  expect(at({ isLeaving: true, isAsked: true, now: 999 + FOLLOW_TIME })).toBeUndefined()
  expect(at({ isLeaving: true, now: 1000 + FOLLOW_TIME })).toEqual({ kind: 'retire' })
})

test('while a host has not followed, such as one without etcd, no key goes and none is moved to, for a day', () => {
  const changing = { changingSince: 2000 }
  for (const fields of [{ isLeaving: true }, { isAsked: true }, { isLeaving: true, others: [4] }]) {
    expect(at({ ...changing, ...fields, now: 2000 + FOLLOW_TIME })).toBeUndefined()
    expect(at({ ...changing, ...fields, now: 1999 + LONGEST_FOLLOW_TIME })).toBeUndefined()
    expect(at({ ...changing, ...fields, now: 2000 + LONGEST_FOLLOW_TIME })).toBeDefined()
  }
})

test('it does not go while a host with a larger turn may use it; this host takes another turn then', () => {
  const others = [4, 2]
  expect(at({ isLeaving: true, others, now: 1000 + FOLLOW_TIME })).toEqual({ kind: 'move', turn: 5 })
})

test('a host that announces the last turn keeps nobody from a change', () => {
  const others = [LAST_TURN]
  expect(at({ isAsked: true, others })).toEqual({ kind: 'move', turn: 4 })
  expect(at({ isLeaving: true, others, now: 1000 + FOLLOW_TIME })).toEqual({ kind: 'retire' })
})
