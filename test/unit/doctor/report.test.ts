import { EXIT_CODES, makeReport } from '../../../src/doctor/report'
import type { CheckResult } from '../../../src/judge/diagnose'
import { facts } from '../judge/support'

const check = (name: string, more: Partial<CheckResult> = {}): CheckResult => ({
  name,
  state: 'ok',
  summary: '',
  findings: [],
  ...more,
})
const NEEDLESS = { state: 'skip' } as const
const verdict = (checks: readonly CheckResult[], only: readonly string[] = []) =>
  makeReport(facts(), checks, 1, only).verdict

test.each<[string, readonly CheckResult[], readonly string[], string]>([
  ['all made', [check('etcd'), check('mtu')], [], 'ok'],
  ['one that does not concern this host', [check('etcd'), check('multicast', NEEDLESS)], [], 'ok'],
  [
    'one that was not possible',
    [check('etcd', { state: 'skip', unmade: 'unknown' }), check('mtu')],
    [],
    'incomplete',
  ],
  ['a part that was not possible', [check('etcd', { unmade: 'rights' }), check('mtu')], [], 'incomplete'],
  [
    'one that someone asked for and that was skipped',
    [check('etcd'), check('mtu', NEEDLESS)],
    ['etcd', 'mtu'],
    'incomplete',
  ],
  ['nothing made at all', [check('mtu', NEEDLESS), check('udp', NEEDLESS)], [], 'incomplete'],
])('%s: the verdict', (_, checks, only, expected) => {
  expect(verdict(checks, only)).toBe(expected)
})

test('only a report that is ok has exit code 0', () => {
  expect(EXIT_CODES).toEqual({ ok: 0, incomplete: 1, warn: 1, fail: 2 })
})
