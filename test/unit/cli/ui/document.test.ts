/** What the page shows of a status. */

import type { PeerStatus } from '../../../../src/api/status'
import { PEER_STATES } from '../../../../src/api/words'
import { makePage } from '../../../../src/cli/ui/document'
import { GROUPS } from '../../../../src/cli/ui/groups'
import { statusView } from '../../../../src/cli/verbs/views'
import { DOWN, DUAL_STACK, ENCRYPTED, plain, STATUS, WAITING, WARNED } from '../fixtures'
import { peer, statusWith } from './support'

const AT = new Date('2026-11-29T08:00:00.000Z')
const page = (peers: readonly PeerStatus[], fields = {}) => makePage(statusWith(peers, fields), AT, 'host1')
const cell = ({ head, rows }: ReturnType<typeof page>, place: number, title: string) =>
  rows[place]?.cells[head.columns.indexOf(title)]

test.each([
  ['healthy', STATUS],
  ['dual stack', DUAL_STACK],
  ['encrypted', ENCRYPTED],
  ['waiting', WAITING],
  ['warned', WARNED],
  ['down', DOWN],
])('its words are those of overlayctl status: %s', (_, status) => {
  const { head } = makePage(status, AT, 'host1')
  const text = statusView(undefined).render(status, plain(10_000), true)
  const facts = head.facts.map(({ name, text }) => `${name.padEnd(9)}${text}`.trimEnd())
  for (const line of [`state    ${head.verdict.text}`, ...facts]) expect(text).toContain(`${line}\n`)
  for (const line of [...head.problems, ...head.warnings]) expect(text).toContain(line)
  expect(facts.length + head.problems.length + head.warnings.length + 1).toBe(
    text.split('\n\n')[0]?.trimEnd().split('\n').length,
  )
})

test('each peer is in the group of the worst that is known of it, and the worst group is first', () => {
  const kinds: readonly (readonly [string, Partial<PeerStatus>])[] = [
    ['answering', {}],
    ['unknown', { probe: { reach: 'unknown' } }],
    ['path-mtu', { probe: { reach: 'answering', fullSize: 'lost', pathMtu: 1350 } }],
    ['suspect', { probe: { reach: 'suspect', fullSize: 'lost' } }],
    ['pending', { state: 'pending' }],
    ['held', { state: 'held' }],
    ['rejected', { state: 'rejected' }],
    ['none', { state: 'pending', encryption: 'none' }],
    ['failing', { state: 'failing' }],
    ['unreachable', { state: 'failing', probe: { reach: 'unreachable', layer: 'overlay' } }],
  ]
  const { head, rows } = page(kinds.map(([, fields], number) => peer(number, fields)))
  expect(rows.map(({ group }) => group)).toEqual(kinds.map(([key]) => key).reverse())
  expect(head.groups.map(({ key, count }) => `${count} ${key}`)).toEqual(
    kinds.map(([key]) => `1 ${key}`).reverse(),
  )
  // Without probing a peer is as good as its state.
  const { probe: _, ...unprobed } = peer(0)
  expect(page([unprobed]).rows[0]?.group).toBe('ok')
  // A state that no group knows would be shown as good.
  for (const state of PEER_STATES)
    expect(GROUPS.find(({ key }) => key === page([peer(0, { state })]).rows[0]?.group)?.level).toBe(
      state === 'ok' ? 'good' : state === 'failing' || state === 'rejected' ? 'bad' : 'warn',
    )
})

test('the cells are those of overlayctl peers, with the MTU and the time of the last answer', () => {
  const limited = { reach: 'answering', fullSize: 'lost', pathMtu: 1350, answeredSecondsAgo: 60 } as const
  const shown = page([peer(1), peer(2, { probe: limited }), peer(3, { probe: { reach: 'unknown' } })])
  expect(shown.head.columns).toEqual([
    'SUBNET',
    'PUBLIC IP',
    'MAC',
    'STATE',
    'REACH',
    'RTT',
    'LOSS',
    'MTU',
    'ANSWERED',
    'WHY',
  ])
  expect([0, 1, 2].map((place) => cell(shown, place, 'MTU'))).toEqual(['at most 1350', '', '1450'])
  expect(cell(shown, 0, 'WHY')).toBe('only packets of up to 1350 bytes get through')
  expect(cell(shown, 0, 'ANSWERED')).toBe('2026-11-29T07:59:00.000Z')
  expect(cell(shown, 2, 'RTT')).toBe('0.31 ms')
})

test('hosts are in the order of their addresses, and no two rows have one id', () => {
  const twins = [peer(300), peer(20), peer(9), peer(9), { ...peer(9), key: '10.5.9.0/24' }]
  const { rows } = page([...twins, peer(1, { subnet: 'fd00:5::/64' }), peer(2, { subnet: 'no subnet' })])
  expect(rows.map(({ id }) => id)).toEqual([
    ...['10.5.9.0/24', '10.5.9.0/24 #2', 'key 10.5.9.0/24', '10.5.20.0/24', '10.6.44.0/24'],
    ...['fd00:5::/64', 'no subnet'],
  ])
  expect(rows[0]).toMatchObject({ order: '40a050900', length: 24 })
  expect(rows[5]).toMatchObject({ order: '6fd000005000000000000000000000000', length: 64 })
})

test('unknown peers are said to be unknown, and are no empty network', () => {
  expect(makePage(DOWN, AT, 'host1')).toMatchObject({
    head: { unknown: expect.stringMatching(/^not known: etcd could not be asked/), groups: [] },
    rows: [],
  })
  expect(makePage(STATUS, AT, 'host1').head.unknown).toBeUndefined()
})

test('what others have written is printable', () => {
  const hostile = peer(1, {
    key: 'a\u202e\u0007',
    subnet: 'a\u202e\u0007',
    state: 'rejected',
    reason: 'x\u001b[31m',
  })
  const { rows, head } = page([hostile], { problems: ['\u0000'] })
  expect(JSON.stringify([rows, head])).not.toMatch(/\\u00|\u202e/)
  expect(rows[0]?.id).toBe('key a\\u202e\\x07')
})
