/** Which failures of a start are waited out. */
import { obstacleOf } from '../../../../src/daemon/start/obstacle'
import { OverlayError } from '../../../../src/model/errors'

test.each(['no-vxlan', 'no-wireguard', 'table-taken', 'port-in-use'])(
  'a device that cannot be made now is tried again: %s',
  (code) => {
    const obstacle = obstacleOf(new OverlayError(code, 'the kernel has none'), false)
    expect(obstacle).toMatchObject({ kind: 'device-problem', level: 'error', retry: { first: 1000 } })
  },
)

test('a failure that no time cures ends the daemon', () => {
  expect(obstacleOf(new OverlayError('mtu-too-small', 'the MTU is 68'), false)).toBeUndefined()
  expect(obstacleOf(new Error('a defect'), true)).toBeUndefined()
})
