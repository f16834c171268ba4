import fc from 'fast-check'
import type { Peer } from '../../../../src/model/lease'
import { FULL } from '../../../../src/plan/probing/path-mtu'
import type { Outcome } from '../../../../src/plan/probing/peer-probe'
import { MOST_AGAIN, ProbeTable, WATCHED } from '../../../../src/plan/probing/probe-table'
import { hw, ip, net } from '../support'

const peer = (i: number, publicIp = `192.0.${i >> 8}.${i & 255}`): Peer => ({
  key: `10.${i >> 8}.${i & 255}.0-24`,
  subnet: net(`10.${i >> 8}.${i & 255}.0/24`),
  publicIp: ip(publicIp),
  mac: hw('02:00:00:00:00:01'),
})
/** Runs the pieces of a takeover, and counts them. */
const take = (pieces: Generator<void, void>): number => [...pieces].length
const peersOf = (list: readonly Peer[]) => {
  const byKey = new Map(list.map((each) => [each.key, each]))
  return { peers: () => byKey.values(), peer: (key: string) => byKey.get(key) }
}
const many = (count: number): Peer[] => Array.from({ length: count }, (_, i) => peer(i + 1))
const tableOf = (list: readonly Peer[]): ProbeTable => {
  const table = new ProbeTable('10.99.0.0/24')
  take(table.sync(peersOf(list), 0, true))
  return table
}
/** Of the device. */
const MTU = 1450
const ANSWER: Outcome = { overlay: { kind: 'answered', rttMs: 1 }, underlay: { kind: 'answered', rttMs: 1 } }
const LOSS: Outcome = { overlay: { kind: 'lost' }, underlay: { kind: 'lost' } }

/** Runs one interval a second. @returns how often each peer was probed, and the most probes in one call */
function run(table: ProbeTable, from: number, calls: number, answers: (key: string) => boolean) {
  const probed = new Map<string, number>()
  let most = 0
  const callsWithTwice: number[] = []
  for (let call = 0; call < calls; call += 1) {
    const now = (from + call) * 1000
    const orders = table.due(now, MTU)
    most = Math.max(most, orders.length)
    if (new Set(orders.map((order) => order.peer.key)).size !== orders.length) callsWithTwice.push(call)
    for (const { peer: probedPeer, large } of orders) {
      const { key } = probedPeer
      probed.set(key, (probed.get(key) ?? 0) + 1)
      const outcome = answers(key) ? ANSWER : LOSS
      const { overlay } = outcome
      table.settle(key, large ? { ...outcome, large: { ...large, fate: overlay } } : outcome, now + 999)
    }
  }
  expect(callsWithTwice).toEqual([])
  return { probed, most }
}

test('every peer is probed in a round of as many calls as there are peers, by two probes a call', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 300 }), (size) => {
      const table = tableOf(many(size))
      const { probed, most } = run(table, 0, Math.max(size, WATCHED), () => true)
      expect(probed.size).toBe(size)
      expect(most).toBeLessThanOrEqual(2)
      expect(table.counts).toMatchObject({ answering: size, unknown: 0, unreachable: 0 })
    }),
    { numRuns: 30 },
  )
})

test('in a network of 10,000 a round takes less than three hours, and a watched peer waits four calls', () => {
  const table = tableOf(many(10_000))
  const { probed } = run(table, 0, 10_000, () => true)
  expect(probed.size).toBe(10_000)
  for (const { peer: each } of table.watched) expect(probed.get(each.key)).toBe(10_000 / WATCHED)
})

test('a peer that dies is unreachable after its third probe, which follow each other at once', () => {
  const table = tableOf(many(50))
  run(table, 0, 60, () => true)
  const dead = table.watched[0]?.peer.key ?? ''
  run(table, 60, WATCHED + 3, (key) => key !== dead)
  expect(table.probeOf(dead)?.reach).toMatchObject({ kind: 'unreachable', layer: 'underlay' })
  expect(table.counts).toMatchObject({ answering: 49, unreachable: 1, underlay: 1, overlay: 0 })
  run(table, 70, 6, () => true)
  expect(table.probeOf(dead)?.reach).toEqual({ kind: 'answering' })
})

test('whatever is lost, a call has a bounded number of probes, and all who come back are found', () => {
  const size = 400
  fc.assert(
    fc.property(fc.uniqueArray(fc.integer({ min: 1, max: size }), { maxLength: size }), (dead) => {
      const keys = new Set(dead.map((i) => peer(i).key))
      const table = tableOf(many(size))
      const { most } = run(table, 0, size + 30, (key) => !keys.has(key))
      expect(most).toBeLessThanOrEqual(2 + MOST_AGAIN)
      expect(table.counts).toMatchObject({ unreachable: keys.size, answering: size - keys.size })
      run(table, size + 30, 30, () => true)
      expect(table.counts).toMatchObject({ unreachable: 0, answering: size })
    }),
    { numRuns: 10 },
  )
})

test('what is known of a peer outlives a change of others, and ends with its address', () => {
  const table = tableOf(many(20))
  run(table, 0, 30, () => true)
  const moved = peer(1, '198.51.100.1')
  const now = 40_000
  take(table.sync(peersOf([moved, ...many(25).slice(2)]), now))
  expect(table.size).toBe(24)
  expect(table.probeOf(moved.key)?.reach).toEqual({ kind: 'unknown' })
  expect(table.probeOf(peer(2).key)).toBeUndefined()
  expect(table.probeOf(peer(3).key)?.reach).toEqual({ kind: 'answering' })
  expect(table.settle(peer(2).key, LOSS, now)).toBeUndefined()
})

test('a peer that has just appeared is left alone for a while', () => {
  const table = tableOf([])
  expect(table.due(0, MTU)).toEqual([])
  take(table.sync(peersOf(many(1)), 1000))
  expect(table.due(2000, MTU)).toEqual([])
  expect(table.due(6000, MTU).map((order) => order.peer)).toEqual(many(1))
})

test('two hosts visit the peers in different orders', () => {
  const orderOf = (own: string): string => {
    const table = new ProbeTable(own)
    take(table.sync(peersOf(many(100)), 0, true))
    return [...run(table, 0, 30, () => true).probed.keys()].join()
  }
  expect(orderOf('10.99.1.0/24')).not.toBe(orderOf('10.99.2.0/24'))
})

test('full size goes along with the first probe, with each tenth, and at once after a loss', () => {
  const [only] = many(1)
  const table = tableOf(many(1))
  const calls: number[] = []
  for (let call = 0; call < 12; call += 1) {
    const large = table.due(call, MTU)[0]?.large
    if (large !== undefined) calls.push(call)
    const fate = call < 2 ? LOSS.overlay : ANSWER.overlay
    table.settle(only?.key ?? '', large ? { ...ANSWER, large: { ...large, fate } } : ANSWER, call)
  }
  expect(calls).toEqual([0, 1, 2, 10])
  expect([...table.probes()][0]?.probe.path).toBe(FULL)
})

test('paths of one width are found, a few at a time; each is tried again after ten minutes, and only then', () => {
  const carried = 1350
  const table = tableOf(many(30))
  const sent = new Map<string, number[]>()
  const step = (now: number, width: number): void => {
    const orders = table.due(now, MTU)
    // Two peers in turn, and at most eight of each reason for a large packet.
    expect(orders.filter(({ large }) => large !== undefined).length).toBeLessThanOrEqual(18)
    for (const { peer: each, large } of orders) {
      if (large !== undefined) sent.set(each.key, [...(sent.get(each.key) ?? []), large.size])
      const isThrough = large !== undefined && large.size <= width
      const fate = isThrough ? ANSWER.overlay : LOSS.overlay
      table.settle(each.key, large ? { ...ANSWER, large: { ...large, fate } } : ANSWER, now)
    }
  }
  let now = 0
  for (; table.limited < 30 && now < 1_000_000; now += 1000) step(now, carried)
  for (const { probe } of table.probes()) expect(probe.path).toMatchObject({ kind: 'limited', mtu: carried })
  // One full packet is sent to each in ten minutes, and finds the path as wide as the device again.
  for (const end = now + 620_000; now < end; now += 1000) step(now, MTU)
  expect(table.limited).toBe(0)
  for (const { probe } of table.probes()) expect(probe.path).toBe(FULL)
})

test('an MTU of an earlier run is known at once, and its full size is tried with the first probe', () => {
  const table = new ProbeTable('10.99.0.0/24', () => 1350)
  take(table.sync(peersOf(many(1)), 0, true))
  expect(table.limited).toBe(1)
  expect(table.due(0, MTU)[0]?.large).toMatchObject({ size: MTU, full: MTU })
})

test('many peers are taken over in pieces', () => {
  expect(take(new ProbeTable('10.99.0.0/24').sync(peersOf(many(1000)), 0))).toBe(4)
})
