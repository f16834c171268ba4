import { constants } from 'node:os'
import { causeOf, errnoOf, failuresOf } from '../../../src/kernel/failures'
import { NetlinkError } from '../../../src/kernel/netlink/errors'
import { ipv4, mac } from '../../../src/model/address'
import { OverlayError } from '../../../src/model/errors'
import { remove, set, to } from '../../support/operations'

const { EEXIST, ENODEV, ENOENT, EPERM, ESRCH, EINVAL } = constants.errno
const refusal = (errno: number) => new NetlinkError(errno, 'x')

test.each([
  [EEXIST, 'taken'],
  [ENOENT, 'gone'],
  [ESRCH, 'gone'],
  [ENODEV, 'gone'],
  [EPERM, 'refused'],
  [EINVAL, 'refused'],
])('errno %d: %s', (errno, cause) => {
  expect(causeOf(refusal(errno))).toBe(cause)
})

test('only a deletion can find its work done', () => {
  const entry = [mac(0x020000000002), to(ipv4(0xc0000202))] as const
  const [setting, removing] = [set('fdb', ...entry), remove('fdb', ...entry)]
  expect(
    failuresOf([
      { item: removing, error: refusal(ENOENT) },
      { item: setting, error: refusal(ENOENT) },
      { item: removing, error: refusal(EPERM) },
    ]),
  ).toMatchObject([
    { operation: setting, cause: 'gone', errno: 'ENOENT' },
    { operation: removing, cause: 'refused', errno: 'EPERM' },
  ])
})

test('the errno of an error is that of the refusal that it explains', () => {
  const explained = new OverlayError('route-taken', 'no', 'x', { cause: refusal(EEXIST) })
  expect(errnoOf(explained)).toBe('EEXIST')
  expect(errnoOf(refusal(524))).toBe('errno-524')
  expect([errnoOf(new Error('x')), errnoOf('x')]).toEqual([undefined, undefined])
})
