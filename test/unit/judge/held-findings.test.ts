/** Which findings of the daemon's looks count. */
import { type HeldFindings, holdFindings, type RulesEvidence } from '../../../src/judge/held-findings'
import type { WayInCheck, WayInFinding } from '../../../src/judge/way-in'

const finding = (check: WayInCheck, code: string, text = 'a fault'): WayInFinding => ({
  check,
  code,
  severity: 'problem',
  text,
  fix: 'mend it',
  isCut: false,
})
const BLOCKED = finding('firewall', 'udp-blocked-here')

const NONE: HeldFindings = new Map()
const fresh = (reading: unknown): RulesEvidence => ({ reading, isOutdated: false })
const outdated = (reading: unknown): RulesEvidence => ({ reading, isOutdated: true })

/** What counts after each of the looks. */
function counted(...looks: readonly (readonly [readonly WayInFinding[], RulesEvidence])[]): string[][] {
  let held = NONE
  return looks.map(([findings, rules]) => {
    held = holdFindings(held, findings, rules)
    return [...held.values()].flatMap(({ finding: { text }, isConfirmed }) => (isConfirmed ? text : []))
  })
}

test('a finding counts from the second look in a row that has it', () => {
  const bridge = finding('bridge', 'bridge-subnet')
  const [first, second] = [fresh('a'), fresh('b')]
  expect(counted([[bridge], first], [[bridge], first], [[], first])).toEqual([[], ['a fault'], []])
  expect(counted([[bridge], first], [[], second], [[bridge], second])).toEqual([[], [], []])
})

test('rules that are still as they were read confirm a finding without another reading', () => {
  expect(counted([[BLOCKED], fresh('a')], [[BLOCKED], fresh('a')])).toEqual([[], ['a fault']])
})

test('an outdated reading of rules does not confirm its own finding', () => {
  const looks = [outdated('a'), outdated('a'), outdated('a')] as const
  expect(counted(...looks.map((rules) => [[BLOCKED], rules] as const))).toEqual([[], [], []])
  expect(counted([[BLOCKED], fresh('a')], [[BLOCKED], outdated('a')], [[], fresh('b')])).toEqual([[], [], []])
})

test('a second reading confirms, also where rules change all the time', () => {
  expect(counted([[BLOCKED], outdated('a')], [[BLOCKED], outdated('a')], [[BLOCKED], outdated('b')])).toEqual(
    [[], [], ['a fault']],
  )
})

test('a finding that counts stays while its rules wait for their next reading', () => {
  const looks = [fresh('a'), fresh('a'), outdated('a')] as const
  expect(counted(...looks.map((rules) => [[BLOCKED], rules] as const)).at(-1)).toEqual(['a fault'])
})

test('findings of other checks do not wait for rules', () => {
  const route = finding('routes', 'route-shadowed')
  expect(counted([[route], outdated('a')], [[route], outdated('a')])).toEqual([[], ['a fault']])
})

test('of one code each place is held by itself, with its newest text', () => {
  const [ipv4, ipv6] = [
    finding('firewall', 'forward-drop', 'IPv4'),
    finding('firewall', 'forward-drop', 'IPv6'),
  ]
  const rules = fresh('a')
  expect(counted([[ipv4], rules], [[ipv4, ipv6], rules], [[ipv4, ipv6], rules])).toEqual([
    [],
    ['IPv4'],
    ['IPv4', 'IPv6'],
  ])
  expect(counted([[ipv4], rules], [[{ ...ipv4, text: 'other words' }], rules])).toEqual([[], ['other words']])
})
