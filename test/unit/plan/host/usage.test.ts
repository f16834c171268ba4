import type { InterfaceAddress, ObservedLink } from '../../../../src/model/kernel/link'
import { bridgesOf, useOf } from '../../../../src/plan/host/usage'
import { hw, ip, net } from '../support'

const link = (index: number, name: string, more: Partial<ObservedLink> = {}): ObservedLink => ({
  index,
  name,
  mac: hw('02:00:00:00:00:01'),
  mtu: 1450,
  up: true,
  kind: undefined,
  vxlan: undefined,
  ...more,
})
const address = (linkIndex: number, text: string): InterfaceAddress => ({
  linkIndex,
  address: net(text),
  scope: 'global',
})

const subnet = net('10.5.7.0/24')
const bridge = link(5, 'docker0', { kind: 'bridge' })
const links = [
  link(2, 'eth0'),
  link(3, 'flannel.1', { kind: 'vxlan' }),
  bridge,
  link(6, 'veth1', { master: 5 }),
  link(7, 'veth2', { master: 9 }),
]
const addresses = [address(2, '192.168.77.11/24'), address(3, '10.5.7.0/32'), address(5, '10.5.7.1/24')]

test('a bridge is recognised by an address in the subnet; our own device is not one', () => {
  expect(bridgesOf([subnet], links, addresses)).toEqual([{ link: bridge, subnet }])
  expect(bridgesOf([net('10.5.8.0/24')], links, addresses)).toEqual([])
})

test('its users are its ports, and neighbours with an address of the subnet', () => {
  const mac = hw('02:42:0a:05:07:02')
  const neighbours = ['10.5.7.12', '10.5.7.2', '172.17.0.2'].map((text) => ({ address: ip(text), mac }))
  expect(useOf({ link: bridge, subnet }, links, neighbours)).toEqual({
    bridge: 'docker0',
    subnet,
    ports: ['veth1'],
    addresses: [
      { address: ip('10.5.7.2'), mac },
      { address: ip('10.5.7.12'), mac },
    ],
  })
})
