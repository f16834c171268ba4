import type { InterfaceAddress, ObservedLink } from '../../../../src/model/kernel/link'
import { staleDevices, staleLinks, staleTunnels } from '../../../../src/plan/reconcile/stale-links'
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

describe('WireGuard devices of another VNI', () => {
  const tunnel = (index: number, name: string, kind = 'wireguard'): ObservedLink =>
    ({ index, name, kind }) as unknown as ObservedLink
  const at = (index: number) => address(index, net('10.5.9.0/32'))

  test('are stale if they have the address of a subnet of this network', () => {
    const links = [tunnel(3, 'fl-wg.7'), tunnel(4, 'fl-wgb.7'), tunnel(5, 'fl-wg.1'), tunnel(6, 'fl-wg.8')]
    const addresses = [at(3), at(4), at(5), address(6, net('10.6.9.0/32'))]
    expect(staleTunnels(config(), links, addresses)).toEqual([7])
  })

  test('without an address are stale if the VXLAN device of their VNI is', () => {
    const links = [link(3, 'flannel-v6.7', 7), tunnel(4, 'fl-wg.7')]
    expect(staleTunnels(dualConfig(), links, [address(3, net6('fd00:5:0:9::/128'))])).toEqual([7])
    expect(staleTunnels(dualConfig(), links, [])).toEqual([])
  })

  test('are those by kind and name alone', () => {
    expect(staleTunnels(config(), [tunnel(3, 'wg0'), tunnel(4, 'fl-wg.7', 'dummy')], [at(3), at(4)])).toEqual(
      [],
    )
  })
})

test('the device of each family succeeds those of its family; the first, those of a family that went', () => {
  const links = [link(3, 'flannel.7', 7), link(4, 'flannel-v6.1', 1), link(5, 'flannel-v6.7', 7)]
  const addresses = [address(3, net('10.5.9.0/32')), address(5, net6('fd00:5:0:9::/128'))]
  const succeeded = (of: Parameters<typeof staleDevices>[0]) =>
    [...staleDevices(of, { links, addresses }).links].map(([family, found]) => [
      family,
      ...found.map(({ name }) => name),
    ])
  expect(succeeded(dualConfig())).toEqual([
    ['IPv4', 'flannel.7'],
    ['IPv6', 'flannel-v6.7'],
  ])
  // The address of flannel-v6.7 is in no network of this config.
  expect(succeeded(config())).toEqual([['IPv4', 'flannel.7', 'flannel-v6.1']])
})
