import { isHarmful, objectionsTo, planConfigEffect } from '../../../src/plan/config-effect'
import type { Underlay } from '../../../src/plan/underlay'
import { config, dualConfig, dualLease, hw, ip, ip6, lease } from './support'

const before = config()
const leases = [lease('10.5.7.0/24', { publicIp: '192.168.77.11' }), lease('10.5.200.0/24')]

test('a first config starts who waits, and harms nobody', () => {
  const effect = planConfigEffect(undefined, before, [])
  expect(effect).toEqual({ kind: 'first', changes: [], lossy: [], leases: 0, misfits: [] })
  expect(isHarmful(effect)).toBe(false)
})

test('what means the same, and what is taken up live, harms nobody', () => {
  expect(planConfigEffect(before, config({ Network: '10.5.0.0/16', SubnetLen: 24 }), leases)).toMatchObject({
    kind: 'same',
    misfits: [],
  })
  const live = planConfigEffect(before, config({ Network: '10.4.0.0/15' }), leases)
  expect(live).toMatchObject({ kind: 'live', lossy: [], misfits: [], leases: 2 })
  expect(live.changes).toContain('network 10.4.0.0/15 instead of 10.5.0.0/16')
  expect(isHarmful(live)).toBe(false)
})

test('a field in which hosts must not differ is told', () => {
  const other = config({ Network: '10.5.0.0/16', Backend: { Type: 'vxlan', Port: 4789, VNI: 5, GBP: true } })
  const effect = planConfigEffect(before, other, leases)
  expect(effect).toMatchObject({ kind: 'live', lossy: ['VNI', 'port', 'GBP'] })
  expect(isHarmful(effect)).toBe(true)
})

test('leases that fit no more are named, each with its reason', () => {
  const effect = planConfigEffect(before, config({ Network: '10.5.0.0/16', SubnetMax: '10.5.99.0' }), leases)
  expect(effect).toMatchObject({ kind: 'live', leases: 2 })
  expect(effect.misfits).toEqual([
    {
      subnet: '10.5.200.0/24',
      publicIp: '192.168.77.12',
      reason: 'its subnet 10.5.200.0/24 is not among those of 10.5.0.0/16 from 10.5.1.0 to 10.5.99.0',
    },
  ])
  expect(isHarmful(effect)).toBe(true)
})

test('where every host needs another subnet it is said once why, and every lease is a misfit', () => {
  const both = dualLease('10.5.7.0/24', 'fd00:5:0:7::/64')
  expect(planConfigEffect(before, config({ Network: '10.5.0.0/16', SubnetLen: 25 }), leases)).toMatchObject({
    kind: 'restart',
    reason: 'IPv4 subnets are to be /25 and not /24',
    misfits: [{ subnet: '10.5.7.0/24' }, { subnet: '10.5.200.0/24' }],
  })
  expect(planConfigEffect(before, dualConfig(), leases)).toMatchObject({
    kind: 'restart',
    reason: 'IPv6 is switched on',
  })
  expect(planConfigEffect(dualConfig(), before, [both])).toMatchObject({
    kind: 'restart',
    misfits: [{ subnet: '10.5.7.0/24 and fd00:5:0:7::/64', reason: 'IPv6 is switched off' }],
  })
})

test('leases that were there before a first config are held against it too', () => {
  expect(planConfigEffect(undefined, config({ Network: '10.9.0.0/16' }), leases)).toMatchObject({
    kind: 'first',
    misfits: [{ reason: expect.stringContaining('10.5.7.0/24 is not among those of 10.9.0.0/16') }, {}],
  })
})

test('fewer subnets than hosts are told', () => {
  const small = config({ Network: '10.5.0.0/16', SubnetMin: '10.5.7.0', SubnetMax: '10.5.7.0' })
  expect(planConfigEffect(before, small, leases)).toMatchObject({
    room: '10.5.0.0/16 has 1 subnets for 2 hosts',
  })
})

describe('on a host', () => {
  const underlay: Underlay = {
    link: {
      index: 2,
      name: 'eth0',
      mac: hw('02:00:00:00:00:01'),
      mtu: 1300,
      up: true,
      kind: undefined,
      vxlan: undefined,
    },
    ipv4: { local: ip('192.168.77.11'), public: ip('192.168.77.11') },
    ipv6: { local: ip6('fd77::11'), public: ip6('fd77::11') },
  }
  const around = { etcd: [ip('192.168.78.2')], gateways: [ip('192.168.77.1')] }

  test.each([
    ['nothing against a network elsewhere', before, []],
    [
      'its own address',
      config({ Network: '192.168.77.0/24', SubnetLen: 28 }),
      [/contains 192\.168\.77\.11, this host's own/],
    ],
    [
      'the address of etcd',
      config({ Network: '192.168.78.0/24', SubnetLen: 28 }),
      [/192\.168\.78\.2, the address of etcd/],
    ],
    ['too little room for IPv6', dualConfig(), [/needs 1280 bytes, and 1230 are left on eth0/]],
    [
      'an MTU that the underlay does not carry',
      config({ Network: '10.5.0.0/16', Backend: { Type: 'vxlan', MTU: 9000 } }),
      [/Backend\.MTU is 9000, and eth0 carries 1300/],
    ],
  ])('%s', (_what, after, expected) => {
    expect(objectionsTo(after, underlay, around)).toEqual(
      expected.map((pattern) => expect.stringMatching(pattern)),
    )
  })
})
