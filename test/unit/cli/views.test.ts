import { readPeerQuery } from '../../../src/cli/peer-query'
import type { View } from '../../../src/cli/status'
import {
  leaseDocumentSchema,
  leaseView,
  peersDocumentSchema,
  peersView,
  statusView,
} from '../../../src/cli/views'
import { type Status, statusSchema } from '../../../src/daemon/status'
import { DOWN, DRAINED, DUAL_STACK, plain, STATUS, WIDTHS } from './fixtures'

const now = () => new Date('2026-11-28T18:45:12Z')
const all = readPeerQuery({})

describe.each(WIDTHS)('in %i columns', (width) => {
  const shown = <Document>(view: View<Document>, status: Status) => view.render(status, plain(width), false)

  test('peers', () => {
    expect(shown(peersView(all), STATUS)).toMatchSnapshot()
    expect(shown(peersView(readPeerQuery({ state: 'rejected' })), STATUS)).toMatchSnapshot()
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

test('what is printed for programs is what its schema says', () => {
  expect(peersDocumentSchema.parse(peersView(all).document(STATUS))).toMatchObject({ schema: 1, total: 4 })
  for (const status of [STATUS, DUAL_STACK, DRAINED, DOWN]) {
    expect(leaseDocumentSchema.parse(leaseView().document(status)).lease).toEqual(status.lease)
    expect(statusSchema.parse(statusView(undefined).document(status))).toEqual(status)
  }
  const some = statusView(readPeerQuery({ match: '10.5.13.' })).document(STATUS)
  expect(some.peers.map(({ subnet }) => subnet)).toEqual(['10.5.13.0/24'])
})

test('exit codes: 0 as it should be, 1 not, 2 no answer', () => {
  const codes = (status: Status) => [
    statusView(undefined).exitCode(status),
    peersView(all).exitCode(status),
    leaseView().exitCode(status),
  ]
  expect(codes(STATUS)).toEqual([0, 0, 0])
  expect(codes(DRAINED)).toEqual([1, 0, 1])
  expect(codes(DOWN)).toEqual([2, 2, 2])
})
