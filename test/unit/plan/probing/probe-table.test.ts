import fc from 'fast-check'
import type { Peer } from '../../../../src/model/lease'
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
const ANSWER: Outcome = { overlay: { kind: 'answered', rttMs: 1 }, underlay: { kind: 'answered', rttMs: 1 } }
const LOSS: Outcome = { overlay: { kind: 'lost' }, underlay: { kind: 'lost' } }

/** Runs one interval a second. @returns how often each peer was probed, and the most probes in one call */
function run(table: ProbeTable, from: number, calls: number, answers: (key: string) => boolean) {
  const probed = new Map<string, number>()
  let most = 0
  for (let call = 0; call < calls; call += 1) {
    const now = (from + call) * 1000
    const orders = table.due(now)
    most = Math.max(most, orders.length)
    expect(new Set(orders.map((order) => order.peer.key)).size).toBe(orders.length)
    for (const {
      peer: { key },
      isFull,
    } of orders) {
      probed.set(key, (probed.get(key) ?? 0) + 1)
      const outcome = answers(key) ? ANSWER : LOSS
      const { overlay } = outcome
      table.settle(key, isFull ? { ...outcome, full: { size: 1450, fate: overlay } } : outcome, now + 999)
    }
  }
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
  expect(table.due(0)).toEqual([])
  take(table.sync(peersOf(many(1)), 1000))
  expect(table.due(2000)).toEqual([])
  expect(table.due(6000).map((order) => order.peer)).toEqual(many(1))
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
  const sizes: boolean[] = []
  for (let call = 0; call < 12; call += 1) {
    const [order] = table.due(call)
    sizes.push(order?.isFull === true)
    const full = { size: 1450, fate: call < 2 ? LOSS.overlay : ANSWER.overlay }
    table.settle(only?.key ?? '', order?.isFull === true ? { ...ANSWER, full } : ANSWER, call)
  }
  expect(sizes.flatMap((isFull, call) => (isFull ? call : []))).toEqual([0, 1, 2, 10])
  expect([...table.probes()][0]?.probe.full).toMatchObject({ kind: 'passes', size: 1450 })
})

test('many peers are taken over in pieces', () => {
  expect(take(new ProbeTable('10.99.0.0/24').sync(peersOf(many(1000)), 0))).toBe(4)
})
