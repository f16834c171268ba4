import type { PrefixesDocument } from '../../../../src/api/documents'
import { readSeconds, readShare, renderPrefixes } from '../../../../src/cli/verbs/prefixes'

const DOCUMENT: PrefixesDocument = {
  schema: 1,
  allowed: ['10.5.240.0/20'],
  prefixes: [
    { prefix: '10.5.240.7/32', host: '10.5.2.0-24', own: false, priority: 200, state: 'wins' },
    {
      prefix: '10.5.240.7/32',
      host: '10.5.1.0-24',
      own: true,
      priority: 100,
      until: '2026-11-30T14:00:00.000Z',
      state: 'waits',
      reason: '10.5.2.0-24 announces it with priority 200',
    },
    { prefix: '10.5.3.0-24/x', own: false, state: 'unreadable', reason: 'the key\u001b[2J is odd' },
  ],
  more: 2,
  problem: 'etcd does not answer',
}

test('who has which prefix, who waits and why', () => {
  expect(renderPrefixes(DOCUMENT, { width: 120, colour: false }, false)).toMatchInlineSnapshot(`
"PREFIX         HOST                     PRIORITY  UNTIL                     STATE       REASON
10.5.240.7/32  10.5.2.0-24              200       -                         wins
10.5.240.7/32  10.5.1.0-24 (this host)  100       2026-11-30T14:00:00.000Z  waits       10.5.2.0-24 announces it with
                                                                                        priority 200
10.5.3.0-24/x  -                        -         -                         unreadable  the key\\x1b[2J is odd
allowed by the network config: 10.5.240.0/20
2 further keys in etcd: too many to be followed
NOT in etcd as wanted: etcd does not answer
"
`)
})

test('where there is none, it says what is allowed', () => {
  const none = { schema: 1, prefixes: [] } as const
  const screen = { width: 80, colour: false }
  expect(renderPrefixes({ ...none, prefixes: [], allowed: [] }, screen, false)).toBe(
    'no host announces a prefix\nthe network config allows none (Prefixes.Allowed)\n',
  )
  expect(renderPrefixes({ ...none, prefixes: [], allowed: ['10.5.240.0/20'] }, screen, false)).toBe(
    'no host announces a prefix\nallowed by the network config: 10.5.240.0/20\n',
  )
})

test.each([
  ['', undefined],
  ['90s', 90],
  ['10m', 600],
  ['2h', 7200],
  ['1d', 86_400],
])('--for=%s is %s seconds', (text, seconds) => expect(readSeconds(text)).toBe(seconds))

test.each(['0s', '1', 's', '1w', '-1s', '1.5h', '4000d', '999999999d'])('--for=%s is refused', (text) =>
  expect(() => readSeconds(text)).toThrow(/the flag --for is .*expected a time as in 90s/),
)

test.each([
  [false, undefined, undefined],
  [true, undefined, 1],
  [true, 255, 255],
])('--share=%s --weight=%s is the weight %s', (share, weight, expected) =>
  expect(readShare({ share, weight })).toBe(expected),
)

test.each([
  [true, 0, /--weight is 0: expected a whole number from 1 to 255/],
  [true, 256, /--weight is 256/],
  [true, 1.5, /--weight is 1\.5/],
  [false, 2, /give --share too/],
])('--share=%s --weight=%s is refused', (share, weight, reason) =>
  expect(() => readShare({ share, weight })).toThrow(reason),
)

test('those who share are shown with their weights', () => {
  const row = { prefix: '192.0.2.0/24', own: false, priority: 100, state: 'shares' } as const
  const prefixes = [
    { ...row, host: '10.5.2.0-24', share: 1 },
    { ...row, host: '10.5.3.0-24', share: 2 },
  ]
  expect(renderPrefixes({ schema: 1, allowed: [], prefixes }, { width: 100, colour: false }, false)).toBe(
    [
      'PREFIX        HOST         PRIORITY  WEIGHT  UNTIL  STATE   REASON',
      '192.0.2.0/24  10.5.2.0-24  100       1       -      shares',
      '192.0.2.0/24  10.5.3.0-24  100       2       -      shares',
      'the network config allows none (Prefixes.Allowed)',
      '',
    ].join('\n'),
  )
})
