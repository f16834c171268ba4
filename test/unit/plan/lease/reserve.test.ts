import type { NetworkConfig } from '../../../../src/model/config/network-config'
import { type Lease, NO_ETCD_LEASE } from '../../../../src/model/lease'
import { planReservation } from '../../../../src/plan/lease/reserve'
import { config, dualConfig, dualLease, hw, ip, ip6, lease, net, net6 } from '../support'

const HOST = '192.168.77.11'
const FRESH = hw('02:00:00:00:00:0f')
const reserved = (each: Lease): Lease => ({ ...each, etcdLease: NO_ETCD_LEASE })

interface Wanted {
  readonly publicIp?: string | undefined
  readonly publicIpv6?: string
  readonly mac?: string
  readonly subnet?: string
  readonly subnet6?: string
}

const optional = <T>(parse: (text: string) => T, text: string | undefined): T | undefined =>
  text === undefined ? undefined : parse(text)

function plan(
  leases: readonly Lease[],
  wanted: Wanted = {},
  { refused = [], network = config() }: { refused?: readonly string[]; network?: NetworkConfig } = {},
) {
  const request = {
    publicIp: optional(ip, 'publicIp' in wanted ? wanted.publicIp : HOST),
    publicIpv6: optional(ip6, wanted.publicIpv6),
    mac: optional(hw, wanted.mac),
    subnet: { ipv4: optional(net, wanted.subnet), ipv6: optional(net6, wanted.subnet6) },
    refused: refused.map((subnet) => ({ ipv4: net(subnet), ipv6: undefined })),
  }
  return planReservation(
    network,
    leases,
    request,
    () => 0,
    () => FRESH,
  )
}

const only = (subnet: string) => ({ ipv4: net(subnet), ipv6: undefined })

test('a host without a lease gets a free subnet and a random MAC, under the VNI of the config', () => {
  expect(plan([lease('10.5.1.0/24')])).toEqual({
    kind: 'create',
    subnet: only('10.5.2.0/24'),
    value: {
      publicIp: ip(HOST),
      publicIpv6: undefined,
      backendType: 'vxlan',
      vtep: { vni: 1, mac: FRESH },
      vtep6: undefined,
    },
  })
})

test('a host without a lease gets the requested subnet and MAC', () => {
  expect(plan([], { subnet: '10.5.9.0/24', mac: '02:00:00:00:00:09' })).toMatchObject({
    kind: 'create',
    subnet: only('10.5.9.0/24'),
    value: { vtep: { mac: hw('02:00:00:00:00:09') } },
  })
})

test('a subnet that etcd refused is not asked for again', () => {
  expect(plan([], {}, { refused: ['10.5.1.0/24'] })).toMatchObject({
    kind: 'create',
    subnet: only('10.5.2.0/24'),
  })
})

test('a host with a lease keeps it, and its value', () => {
  const own = lease('10.5.7.0/24', { publicIp: HOST })
  expect(plan([lease('10.5.1.0/24'), own])).toEqual({ kind: 'convert', lease: own })
  expect(plan([own], { subnet: '10.5.7.0/24', mac: '02:00:00:00:00:02' })).toEqual({
    kind: 'convert',
    lease: own,
  })
})

test('an existing reservation stays as it is', () => {
  const own = reserved(lease('10.5.7.0/24', { publicIp: HOST }))
  expect(plan([own])).toEqual({ kind: 'unchanged', lease: own })
})

test.each<[string, Wanted, RegExp]>([
  ['no address', { publicIp: undefined }, /--public-ip is missing/],
  ['an IPv6 address in a network without', { publicIpv6: 'fd77::11' }, /the network has no IPv6/],
  ['an address inside the overlay', { publicIp: '10.5.3.3' }, /10\.5\.3\.3 is not an address/],
  ['a multicast address', { publicIp: '224.0.0.1' }, /224\.0\.0\.1 is not an address/],
  [
    'a subnet outside the network',
    { subnet: '10.6.1.0/24' },
    /10\.6\.1\.0\/24 is not a subnet of this network/,
  ],
  ['a subnet of another length', { subnet: '10.5.16.0/20' }, /is not a subnet of this network/],
  [
    'the first subnet, which is never allocated',
    { subnet: '10.5.0.0/24' },
    /is not a subnet of this network/,
  ],
  ['a subnet of another host', { subnet: '10.5.1.0/24' }, /10\.5\.1\.0-24 belongs to 192\.168\.77\.12/],
  ['a MAC of another host', { mac: '02:00:00:00:00:02' }, /02:00:00:00:00:02 belongs to 192\.168\.77\.12/],
  ['a group address for a MAC', { mac: '01:00:5e:00:00:01' }, /not a MAC that a device can have/],
  [
    'another subnet than the host has',
    { publicIp: '192.168.77.12', subnet: '10.5.9.0/24' },
    /has 10\.5\.1\.0\/24, not/,
  ],
  [
    'another MAC than the host has',
    { publicIp: '192.168.77.12', mac: '02:00:00:00:00:09' },
    /has 10\.5\.1\.0\/24 with the MAC 02:00:00:00:00:02, not 02:00:00:00:00:09/,
  ],
])('%s is refused with the reason', (_, request, reason) => {
  expect(() => plan([lease('10.5.1.0/24')], request)).toThrow(reason)
})

test('if several leases name the host, the operator has to choose one', () => {
  const own = lease('10.5.7.0/24', { publicIp: HOST })
  const squat = reserved(lease('10.5.3.0/24', { publicIp: HOST }))
  expect(() => plan([squat, own])).toThrow('192.168.77.11 is named by 2 leases: 10.5.3.0/24, 10.5.7.0/24')
  expect(plan([squat, own], { subnet: '10.5.7.0/24' })).toEqual({ kind: 'convert', lease: own })
  expect(plan([squat, own], { subnet: '10.5.3.0/24' })).toEqual({ kind: 'unchanged', lease: squat })
})

test('a lease of another backend is not overwritten', () => {
  const own = lease('10.5.7.0/24', { publicIp: HOST, backendType: 'host-gw' })
  const opaque = { ...own, value: { ...own.value, vtep: undefined } }
  expect(() => plan([opaque])).toThrow('for the backend "host-gw"')
})

describe('in a network of both families', () => {
  const network = dualConfig()
  const host = { publicIp: HOST, publicIpv6: 'fd77::11' }

  test('a host gets a subnet and a MAC of each family, and its lease has all fields of flannel', () => {
    const other = dualLease('10.5.1.0/24', 'fd00:5:0:1::/64')
    expect(plan([other], { ...host, subnet6: 'fd00:5:0:37::/64' }, { network })).toEqual({
      kind: 'create',
      subnet: { ipv4: net('10.5.2.0/24'), ipv6: net6('fd00:5:0:37::/64') },
      value: {
        publicIp: ip(HOST),
        publicIpv6: ip6('fd77::11'),
        backendType: 'vxlan',
        vtep: { vni: 1, mac: FRESH },
        vtep6: { vni: 1, mac: FRESH },
      },
    })
  })

  test('one family alone is refused, because flannel could not use the lease', () => {
    expect(() => plan([], { publicIp: HOST }, { network })).toThrow('--public-ipv6 is missing')
    const half = dualLease('10.5.7.0/24', 'fd00:5:0:7::/64', { publicIp: HOST, mac6: '' })
    expect(() => plan([half], host, { network })).toThrow('with no VXLAN data that can be read')
  })

  test('a lease of one family is not made a reservation', () => {
    const old = lease('10.5.7.0/24', { publicIp: HOST })
    expect(() => plan([old], host, { network })).toThrow('does not fit the network config')
  })

  test('an existing lease is reserved as it is', () => {
    const own = dualLease('10.5.7.0/24', 'fd00:5:0:7::/64', { publicIp: HOST })
    expect(plan([own], host, { network })).toEqual({ kind: 'convert', lease: own })
    expect(() => plan([own], { ...host, subnet6: 'fd00:5:0:8::/64' }, { network })).toThrow(
      'has 10.5.7.0/24 and fd00:5:0:7::/64, not fd00:5:0:8::/64',
    )
  })
})

test('in a network of IPv6 alone the MAC is that of its device', () => {
  const network = config({ EnableIPv4: false, EnableIPv6: true, IPv6Network: 'fd00:5::/48' })
  const wanted = { publicIp: undefined, publicIpv6: 'fd77::11', mac: '02:00:00:00:00:09' }
  expect(plan([], wanted, { network })).toEqual({
    kind: 'create',
    subnet: { ipv4: undefined, ipv6: net6('fd00:5:0:1::/64') },
    value: {
      publicIp: ip('0.0.0.0'),
      publicIpv6: ip6('fd77::11'),
      backendType: 'vxlan',
      vtep: undefined,
      vtep6: { vni: 1, mac: hw('02:00:00:00:00:09') },
    },
  })
})
