/** What becomes of a drop-in that is found, and whether Docker may start. */
import fc from 'fast-check'
import {
  disableDropIn,
  enableDropIn,
  type FoundDropIn,
  type ShippedDropIn,
  settingsTwice,
} from '../../../../src/plan/host/docker-drop-in'
import { dockerWait, LONGEST_OF_START, parseOverlaydUnit } from '../../../../src/plan/host/docker-wait'

const PATH = '/usr/lib/overlayd/docker.service.d/40-overlayd.conf'
const packaged: ShippedDropIn = { path: PATH, text: 'ours\n', isPackaged: true }
const loose: ShippedDropIn = { ...packaged, path: '/opt/overlayd/40-overlayd.conf', isPackaged: false }

const found = fc.oneof(
  fc.constant<FoundDropIn>({ kind: 'absent' }),
  fc.constant<FoundDropIn>({ kind: 'other' }),
  fc.constantFrom(PATH, '/etc/mine.conf').map((target): FoundDropIn => ({ kind: 'link', target })),
  fc.constantFrom('ours\n', 'mine\n').map((text): FoundDropIn => ({ kind: 'file', text })),
)

/** The drop-in after a step. */
function after(before: FoundDropIn, step: ReturnType<typeof enableDropIn>): FoundDropIn {
  if (step.kind === 'link') return { kind: 'link', target: step.target }
  if (step.kind === 'copy') return { kind: 'file', text: step.text }
  return step.kind === 'remove' ? { kind: 'absent' } : before
}

test('enabled twice is enabled once, and disabled after it leaves nothing', () => {
  fc.assert(
    fc.property(found, fc.constantFrom(packaged, loose), fc.boolean(), (before, shipped, force) => {
      const step = enableDropIn(before, shipped, force)
      const enabled = after(before, step)
      if (step.kind === 'refuse') return expect(disableDropIn(before, shipped, force).kind).toBe('refuse')
      expect(enableDropIn(enabled, shipped, force)).toEqual({ kind: 'nothing' })
      expect(disableDropIn(enabled, shipped, false)).toEqual({ kind: 'remove', sets: false })
    }),
  )
})

test('what is somebody’s own is never lost', () => {
  fc.assert(
    fc.property(found, fc.constantFrom(packaged, loose), fc.boolean(), (before, shipped, force) => {
      const isOwn =
        (before.kind === 'file' && before.text !== 'ours\n') ||
        (before.kind === 'link' && before.target !== PATH)
      for (const step of [enableDropIn(before, shipped, force), disableDropIn(before, shipped, force)]) {
        if (before.kind === 'other') expect(step.kind).toBe('refuse')
        else if (isOwn && !force) expect(step).toEqual({ kind: 'refuse', found: before.kind })
        else if (step.kind !== 'nothing' && step.kind !== 'refuse') expect(step.sets).toBe(isOwn)
      }
    }),
  )
})

test('a copy in the place of a link is replaced, so that it follows upgrades', () => {
  expect(enableDropIn({ kind: 'file', text: 'ours\n' }, packaged, false)).toEqual({
    kind: 'link',
    target: PATH,
    sets: false,
  })
})

test('settings that dockerd would get twice are named', () => {
  const settings = { bip: '10.0.0.1/24', 'log-driver': 'journald', 'default-address-pools': [] }
  expect(settingsTwice(settings, false)).toEqual(['bip'])
  expect(settingsTwice(settings, true)).toEqual(['bip', 'default-address-pools'])
  expect(settingsTwice({ 'log-driver': 'journald' }, true)).toEqual([])
})

const UNIT = 'LoadState=loaded\nActiveState=activating\nStatusText=waiting for etcd\n'

test.each([
  [UNIT, { load: 'loaded', active: 'activating', hasJob: false, text: 'waiting for etcd' }],
  [`${UNIT}Job=12\n`, { hasJob: true }],
  [`${UNIT}Job=0\n`, { hasJob: false }],
  ['Failed to connect to bus\n', undefined],
])('a unit as systemd shows it: %j', (shown, expected) => {
  const unit = parseOverlaydUnit(shown)
  if (expected === undefined) expect(unit).toBeUndefined()
  else expect(unit).toMatchObject(expected)
})

test('without a subnet Docker waits; with one it waits for a start of overlayd, but not for ever', () => {
  const at = (hasSubnet: boolean, shown: string, waited: number) =>
    dockerWait({ hasSubnet, unit: parseOverlaydUnit(shown), waited })
  const active = 'LoadState=loaded\nActiveState=active\n'
  expect(at(false, active, LONGEST_OF_START * 100)).toEqual({ kind: 'wait', for: 'subnet' })
  expect(at(true, active, 0)).toEqual({ kind: 'start' })
  expect(at(true, `${active}Job=3\n`, 0)).toEqual({ kind: 'wait', for: 'overlayd' })
  expect(at(true, UNIT, LONGEST_OF_START - 1)).toEqual({ kind: 'wait', for: 'overlayd' })
  expect(at(true, UNIT, LONGEST_OF_START)).toEqual({ kind: 'start' })
  expect(at(true, '', 0)).toEqual({ kind: 'start' })
})
