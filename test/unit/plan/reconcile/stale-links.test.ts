import type { InterfaceAddress, ObservedLink } from '../../../../src/model/kernel/link'
import { staleLinks } from '../../../../src/plan/reconcile/stale-links'
import { config, dualConfig, net, net6 } from '../support'

const link = (index: number, name: string, vni?: number): ObservedLink =>
  ({ index, name, ...(vni !== undefined && { vxlan: { vni } }) }) as unknown as ObservedLink
const address = (linkIndex: number, prefix: InterfaceAddress['address']): InterfaceAddress =>
  ({ linkIndex, address: prefix, scope: 'global' }) as InterfaceAddress

const names = (...found: ReturnType<typeof staleLinks>) =>
  found.map(({ family, link: { name } }) => [family, name])

test('a device of the present config is not stale', () => {
  expect(staleLinks(dualConfig(), [link(3, 'flannel.1', 1), link(4, 'flannel-v6.1', 1)], [])).toEqual([])
})

test('a device of a family that the network no longer has is stale', () => {
  const found = staleLinks(config(), [link(3, 'flannel.1', 1), link(4, 'flannel-v6.1', 1)], [])
  expect(names(...found)).toEqual([['IPv6', 'flannel-v6.1']])
})

test('a device of another VNI is stale if it has the address of a subnet of this network', () => {
  const links = [link(3, 'flannel.7', 7)]
  expect(names(...staleLinks(config(), links, [address(3, net('10.5.9.0/32'))]))).toEqual([
    ['IPv4', 'flannel.7'],
  ])
  // The device of another network on this host.
  expect(staleLinks(config(), links, [address(3, net('10.6.9.0/32'))])).toEqual([])
  expect(staleLinks(config(), links, [])).toEqual([])
  // An address with a prefix other than /32 is not that of a device of ours.
  expect(staleLinks(config(), links, [address(3, net('10.5.9.0/24'))])).toEqual([])
})

test('a device that only has a name like ours is not touched', () => {
  const ours = [address(3, net('10.5.9.0/32')), address(3, net6('fd00:5:0:9::/128'))]
  expect(staleLinks(dualConfig(), [link(3, 'flannel.7')], ours)).toEqual([])
  expect(staleLinks(dualConfig(), [link(3, 'flannel.7', 8)], ours)).toEqual([])
  expect(staleLinks(dualConfig(), [link(3, 'vxlan7', 7)], ours)).toEqual([])
})
