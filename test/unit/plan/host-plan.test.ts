/** The plan that follows from config, underlay, lease and options. */
import type { NetworkConfig } from '../../../src/model/config/network-config'
import type { ObservedLink } from '../../../src/model/kernel/link'
import type { Underlay } from '../../../src/plan/host/underlay'
import { type HostInputs, type HostPolicy, planDevices, planHost } from '../../../src/plan/host-plan'
import { config, dualConfig, hw, ip, ip6, net, net6 } from './support'

const eth = (index: number, mtu = 1500): ObservedLink =>
  ({ name: `eth${index}`, index, mtu, kind: undefined, loopback: false, up: true }) as unknown as ObservedLink

const underlay = (fields: Partial<Underlay> = {}): Underlay => ({
  link: eth(0),
  ipv4: { local: ip('192.168.77.11'), public: ip('192.168.77.11') },
  ipv6: { local: ip6('fd77::11'), public: ip6('fd77::11') },
  carrier: undefined,
  ...fields,
})

const POLICY: HostPolicy = {
  ipMasq: true,
  fullyRandom: true,
  forwardRules: true,
  dockerMark: undefined,
  forward: true,
  blackhole: true,
  scope: undefined,
}

const inputs = (fields: Partial<HostInputs> = {}): HostInputs => ({
  config: dualConfig(),
  underlay: underlay(),
  macs: { ipv4: hw('02:00:00:00:00:01'), ipv6: hw('02:00:00:00:06:01') },
  lease: { ipv4: net('10.5.7.0/24'), ipv6: net6('fd00:5:0:7::/64') },
  policy: POLICY,
  ability: undefined,
  ...fields,
})

const backend = (fields: object): NetworkConfig => dualConfig({ Backend: { Type: 'vxlan', ...fields } })

test('one plan has devices, firewall, lease value and subnet.env for both families', () => {
  const plan = planHost(inputs())
  expect(
    plan.overlays.map(({ family, link, subnet, publicIp }) => [family, link.name, subnet, publicIp]),
  ).toEqual([
    ['IPv4', 'flannel.1', net('10.5.7.0/24'), ip('192.168.77.11')],
    ['IPv6', 'flannel-v6.1', net6('fd00:5:0:7::/64'), ip6('fd77::11')],
  ])
  expect(plan.firewall).toEqual({
    mode: 'iptables',
    networks: [
      { network: net('10.5.0.0/16'), subnet: net('10.5.7.0/24'), link: 'flannel.1' },
      { network: net6('fd00:5::/48'), subnet: net6('fd00:5:0:7::/64'), link: 'flannel-v6.1' },
    ],
    ipMasq: true,
    fullyRandom: true,
    forwardRules: true,
    dockerMark: undefined,
  })
  expect(plan.announced).toMatchObject({
    publicIp: ip('192.168.77.11'),
    vtep: { vni: 1, mac: hw('02:00:00:00:00:01') },
    vtep6: { vni: 1, mac: hw('02:00:00:00:06:01') },
  })
  // 70 bytes of headers over IPv6 (RFC 7348).
  expect(plan.subnetFile).toMatchObject({ mtu: 1430, ipMasq: true })
  expect(plan.multicast).toBeUndefined()
})

test('a network of one family has no part of the other family', () => {
  const plan = planHost(inputs({ config: config(), lease: { ipv4: net('10.5.7.0/24'), ipv6: undefined } }))
  expect(plan.overlays).toHaveLength(1)
  expect(plan.subnetFile).toMatchObject({ mtu: 1450, ipv6: undefined })
  expect(plan.announced.vtep6).toBeUndefined()
})

test('multicast has a device beside that of the first family', () => {
  const plan = planHost(inputs({ config: backend({ Multicast: true, MulticastVNI: 9 }) }))
  expect(plan.multicast).toMatchObject({
    link: { name: 'fl-mc.1', vni: 9, local: ip('192.168.77.11') },
    networks: [net('10.5.0.0/16'), net6('fd00:5::/48')],
    subnets: [net('10.5.7.0/24'), net6('fd00:5:0:7::/64')],
  })
})

test('another underlay changes the addresses of the devices and of the lease, not MACs and subnets', () => {
  const before = planHost(inputs())
  const moved = underlay({
    link: eth(5, 9000),
    ipv4: { local: ip('192.168.88.11'), public: ip('203.0.113.1') },
  })
  const plan = planHost({ ...before.inputs, underlay: moved }, before)
  expect(plan.overlays[0]).toMatchObject({
    publicIp: ip('203.0.113.1'),
    link: { local: ip('192.168.88.11'), parent: 5, mtu: 8950, mac: hw('02:00:00:00:00:01') },
  })
  expect(plan.announced.publicIp).toBe(ip('203.0.113.1'))
})

test('a family whose underlay address is gone keeps its device, and the other family moves', () => {
  const before = planHost(inputs())
  const plan = planHost(
    {
      ...before.inputs,
      underlay: { link: eth(5, 9000), ipv4: underlay().ipv4, ipv6: undefined, carrier: undefined },
    },
    before,
  )
  expect(plan.overlays[1]?.link).toEqual(before.overlays[1]?.link)
  expect(plan.overlays[1]?.publicIp).toBe(ip6('fd77::11'))
  expect(plan.overlays[0]?.link.parent).toBe(5)
})

test('a family that has neither an address nor a device is refused', () => {
  expect(() => planDevices(inputs({ underlay: { ...underlay(), ipv6: undefined } }))).toThrow(
    /eth0 has no IPv6 address/,
  )
})

describe('without a port in the config', () => {
  test('a device may keep the port that it was found with', () => {
    expect(planDevices(inputs())[0]?.link.port).toBeUndefined()
  })

  test('a device that had the port of a former config goes back to the kernel’s, and stays there', () => {
    const before = planHost(inputs({ config: backend({ Port: 4789 }) }))
    const after = planHost({ ...before.inputs, config: dualConfig() }, before)
    expect(after.overlays[0]?.link.port).toBe(8472)
    const later = planHost({ ...after.inputs, underlay: underlay({ link: eth(5) }) }, after)
    expect(later.overlays[0]?.link.port).toBe(8472)
  })
})
