import { leaseDocumentSchema, peersDocumentSchema } from '../../../../src/api/documents'
import { type Status, statusSchema } from '../../../../src/api/status'
import { readPeerQuery } from '../../../../src/cli/ask/peer-query'
import type { View } from '../../../../src/cli/show/view'
import { leaseView, peersView, statusView } from '../../../../src/cli/verbs/views'
import { DOWN, DRAINED, DUAL_STACK, ENCRYPTED, plain, STATUS, UNABLE, WIDTHS } from '../fixtures'

const now = () => new Date('2026-11-28T18:45:12Z')
const all = readPeerQuery({})

describe.each(WIDTHS)('in %i columns', (width) => {
  const shown = <Document>(view: View<Document>, status: Status) => view.render(status, plain(width), false)

  test('peers', () => {
    expect(shown(peersView(all), STATUS)).toMatchSnapshot()
    expect(shown(peersView(readPeerQuery({ state: 'rejected' })), STATUS)).toMatchSnapshot()
    expect(shown(peersView(all), ENCRYPTED)).toMatchSnapshot()
  })

  test.each([
    ['held', STATUS],
    ['reserved, in both families', DUAL_STACK],
    ['drained', DRAINED],
    ['not there', DOWN],
  ])('a lease that is %s', (_what, status) => {
    expect(shown(leaseView(now), status)).toMatchSnapshot()
  })
})

test('output for programs follows its schema', () => {
  expect(peersDocumentSchema.parse(peersView(all).document(STATUS))).toMatchObject({ schema: 1, total: 4 })
  for (const status of [STATUS, DUAL_STACK, ENCRYPTED, UNABLE, DRAINED, DOWN]) {
    expect(leaseDocumentSchema.parse(leaseView().document(status)).lease).toEqual(status.lease)
    expect(statusSchema.parse(statusView(undefined).document(status))).toEqual(status)
  }
  const some = statusView(readPeerQuery({ match: '10.5.13.' })).document(STATUS)
  expect(some.peers.map(({ subnet }) => subnet)).toEqual(['10.5.13.0/24'])
})

test('an address behind an announced prefix: its host, and the way there, for people and programs', () => {
  const view = peersView(readPeerQuery({ match: '10.5.240.7' }))
  const hosts = [{ host: '10.5.13.0-24', own: false, via: 'br-moving' }]
  const where = { behind: { prefix: '10.5.240.7/32', hosts } }
  expect(view.sought).toBe('10.5.240.7')
  expect(peersDocumentSchema.parse(view.document(STATUS, where))).toMatchObject({
    peers: [{ subnet: '10.5.13.0/24' }],
    behind: where.behind,
  })
  const said = '10.5.240.7 is in the announced prefix 10.5.240.7/32 of 10.5.13.0/24 (via br-moving)'
  expect(view.render(STATUS, plain(120), false, where)).toContain(`\n\n${said}\n1 ok of 4 peers\n`)
  const status = statusView(readPeerQuery({ match: '10.5.240.7' }))
  expect(status.render(STATUS, plain(120), false, where)).toContain(said)
  expect(view.document(STATUS, { unknown: 'no answer' }).behindUnknown).toBe('no answer')
})

test('peers have a column for encryption only in a network that has it', () => {
  const shown = (status: Status) => peersView(all).render(status, plain(120), false)
  expect(shown(ENCRYPTED)).toContain('ENCRYPTION')
  expect(shown(STATUS)).not.toContain('ENCRYPTION')
  const cut = peersView(readPeerQuery({ match: 'announces no key' })).document(ENCRYPTED)
  expect(cut.peers.map(({ subnet }) => subnet)).toEqual(['10.5.9.0/24'])
})

test('exit codes: 0 healthy, 1 degraded, 2 no answer', () => {
  const codes = (status: Status) => [
    statusView(undefined).exitCode(status),
    peersView(all).exitCode(status),
    leaseView().exitCode(status),
  ]
  expect(codes(STATUS)).toEqual([0, 0, 0])
  expect(codes(DRAINED)).toEqual([1, 0, 1])
  expect(codes(DOWN)).toEqual([2, 2, 2])
})
