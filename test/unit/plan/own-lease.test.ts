import { formatPrefix } from '../../../src/model/address'
import { NO_ETCD_LEASE } from '../../../src/model/lease'
import { chooseMac, planOwnLease } from '../../../src/plan/own-lease'
import { config, hw, ip, lease, net } from './support'

const us = { publicIp: ip('192.168.77.11'), previous: undefined, refused: [] }
const ours = (subnet: string) => lease(subnet, { publicIp: '192.168.77.11' })

test('the lease with our PublicIP is kept', () => {
  const leases = [lease('10.5.1.0/24'), ours('10.5.2.0/24'), ours('10.5.3.0/24')]
  expect(planOwnLease(config(), leases, us, () => 0)).toEqual({ kind: 'reuse', lease: leases[1] })
})

test('a reservation for our PublicIP counts more than a lease', () => {
  const reservation = { ...ours('10.5.3.0/24'), etcdLease: NO_ETCD_LEASE }
  expect(planOwnLease(config(), [ours('10.5.2.0/24'), reservation], us, () => 0)).toEqual({
    kind: 'reuse',
    lease: reservation,
  })
})

test('without one, the previous subnet is asked for', () => {
  const host = { ...us, previous: net('10.5.9.0/24') }
  expect(planOwnLease(config(), [lease('10.5.1.0/24')], host, () => 0)).toMatchObject({
    kind: 'create',
    subnet: net('10.5.9.0/24'),
    outgrown: [],
  })
})

test('a lease of ours that no longer fits is replaced, and its own range is free for that', () => {
  const old = ours('10.5.16.0/20')
  const plan = planOwnLease(config(), [old], { ...us, previous: net('10.5.17.0/24') }, () => 0)
  expect(plan).toMatchObject({ kind: 'create', subnet: net('10.5.17.0/24'), outgrown: [old] })
})

test('a dual-stack lease of ours does not fit a network without IPv6', () => {
  const dual = {
    ...ours('10.5.2.0/24'),
    subnet: { ipv4: net('10.5.2.0/24'), ipv6: { address: 1n as never, length: 64 } },
  }
  expect(planOwnLease(config(), [dual], us, () => 0)).toMatchObject({ kind: 'create', outgrown: [dual] })
})

test('a subnet that etcd refused is not asked for again', () => {
  const host = { ...us, previous: net('10.5.9.0/24'), refused: [net('10.5.9.0/24'), net('10.5.1.0/24')] }
  const plan = planOwnLease(config(), [], host, () => 0)
  expect(plan.kind === 'create' && formatPrefix(plan.subnet)).toBe('10.5.2.0/24')
})

test('a full network is an error that says how full', () => {
  const all = ['64', '128', '192'].map((octet) => lease(`10.3.0.${octet}/26`))
  const plan = () => planOwnLease(config({ Network: '10.3.0.0/24' }), all, us, () => 0)
  expect(plan).toThrow('no /26 is free between 10.3.0.64 and 10.3.0.192 of 10.3.0.0/24: 3 leases exist')
})

describe('the MAC', () => {
  const device = hw('02:00:00:00:00:0d')
  const known = hw('02:00:00:00:00:0e')
  const fresh = hw('02:00:00:00:00:0f')
  const other = (mac: string) => lease('10.5.1.0/24', { mac }).value

  test('is the device’s, else the lease’s, else new', () => {
    expect(chooseMac({ device, lease: known }, [], () => fresh)).toBe(device)
    expect(chooseMac({ device: undefined, lease: known }, [], () => fresh)).toBe(known)
    expect(chooseMac({ device: undefined, lease: undefined }, [], () => fresh)).toBe(fresh)
  })

  test('is never one that another host announces', () => {
    expect(chooseMac({ device, lease: known }, [other('02:00:00:00:00:0d')], () => fresh)).toBe(known)
    const candidates = [hw('02:00:00:00:00:01'), fresh]
    const next = () => candidates.shift() ?? fresh
    expect(chooseMac({ device: undefined, lease: undefined }, [other('02:00:00:00:00:01')], next)).toBe(fresh)
  })

  test('is never a group address', () => {
    expect(
      chooseMac({ device: hw('01:00:5e:00:00:01'), lease: hw('00:00:00:00:00:00') }, [], () => fresh),
    ).toBe(fresh)
  })
})
