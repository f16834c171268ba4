import { sortPeers } from '../../../../src/api/peer-order'
import { BRIEF_PEERS } from '../../../../src/api/words'
import { queryPeers } from '../../../../src/cli/ask/peer-query'
import { renderStatus } from '../../../../src/cli/show/render-status'
import {
  DOWN,
  DRAINED,
  DUAL_STACK,
  ENCRYPTED,
  MULTICAST,
  plain,
  STATUS,
  UNABLE,
  WAITING,
  WARNED,
  WIDTHS,
} from '../fixtures'

describe.each(WIDTHS)('in %i columns', (width) => {
  test.each([
    ['a healthy host', STATUS],
    ['one of both families', DUAL_STACK],
    ['one with multicast', MULTICAST],
    ['one with encryption', ENCRYPTED],
    ['one that cannot encrypt', UNABLE],
    ['a drained one', DRAINED],
    ['one whose daemon is down', DOWN],
    ['one that waits', WAITING],
    ['one with a warning and a long key', WARNED],
  ])('%s', (_what, status) => {
    const text = renderStatus(status, { screen: plain(width) })
    expect(text).toMatchSnapshot()
    expect(Math.max(...text.split('\n').map((line) => line.length))).toBeLessThanOrEqual(width)
  })
})

test('a pipe and -o wide break no lines and omit nothing', () => {
  const whole =
    'failing   cannot add the route to 10.5.14.0/24 via 10.5.14.0 proto 79: a route of someone else is there'
  const inPipe = renderStatus(STATUS, { screen: plain(Number.POSITIVE_INFINITY) })
  expect(inPipe).toContain(whole)
  expect(renderStatus(STATUS, { screen: plain(60), wide: true })).toBe(inPipe)
})

test('problems come right after the state, and long ones continue on the next lines', () => {
  const text = renderStatus(
    { ...STATUS, state: 'degraded', problems: ['etcd: gone', `lease: ${'words '.repeat(15).trim()}`] },
    { screen: plain(60) },
  )
  expect(text.split('\n').slice(0, 5)).toEqual([
    'state    DEGRADED',
    '         ! etcd: gone',
    '         ! lease: words words words words words words words',
    '           words words words words words words words words',
    'daemon   overlayd 0.1.0, running, process 17, up 1 h 2 min',
  ])
})

const more = Array.from({ length: 50 }, (_, i) => ({
  subnet: `10.5.${i + 100}.0/24`,
  publicIp: `192.168.78.${i}`,
  mac: '02:00:00:00:00:ff',
  state: 'ok' as const,
}))
const many = { ...STATUS, peers: [...more, ...STATUS.peers] }

test('of many peers the worst are shown, with the command for all; a query shows its results', () => {
  const text = renderStatus(many, { screen: plain(120) })
  expect(text.split('\n').length).toBeLessThan(24)
  expect(text).toContain('peers    52 ok, 1 failing, 1 rejected')
  expect(text).toMatch(/and 46 more: overlayctl peers\n$/)
  expect(text.indexOf('failing ')).toBeLessThan(text.indexOf('rejected '))
  const asked = queryPeers(many.peers, { states: ['pending'], match: '', sort: 'state' })
  expect(renderStatus(many, { screen: plain(120), peers: asked })).toMatch(/\nno peer matches\n$/)
})

test('a brief document looks like the full one', () => {
  const brief = {
    ...many,
    peers: sortPeers(many.peers, 'state').slice(0, BRIEF_PEERS),
    peerCounts: { ok: 52, failing: 1, rejected: 1 },
  }
  const screen = plain(120)
  expect(renderStatus(brief, { screen })).toBe(renderStatus(many, { screen }))
})

test('output is coloured only on request', () => {
  const screen = { width: 100, colour: true }
  expect(renderStatus(STATUS, { screen: plain(100) })).not.toContain('\u001b')
  expect(renderStatus(STATUS, { screen })).toContain('\u001b')
  // Without the colours the text is the same.
  const escapes = new RegExp(`${'\u001b'}\\[\\d+m`, 'g')
  expect(renderStatus(DRAINED, { screen }).replace(escapes, '')).toBe(
    renderStatus(DRAINED, { screen: plain(100) }),
  )
})
