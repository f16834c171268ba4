import type { HostNetwork, InterfaceAddress, ObservedLink } from '../../../src/model/kernel'
import { checkUnderlayOutside, chooseUnderlay } from '../../../src/plan/underlay'
import { config, hw, ip, net } from './support'

const link = (index: number, name: string, mtu = 1500): ObservedLink => ({
  index,
  name,
  mac: hw('02:00:00:00:00:01'),
  mtu,
  up: true,
  kind: undefined,
  vxlan: undefined,
})

const address = (linkIndex: number, text: string, scope: InterfaceAddress['scope'] = 'global') => ({
  linkIndex,
  address: net(text),
  scope,
})

const host: HostNetwork = {
  links: [link(1, 'lo', 65536), link(2, 'eth0'), link(3, 'eth1', 9000), link(4, 'bare')],
  addresses: [
    address(1, '127.0.0.1/8', 'host'),
    address(2, '169.254.7.7/16', 'link'),
    address(2, '192.168.77.11/24'),
    address(2, '192.168.77.12/24'),
    address(3, '198.51.100.3/24'),
  ],
  defaultRoutes: [{ linkIndex: 3 }, { linkIndex: 2 }],
}

const choose = (iface: string[], publicIp?: string, on = host) => {
  const { link: chosen, ipv4 } = chooseUnderlay(on, {
    iface,
    publicIp: publicIp === undefined ? undefined : ip(publicIp),
  })
  return { name: chosen.name, local: ipv4?.local, announced: ipv4?.public }
}

test('by default, the first default route decides', () => {
  expect(choose([])).toEqual({ name: 'eth1', local: ip('198.51.100.3'), announced: ip('198.51.100.3') })
})

test('an interface is found by name, and its global address comes before its link-local one', () => {
  expect(choose(['eth0'])).toEqual({
    name: 'eth0',
    local: ip('192.168.77.11'),
    announced: ip('192.168.77.11'),
  })
})

test('an interface is found by any of its addresses, which is then the one in use', () => {
  expect(choose(['192.168.77.12'])).toMatchObject({ name: 'eth0', local: ip('192.168.77.12') })
})

test('the first usable of several counts', () => {
  expect(choose(['eth9', 'bare', '10.0.0.1', 'eth0', 'eth1'])).toMatchObject({ name: 'eth0' })
})

test('a public address of this host chooses its interface', () => {
  expect(choose([], '192.168.77.12')).toEqual({
    name: 'eth0',
    local: ip('192.168.77.12'),
    announced: ip('192.168.77.12'),
  })
})

test('behind NAT, packets are sent from an address the host has, and the public one is announced', () => {
  expect(choose(['eth0'], '203.0.113.9')).toEqual({
    name: 'eth0',
    local: ip('192.168.77.11'),
    announced: ip('203.0.113.9'),
  })
})

test('a second address of the interface can be the public one', () => {
  expect(choose(['eth0'], '192.168.77.12')).toMatchObject({
    local: ip('192.168.77.12'),
    announced: ip('192.168.77.12'),
  })
})

test.each([
  [['eth9'], undefined, 'there is no interface eth9'],
  [['bare'], undefined, 'interface bare has no IPv4 address'],
  [['10.9.9.9'], undefined, 'no interface has the address 10.9.9.9'],
  [[], '203.0.113.9', 'public-ip 203.0.113.9 is not an address of this host'],
])('%j with public-ip %s is an error that says what the host has', (iface, publicIp, message) => {
  const act = () => choose(iface, publicIp)
  expect(act).toThrow(message)
  expect(act).toThrow(
    expect.objectContaining({ fix: expect.stringContaining('eth0 (169.254.7.7, 192.168.77.11') }),
  )
})

test('no default route, or one over several links, decides nothing', () => {
  expect(() => choose([], undefined, { ...host, defaultRoutes: [] })).toThrow('there is no default route')
  expect(() => choose([], undefined, { ...host, defaultRoutes: [{ linkIndex: undefined }] })).toThrow(
    'multipath',
  )
})

test('a network that covers the underlay is refused', () => {
  const underlay = chooseUnderlay(host, { iface: ['eth0'], publicIp: undefined })
  expect(() => checkUnderlayOutside(config({ Network: '192.168.0.0/16' }), underlay)).toThrow(
    "Network 192.168.0.0/16 contains 192.168.77.11, this host's own address on eth0",
  )
  expect(() => checkUnderlayOutside(config(), underlay)).not.toThrow()
})
