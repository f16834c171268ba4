import type { ObservedLink } from '../../../../src/model/kernel/link'
import { checkMtu } from '../../../../src/plan/config/check-mtu'
import type { Underlay } from '../../../../src/plan/host/underlay'
import { config, dualConfig, ip, ip6 } from '../support'

const underlay = (mtu: number, carrier?: Underlay['carrier']): Underlay => ({
  link: { name: 'eth0', index: 2, mtu } as unknown as ObservedLink,
  ipv4: { local: ip('192.168.77.11'), public: ip('192.168.77.11') },
  ipv6: { local: ip6('fd77::11'), public: ip6('fd77::11') },
  carrier,
})

test.each([
  ['IPv4 and room for 68 bytes', config(), 118],
  ['both families and room for 1280 bytes', dualConfig(), 1350],
])('%s is enough', (_, network, mtu) => expect(() => checkMtu(network, underlay(mtu))).not.toThrow())

test('one byte less is refused, with the size that is needed', () => {
  expect(() => checkMtu(config(), underlay(117))).toThrow(
    expect.objectContaining({
      code: 'config-invalid',
      message: 'an IPv4 overlay needs 68 bytes, but the MTU 117 of eth0 leaves 67',
      fix: 'raise it to 118 or more',
    }),
  )
  expect(() => checkMtu(dualConfig(), underlay(1349))).toThrow(
    /an IPv6 overlay needs 1280 bytes.*leaves 1279/,
  )
})

test('a Backend.MTU that is too small is named as the reason', () => {
  const small = dualConfig({ Backend: { Type: 'vxlan', MTU: 1300 } })
  expect(() => checkMtu(small, underlay(1500))).toThrow(/but Backend\.MTU 1300 leaves 1230/)
  // A Backend.MTU above that of the underlay has no effect.
  expect(() => checkMtu(dualConfig({ Backend: { Type: 'vxlan', MTU: 9000 } }), underlay(1500))).not.toThrow()
})

test('the link that limits the packet size is named, if it is not the interface', () => {
  expect(() => checkMtu(dualConfig(), underlay(65_536, { name: 'wg0', mtu: 1200 }))).toThrow(
    /the MTU 1200 of wg0/,
  )
})
