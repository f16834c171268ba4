/** The encryption that follows from config, lease and keys, as a part of the plan of a host. */
import type { NetworkConfig } from '../../../../src/model/config/network-config'
import type { ObservedLink } from '../../../../src/model/kernel/link'
import {
  type Ability,
  wireguardLinkName,
  wireguardTable,
} from '../../../../src/plan/encryption/encryption-plan'
import type { Underlay } from '../../../../src/plan/host/underlay'
import { planHost } from '../../../../src/plan/host-plan'
import { config, dualConfig, hw, ip, ip6, net, net6 } from '../support'
import { key } from './support'

const ABLE: Ability = { kind: 'able', turn: 1, port: 51_820, keys: [key(1), key(2)] }
const UNABLE: Ability = {
  kind: 'unable',
  reason: 'the kernel of this host has no WireGuard',
  fix: 'boot another',
}

const eth = { name: 'eth0', index: 2, mtu: 1500, kind: undefined, up: true } as unknown as ObservedLink
const UNDERLAY: Underlay = {
  link: eth,
  ipv4: { local: ip('192.168.77.11'), public: ip('192.168.77.11') },
  ipv6: { local: ip6('fd77::11'), public: ip6('fd77::11') },
}

const plan = (network: NetworkConfig, ability: Ability | undefined, underlay: Underlay = UNDERLAY) =>
  planHost({
    config: network,
    underlay,
    macs: { ipv4: hw('02:00:00:00:00:01'), ipv6: hw('02:00:00:00:06:01') },
    lease: {
      ipv4: network.ipv4 && net('10.5.7.0/24'),
      ipv6: network.ipv6 && net6('fd00:5:0:7::/64'),
    },
    policy: {
      ipMasq: false,
      fullyRandom: true,
      forwardRules: true,
      dockerMark: undefined,
      forward: true,
      blackhole: true,
      scope: undefined,
    },
    ability,
  })

const backend = (fields: object) => ({ Backend: { Type: 'vxlan', ...fields } })
const prefer = config({ Network: '10.5.0.0/16', ...backend({ Encryption: 'prefer' }) })
const required = config({
  Network: '10.5.0.0/16',
  ...backend({ Encryption: 'required', Multicast: true, Port: 4789 }),
})

test('a network without encryption has none, and its lease does not change', () => {
  const { encryption, announced, subnetFile } = plan(config(), undefined)
  expect(encryption).toBeUndefined()
  expect(announced.vtep).toEqual({ vni: 1, mac: hw('02:00:00:00:00:01') })
  expect(subnetFile.mtu).toBe(1450)
})

test('a host that leaves encryption announces its keys until it needs them no more', () => {
  const { encryption, announced, subnetFile } = plan(config(), ABLE)
  expect(encryption).toBeUndefined()
  expect(announced.vtep?.wireguard).toEqual({ turn: 1, port: 51_820, keys: [key(1), key(2)] })
  expect(subnetFile.mtu).toBe(1450)
})

test('two devices, keys in the lease, and 60 bytes less for containers', () => {
  const { encryption, announced, subnetFile, overlays } = plan(prefer, ABLE)
  expect(encryption).toMatchObject({
    kind: 'on',
    mode: 'prefer',
    turn: 1,
    slots: [
      { slot: 0, link: { name: 'fl-wg.1', mtu: 1440 }, key: key(1), port: 51_820 },
      { slot: 1, link: { name: 'fl-wgb.1', mtu: 1440 }, key: key(2), port: 51_821 },
    ],
    addresses: [net('10.5.7.0/32')],
    isBehindNat: false,
    guard: undefined,
  })
  expect(announced.vtep?.wireguard).toEqual({ turn: 1, port: 51_820, keys: [key(1), key(2)] })
  expect([subnetFile.mtu, overlays[0]?.link.mtu]).toEqual([1390, 1390])
})

test('an IPv6 underlay takes 80 bytes; with both families the tunnel goes over IPv4', () => {
  const six = config({
    EnableIPv4: false,
    EnableIPv6: true,
    IPv6Network: 'fd00:5::/48',
    ...backend({ Encryption: 'prefer' }),
  })
  expect(plan(six, ABLE).subnetFile.mtu).toBe(1350)
  expect(plan(six, ABLE).encryption).toMatchObject({ slots: [{ link: { mtu: 1420 } }, {}] })
  const both = dualConfig(backend({ Encryption: 'prefer' }))
  expect(plan(both, ABLE).overlays.map(({ link }) => link.mtu)).toEqual([1390, 1370])
})

test('required encryption has a guard for the port and all VNIs of the network', () => {
  expect(plan(required, ABLE).encryption).toMatchObject({
    mode: 'required',
    guard: { name: 'fl-wg.1', links: ['fl-wg.1', 'fl-wgb.1'], port: 4789, vnis: [1, 8388609] },
  })
})

test('a host that is unable goes on in clear with the same MTU, unless encryption is required', () => {
  const { encryption, announced, subnetFile } = plan(prefer, UNABLE)
  expect(encryption).toEqual(UNABLE)
  expect(announced.vtep).not.toHaveProperty('wireguard')
  expect(subnetFile.mtu).toBe(1390)
  expect(() => plan(required, UNABLE)).toThrow(
    'the network requires encryption, and the kernel of this host has no WireGuard',
  )
})

test('a host behind NAT announces where its packets come from', () => {
  const underlay = { ...UNDERLAY, ipv4: { local: ip('10.0.0.7'), public: ip('192.168.77.11') } }
  const { encryption, announced } = plan(prefer, ABLE, underlay)
  expect(encryption).toMatchObject({ isBehindNat: true })
  expect(announced.vtep?.wireguard).toMatchObject({ source: ip('10.0.0.7') })
})

test('with any VNI the names fit, and no two tables are the same', () => {
  const vnis = [1, 0xffffff]
  for (const vni of vnis) expect(wireguardLinkName(1, vni).length).toBeLessThanOrEqual(15)
  const tables = vnis.flatMap((vni) => [wireguardTable(0, vni), wireguardTable(1, vni)])
  expect(new Set(tables).size).toBe(4)
  for (const table of tables) expect(table).toBeGreaterThan(0xffff)
})
