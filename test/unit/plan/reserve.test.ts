import { type Lease, NO_ETCD_LEASE } from '../../../src/model/lease'
import { planReservation } from '../../../src/plan/reserve'
import { config, hw, ip, lease, net } from './support'

const HOST = '192.168.77.11'
const FRESH = hw('02:00:00:00:00:0f')
const reserved = (each: Lease): Lease => ({ ...each, etcdLease: NO_ETCD_LEASE })

function plan(
  leases: readonly Lease[],
  { publicIp = HOST, mac, subnet }: { publicIp?: string; mac?: string; subnet?: string } = {},
  refused: readonly string[] = [],
) {
  const request = {
    publicIp: ip(publicIp),
    mac: mac === undefined ? undefined : hw(mac),
    subnet: subnet === undefined ? undefined : net(subnet),
    refused: refused.map(net),
  }
  return planReservation(
    config(),
    leases,
    request,
    () => 0,
    () => FRESH,
  )
}

test('a host without a lease gets a free subnet and a random MAC, under the VNI of the config', () => {
  expect(plan([lease('10.5.1.0/24')])).toEqual({
    kind: 'create',
    subnet: net('10.5.2.0/24'),
    value: {
      publicIp: ip(HOST),
      publicIpv6: undefined,
      backendType: 'vxlan',
      vtep: { vni: 1, mac: FRESH },
      vtep6: undefined,
    },
  })
})

test('or the subnet and the MAC that are asked for', () => {
  expect(plan([], { subnet: '10.5.9.0/24', mac: '02:00:00:00:00:09' })).toMatchObject({
    kind: 'create',
    subnet: net('10.5.9.0/24'),
    value: { vtep: { mac: hw('02:00:00:00:00:09') } },
  })
})

test('a subnet that etcd refused is not asked for again', () => {
  expect(plan([], {}, ['10.5.1.0/24'])).toMatchObject({ kind: 'create', subnet: net('10.5.2.0/24') })
})

test('a host with a lease keeps it, and its value', () => {
  const own = lease('10.5.7.0/24', { publicIp: HOST })
  expect(plan([lease('10.5.1.0/24'), own])).toEqual({ kind: 'convert', lease: own })
  expect(plan([own], { subnet: '10.5.7.0/24', mac: '02:00:00:00:00:02' })).toEqual({
    kind: 'convert',
    lease: own,
  })
})

test('what is reserved already stays as it is', () => {
  const own = reserved(lease('10.5.7.0/24', { publicIp: HOST }))
  expect(plan([own])).toEqual({ kind: 'unchanged', lease: own })
})

test.each<[string, Parameters<typeof plan>[1], RegExp]>([
  ['an address inside the overlay', { publicIp: '10.5.3.3' }, /10\.5\.3\.3 is no address/],
  ['a multicast address', { publicIp: '224.0.0.1' }, /224\.0\.0\.1 is no address/],
  ['a subnet outside the network', { subnet: '10.6.1.0/24' }, /10\.6\.1\.0\/24 is no subnet of this network/],
  ['a subnet of another length', { subnet: '10.5.16.0/20' }, /is no subnet of this network/],
  ['the first subnet, which is never given', { subnet: '10.5.0.0/24' }, /is no subnet of this network/],
  ['a subnet of someone else', { subnet: '10.5.1.0/24' }, /10\.5\.1\.0-24 belongs to 192\.168\.77\.12/],
  ['a MAC of someone else', { mac: '02:00:00:00:00:02' }, /02:00:00:00:00:02 belongs to 192\.168\.77\.12/],
  ['a group address for a MAC', { mac: '01:00:5e:00:00:01' }, /no address that a device can have/],
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
])('%s is refused, with the reason', (_, request, reason) => {
  expect(() => plan([lease('10.5.1.0/24')], request)).toThrow(reason)
})

test('a lease of another backend is not written over', () => {
  const own = lease('10.5.7.0/24', { publicIp: HOST, backendType: 'host-gw' })
  const opaque = { ...own, value: { ...own.value, vtep: undefined } }
  expect(() => plan([opaque])).toThrow('for the backend "host-gw"')
})
