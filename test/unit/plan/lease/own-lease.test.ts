import { formatLeaseSubnet, type Lease, NO_ETCD_LEASE } from '../../../../src/model/lease'
import { chooseMac, planOwnLease } from '../../../../src/plan/lease/own-lease'
import { config, dualConfig, dualLease, hw, ip, ip6, lease, net, net6 } from '../support'

const none = { ipv4: undefined, ipv6: undefined }
const us = { publicIp: ip('192.168.77.11'), previous: none, refused: [] }
const before = (subnet: string) => ({ ...none, ipv4: net(subnet) })
const only = (subnet: string) => ({ ipv4: net(subnet), ipv6: undefined })
const ours = (subnet: string) => lease(subnet, { publicIp: '192.168.77.11' })

test('the lease with our PublicIP is kept', () => {
  const leases = [lease('10.5.1.0/24'), ours('10.5.2.0/24'), ours('10.5.3.0/24')]
  expect(planOwnLease(config(), leases, us, () => 0)).toEqual({ kind: 'reuse', lease: leases[1] })
})

test('a reservation for our PublicIP precedes a lease', () => {
  const reservation = { ...ours('10.5.3.0/24'), etcdLease: NO_ETCD_LEASE }
  expect(planOwnLease(config(), [ours('10.5.2.0/24'), reservation], us, () => 0)).toEqual({
    kind: 'reuse',
    lease: reservation,
  })
})

test('without a lease, the previous subnet is asked for', () => {
  const host = { ...us, previous: before('10.5.9.0/24') }
  expect(planOwnLease(config(), [lease('10.5.1.0/24')], host, () => 0)).toMatchObject({
    kind: 'create',
    subnet: only('10.5.9.0/24'),
    inTheWay: [],
    outgrown: [],
  })
})

test('a lease of ours that no longer fits is replaced, and its own subnet counts as free', () => {
  const old = ours('10.5.16.0/20')
  const plan = planOwnLease(config(), [old], { ...us, previous: before('10.5.17.0/24') }, () => 0)
  expect(plan).toMatchObject({ kind: 'create', subnet: only('10.5.17.0/24'), inTheWay: [old] })
})

test('when the network gains or loses IPv6 a host keeps its IPv4 subnet', () => {
  const dual = dualLease('10.5.2.0/24', 'fd00:5:0:7::/64', { publicIp: '192.168.77.11' })
  expect(planOwnLease(config(), [dual], us, () => 0)).toEqual({
    kind: 'create',
    subnet: only('10.5.2.0/24'),
    inTheWay: [dual],
    outgrown: [],
  })
  expect(planOwnLease(dualConfig(), [ours('10.5.2.0/24')], us, () => 0)).toMatchObject({
    subnet: { ipv4: net('10.5.2.0/24'), ipv6: net6('fd00:5:0:2::/64') },
    inTheWay: [{ subnet: only('10.5.2.0/24') }],
  })
  expect(planOwnLease(dualConfig(), [dual], us, () => 0)).toEqual({ kind: 'reuse', lease: dual })
})

test('the IPv6 subnet has the same number as the IPv4 subnet, if it exists and is free', () => {
  const chosen = (leases: readonly Lease[], random: number, network = dualConfig()) => {
    const plan = planOwnLease(network, leases, us, () => random)
    return plan.kind === 'create' ? formatLeaseSubnet(plan.subnet) : plan.kind
  }
  expect(chosen([], 0)).toBe('10.5.1.0/24 and fd00:5:0:1::/64')
  expect(chosen([], 0.5)).toBe('10.5.128.0/24 and fd00:5:0:80::/64')
  const inTheWay = dualLease('10.5.250.0/24', 'fd00:5:0:80::/64', { publicIp: '192.168.77.12' })
  expect(chosen([inTheWay], 0.5)).toMatch(/^10\.5\.128\.0\/24 and fd00:5:0:(?!80:)/)
  const small = dualConfig({ IPv6Network: 'fd00:5::/60', IPv6SubnetLen: 64 })
  expect(chosen([], 0.5, small)).toMatch(/^10\.5\.128\.0\/24 and fd00:5:0:[1-9a-f]::\/64$/)
})

test('in a network without IPv4 hosts are identified by PublicIPv6', () => {
  const network = config({ EnableIPv4: false, EnableIPv6: true, IPv6Network: 'fd00:5::/48' })
  const onlyIpv6 = (subnet: string, publicIpv6: string) => {
    const dual = dualLease('0.0.0.0/0', subnet, { publicIp: '0.0.0.0', publicIpv6 })
    return { ...dual, subnet: { ...dual.subnet, ipv4: undefined } }
  }
  const leases = [onlyIpv6('fd00:5:0:1::/64', 'fd77::11'), onlyIpv6('fd00:5:0:2::/64', 'fd77::12')]
  const host = { ...us, publicIp: ip6('fd77::12') }
  expect(planOwnLease(network, leases, host, () => 0)).toEqual({ kind: 'reuse', lease: leases[1] })
  expect(planOwnLease(network, leases, { ...us, publicIp: ip6('fd77::13') }, () => 0)).toMatchObject({
    subnet: { ipv4: undefined, ipv6: net6('fd00:5:0:3::/64') },
  })
})

test('a subnet that etcd refused is not asked for again', () => {
  const host = { ...us, previous: before('10.5.9.0/24'), refused: [only('10.5.9.0/24'), only('10.5.1.0/24')] }
  const plan = planOwnLease(config(), [], host, () => 0)
  expect(plan.kind === 'create' && formatLeaseSubnet(plan.subnet)).toBe('10.5.2.0/24')
})

test('a full network is an error with the number of subnets', () => {
  const all = ['64', '128', '192'].map((octet) => lease(`10.3.0.${octet}/26`))
  const plan = () => planOwnLease(config({ Network: '10.3.0.0/24' }), all, us, () => 0)
  expect(plan).toThrow('no /26 is free between 10.3.0.64 and 10.3.0.192 of 10.3.0.0/24: 3 are leased')
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

describe('with other evidence than the PublicIP', () => {
  const moved = lease('10.5.4.0/24', { publicIp: '192.168.77.99' })
  const isOurs = ({ key }: { key: string }) => key === moved.key

  test('a lease with another address may be ours, and a lease with our address may be foreign', () => {
    const leases = [ours('10.5.2.0/24'), moved]
    expect(planOwnLease(config(), leases, { ...us, isOurs }, () => 0)).toEqual({
      kind: 'reuse',
      lease: moved,
    })
    const plan = planOwnLease(config(), leases, { ...us, isOurs: () => false }, () => 0)
    expect(plan).toMatchObject({ kind: 'create', subnet: only('10.5.1.0/24'), inTheWay: [], outgrown: [] })
  })

  test('of several leases the preferred one is kept, even beside a reservation for our address', () => {
    const leases = [ours('10.5.2.0/24'), ours('10.5.3.0/24')]
    const host = { ...us, preferred: [leases[1]?.key ?? ''] }
    expect(planOwnLease(config(), leases, host, () => 0)).toEqual({ kind: 'reuse', lease: leases[1] })
    const reservation = { ...ours('10.5.9.0/24'), etcdLease: NO_ETCD_LEASE }
    expect(planOwnLease(config(), [...leases, reservation], host, () => 0)).toEqual({
      kind: 'reuse',
      lease: leases[1],
    })
    expect(planOwnLease(config(), [...leases, reservation], us, () => 0)).toEqual({
      kind: 'reuse',
      lease: reservation,
    })
  })
})

test('the MAC of the state file comes after that of device and lease', () => {
  const [state, known, fresh] = [hw('02:00:00:00:00:01'), hw('02:00:00:00:00:02'), hw('02:00:00:00:00:03')]
  const none = { device: undefined, lease: undefined }
  expect(chooseMac({ ...none, state }, [], () => fresh)).toBe(state)
  expect(chooseMac({ ...none, lease: known, state }, [], () => fresh)).toBe(known)
  expect(
    chooseMac({ ...none, state }, [lease('10.5.1.0/24', { mac: '02:00:00:00:00:01' }).value], () => fresh),
  ).toBe(fresh)
})
