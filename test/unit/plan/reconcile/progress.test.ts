import type { ObjectId } from '../../../../src/model/kernel/objects'
import type { Peer, Revision } from '../../../../src/model/lease'
import { Progress } from '../../../../src/plan/reconcile/progress'
import { hw, ip, net } from '../support'

const peer = (n: number): Peer => ({
  key: `peer${n}`,
  subnet: net(`10.5.${n}.0/24`),
  publicIp: ip(`192.168.77.${n}`),
  mac: hw(`02:00:00:00:00:0${n}`),
})
const joins = (n: number) => ({ before: undefined, after: peer(n) })
const leaves = (n: number) => ({ before: peer(n), after: undefined })
const revision = (n: number) => BigInt(n) as Revision
const neighbourOf = (n: number): ObjectId => ({ kind: 'neighbour', key: ip(`10.5.${n}.0`) })

/** A progress that is settled at revision 1. */
function settled(): Progress {
  const progress = new Progress()
  progress.changed([joins(1)], revision(1), 100)
  progress.begin()
  progress.settled(200)
  return progress
}

test('the first pass takes no scope, because it is over everything', () => {
  const progress = new Progress()
  progress.changed([joins(1)], revision(1), 100)
  expect([progress.hasPending, progress.revision, progress.isSettled]).toEqual([false, undefined, false])
  expect(progress.begin().neighbour.size).toBe(0)
  expect(progress.settled(150)).toBe(50)
  expect([progress.revision, progress.isSettled]).toEqual([1n, true])
})

test('a change during the first pass is pending', () => {
  const progress = new Progress()
  progress.changed([joins(1)], revision(1), 100)
  progress.begin()
  progress.changed([joins(2)], revision(2), 110)
  expect([progress.hasPending, progress.concerns(neighbourOf(2)), progress.concerns(neighbourOf(1))]).toEqual(
    [true, true, false],
  )
  progress.settled(150)
  expect([progress.revision, progress.isSettled]).toEqual([1n, false])
})

test('a change is pending, under way, and settled; its latency is measured from its arrival', () => {
  const progress = settled()
  progress.changed([leaves(1)], revision(2), 1000)
  progress.changed([joins(2)], revision(3), 1010)
  expect([progress.hasPending, progress.isSettled, progress.revision]).toEqual([true, false, 1n])
  expect([...progress.begin().neighbour]).toEqual([ip('10.5.1.0'), ip('10.5.2.0')])
  expect([progress.hasPending, progress.isSettled]).toEqual([false, false])
  expect(progress.concerns(neighbourOf(1))).toBe(true)
  expect(progress.settled(1050)).toBe(50)
  expect([progress.isSettled, progress.revision, progress.concerns(neighbourOf(1))]).toEqual([
    true,
    3n,
    false,
  ])
})

test('a pass may take further changes while it is under way', () => {
  const progress = settled()
  progress.changed([joins(2)], revision(2), 1000)
  progress.begin()
  progress.changed([joins(3)], revision(3), 1010)
  expect(progress.begin().neighbour.size).toBe(2)
  expect(progress.settled(1020)).toBe(20)
  expect([progress.isSettled, progress.revision]).toEqual([true, 3n])
})

test('the revision of a pass has no change after its scope was taken, but updates without a change', () => {
  const progress = settled()
  progress.changed([joins(2)], revision(2), 1000)
  progress.begin()
  progress.changed([], revision(3), 1010)
  progress.settled(1020)
  expect(progress.revision).toBe(3n)
  progress.changed([joins(3)], revision(4), 2000)
  progress.begin()
  progress.changed([joins(4)], revision(5), 2010)
  progress.settled(2020)
  expect([progress.revision, progress.hasPending]).toEqual([4n, true])
})

test('an update that changes no peer is reached at once, unless something is under way or failed', () => {
  const progress = settled()
  progress.changed([], revision(2), 1000)
  expect(progress.revision).toBe(2n)
  progress.begin()
  progress.failed()
  progress.changed([], revision(3), 1010)
  expect(progress.revision).toBe(2n)
  const fresh = new Progress()
  fresh.changed([], revision(1), 0)
  expect(fresh.revision).toBeUndefined()
})

test('changes of a failed pass are pending again, with the latency of the oldest', () => {
  const progress = settled()
  progress.changed([joins(2)], revision(2), 1000)
  progress.begin()
  progress.failed()
  expect([progress.hasPending, progress.isSettled, progress.concerns(neighbourOf(2))]).toEqual([
    true,
    false,
    true,
  ])
  progress.changed([joins(3)], revision(3), 1500)
  expect(progress.begin().neighbour.size).toBe(2)
  expect(progress.settled(1600)).toBe(600)
  expect([progress.revision, progress.isSettled]).toEqual([3n, true])
})

test('a peer that is touched is compared again, without a revision or a latency', () => {
  const progress = settled()
  progress.touch(peer(5))
  expect([...progress.begin().neighbour]).toEqual([ip('10.5.5.0')])
  expect([progress.settled(300), progress.revision]).toEqual([undefined, 1n])
})
