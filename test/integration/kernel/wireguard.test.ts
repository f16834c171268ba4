/** WireGuard on the kernel of this machine, which may lack it; test/guest has the tests of what it does. */
import type { Kernel } from '../../../src/kernel/kernel'
import { WireguardDevices } from '../../../src/kernel/wireguard/devices'
import { openKernel, removeDevice, reported, requireSandbox, run } from './network'

const NAME = 'fl-wg.1'
let kernel: Kernel

beforeAll(async () => {
  requireSandbox()
  kernel = await openKernel()
})

afterAll(() => {
  kernel.close()
  expect(reported).toEqual([])
})

/** Whether the kernel makes such a device for `ip`. */
function hasWireguard(): boolean {
  try {
    run('ip link add probe0 type wireguard')
  } catch {
    return false
  }
  run('ip link delete probe0')
  return true
}

test('a kernel has WireGuard, or says that it has none', async () => {
  const has = hasWireguard()
  const opened = await WireguardDevices.open(kernel, (error) => reported.push(error))
  const made = await kernel.applyLink({ kind: 'create-wireguard', link: { name: NAME, mtu: 1440 } }).then(
    () => 'made',
    (error) => `${error.code}: ${error.message}`,
  )
  const kind = (await kernel.link(NAME))?.kind
  await removeDevice(kernel, NAME)
  opened?.close()
  expect([opened !== undefined, made, kind]).toEqual(
    has
      ? [true, 'made', 'wireguard']
      : [false, `no-wireguard: cannot create ${NAME}: this kernel has no WireGuard devices`, undefined],
  )
})
