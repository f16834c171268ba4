import type { HostAddress, ObservedLink } from '../../../../src/model/kernel/link'
import type { UnderlayRoute } from '../../../../src/model/kernel/route'
import { overlapped, ownPrefixes } from '../../../../src/plan/host/host-prefixes'
import { planOwnLease } from '../../../../src/plan/lease/own-lease'
import { config, hw, ip, net } from '../support'

const link = (index: number, name: string, kind?: string): ObservedLink => ({
  index,
  name,
  mac: hw('02:00:00:00:00:01'),
  mtu: 1500,
  up: true,
  kind,
  vxlan: undefined,
})
const links = [
  link(1, 'lo'),
  link(2, 'eth1'),
  link(3, 'docker0', 'bridge'),
  link(4, 'flannel.1', 'vxlan'),
  link(5, 'veth1', 'veth'),
]
const address = (linkIndex: number, text: string, length: number): HostAddress => ({
  linkIndex,
  address: { address: ip(text), length },
  scope: 'global',
  permanent: true,
  temporary: false,
  deprecated: false,
  tentative: false,
  duplicate: false,
})
const route = (destination: string, linkIndex: number): UnderlayRoute => ({
  destination: net(destination),
  metric: 0,
  linkIndex,
  hasGateway: true,
})
const prefixesOf = (addresses: HostAddress[], routes: UnderlayRoute[]): string[] =>
  ownPrefixes(config(), { links, addresses }, routes).map(({ what }) => what)

test('prefixes inside the network are listed by interface, without our devices and containers', () => {
  expect(
    prefixesOf(
      [
        address(2, '10.5.64.10', 18),
        address(2, '192.0.2.1', 24),
        address(3, '10.5.7.1', 24),
        address(3, '10.5.128.1', 17),
        address(4, '10.5.7.0', 32),
        // An address as the CNI plugin ptp makes it for a container.
        address(5, '10.5.7.1', 32),
        address(5, '10.5.200.1', 26),
      ],
      [
        route('10.5.7.9/32', 5),
        route('10.5.32.0/20', 2),
        route('0.0.0.0/0', 2),
        route('10.0.0.0/8', 2),
        route('10.5.9.0/24', 4),
      ],
    ),
  ).toEqual([
    '10.5.64.0/18, which is on eth1',
    '10.5.128.0/17, which is on docker0',
    '10.5.200.0/26, which is on veth1',
    '10.5.32.0/20, to which a route leads over eth1',
  ])
})

test('a subnet inside such a prefix is taken only if no other is free', () => {
  const own = ownPrefixes(config(), { links, addresses: [address(2, '10.5.64.10', 18)] }, [])
  const avoid = own.map(({ prefix }) => prefix)
  const previous = { ipv4: net('10.5.66.0/24'), ipv6: undefined }
  expect(overlapped(previous, own)?.what).toBe('10.5.64.0/18, which is on eth1')
  const plan = (more: object, random: number) =>
    planOwnLease(
      config({ Network: '10.5.0.0/16', ...more }),
      [],
      { publicIp: ip('192.168.77.1'), previous, refused: [], avoid },
      () => random,
    )
  for (const random of [0, 0.3, 0.5, 0.999]) {
    const chosen = plan({}, random)
    expect(chosen.kind === 'create' && overlapped(chosen.subnet, own)).toBeUndefined()
  }
  expect(plan({ SubnetMin: '10.5.64.0', SubnetMax: '10.5.127.0' }, 0)).toMatchObject({
    kind: 'create',
    subnet: previous,
  })
})

test('the bridge of the containers is no overlap, even with a larger subnet than the config has', () => {
  const own = ownPrefixes(
    config({ Network: '10.5.0.0/16', SubnetLen: 25 }),
    { links, addresses: [address(3, '10.5.66.1', 24)] },
    [],
  )
  expect(own.map(({ isBridge }) => isBridge)).toEqual([true])
  const subnet = (text: string) => ({ ipv4: net(text), ipv6: undefined })
  expect(overlapped(subnet('10.5.66.0/24'), own)).toBeUndefined()
  expect(overlapped(subnet('10.5.66.0/25'), own)?.what).toBe('10.5.66.0/24, which is on docker0')
})
