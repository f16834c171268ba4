/** Serials of signed leases grow, whatever the clock does, and a value that stays keeps its own. */
import fc from 'fast-check'
import { LAST_SERIAL } from '../../../../src/model/lease'
import { describeFormer, nextSerial, type Signed } from '../../../../src/plan/trust/serial'
import { runs } from '../../support/runs'

const T = Date.UTC(2026, 0, 2)

test('the first value has the time, and each other value a greater serial', () => {
  expect(nextSerial(undefined, 'a', T)).toBe(T)
  expect(nextSerial({ bare: 'a', serial: T }, 'b', T + 5)).toBe(T + 5)
  expect(nextSerial({ bare: 'a', serial: T }, 'b', T)).toBe(T + 1)
})

test('the same value keeps its serial, unless it has none yet', () => {
  expect(nextSerial({ bare: 'a', serial: T }, 'a', T + 5)).toBe(T)
  expect(nextSerial({ bare: 'a', serial: 0 }, 'a', T)).toBe(T)
})

test('a clock that stands at the epoch, or before it, gives a serial', () => {
  expect(nextSerial(undefined, 'a', 0)).toBe(1)
  expect(nextSerial(undefined, 'a', -5)).toBe(1)
  expect(nextSerial({ bare: 'a', serial: LAST_SERIAL }, 'b', T)).toBe(LAST_SERIAL)
})

test('a host that has lost its memory goes on above, where its clock is right', () => {
  const before = nextSerial(undefined, 'a', T)
  expect(nextSerial(undefined, 'b', T + 1)).toBeGreaterThan(before)
})

const clock = fc.oneof(
  fc.integer({ min: -10, max: 4 * T }),
  fc.constant(T),
  fc.double({ min: 0, max: 2 * T, noNaN: true }),
)
const step = fc.record({ bare: fc.constantFrom('a', 'b', 'c'), now: clock })

test('property: serials never go back, grow with each other value, and stay with the same one', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      let before: Signed | undefined
      for (const { bare, now } of steps) {
        const serial = nextSerial(before, bare, now)
        expect(Number.isSafeInteger(serial)).toBe(true)
        expect(serial).toBeGreaterThanOrEqual(1)
        expect(serial).toBeLessThanOrEqual(LAST_SERIAL)
        if (before?.bare === bare) expect(serial).toBe(before.serial)
        else if (before !== undefined) expect(serial).toBeGreaterThan(before.serial)
        before = { bare, serial }
      }
    }),
    { numRuns: runs(200) },
  )
})

test('a former lease is told with both times', () => {
  expect(describeFormer(T, T + 86_400_000)).toBe(
    'it was signed at 2026-01-02T00:00:00.000Z, and one signed at 2026-01-03T00:00:00.000Z was seen',
  )
  expect(describeFormer(0, T)).toBe('it has no serial, and one signed at 2026-01-02T00:00:00.000Z was seen')
  expect(describeFormer(1, LAST_SERIAL)).toContain('+275760-09-13')
})
