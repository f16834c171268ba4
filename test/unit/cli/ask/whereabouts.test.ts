import {
  type Announced,
  behindOf,
  describeBehind,
  describeWhereabouts,
  subnetsBehind,
} from '../../../../src/cli/ask/whereabouts'
import { parseIp } from '../../../../src/model/address'

const claim = { host: '10.5.1.0-24', own: false, priority: 100, state: 'wins' as const }
const DUAL = '10.5.2.0-24&fd00:5:0:2::-64'

const find = (announced: Announced, text = '10.5.240.7') => {
  const address = parseIp(text)
  if (address === undefined) throw new Error(text)
  return behindOf(announced, address)
}

test.each<[string, Announced, string | undefined]>([
  ['nobody announces', [{ ...claim, prefix: '10.5.241.0/24' }], undefined],
  ['a host only wants to announce', [{ ...claim, prefix: '10.5.240.7/32', state: 'waits' }], undefined],
  ['is in a refused claim', [{ ...claim, prefix: '10.5.240.7/32', state: 'refused' }], undefined],
  ['has an unreadable key', [{ own: false, prefix: '10.5.240.7/32', state: 'unreadable' }], undefined],
  [
    'is in two prefixes',
    [
      { ...claim, prefix: '10.5.240.0/28', host: DUAL },
      { ...claim, prefix: '10.5.240.0/24' },
    ],
    'A is in the announced prefix 10.5.240.0/28 of 10.5.2.0/24',
  ],
  [
    'two gateways share, and a third one waits for',
    [
      { ...claim, prefix: '10.5.240.0/24', state: 'shares', via: '192.0.2.9' },
      { ...claim, prefix: '10.5.240.0/24', state: 'shares', own: true, host: DUAL },
      { ...claim, prefix: '10.5.240.0/24', state: 'waits', host: '10.5.3.0-24' },
    ],
    'A is in the announced prefix 10.5.240.0/24 of 10.5.1.0/24 (via 192.0.2.9) and this host',
  ],
])('an address that %s', (_, announced, text) => {
  const behind = find(announced)
  expect(behind && describeBehind('A', behind)).toBe(text)
})

test('an IPv6 prefix is at the IPv6 subnet of its host, and an IPv4 address is in none', () => {
  const announced = [{ ...claim, prefix: 'fd00:9::/64', host: DUAL }]
  const behind = find(announced, 'fd00:9::7')
  expect(behind && subnetsBehind(behind)).toEqual(['fd00:5:0:2::/64'])
  expect(find([{ ...claim, prefix: '::/0', host: DUAL }])).toBeUndefined()
})

test('nothing is said of an address that nobody announces, and of one that nobody knows the reason is', () => {
  expect(describeWhereabouts('10.5.240.7', {})).toBeUndefined()
  expect(describeWhereabouts('10.5.240.7', { unknown: 'no answer' })).toContain('is not known: no answer')
})
