import type { NetworkConfig } from '../../../../src/model/config/network-config'
import { type Lease, NO_ETCD_LEASE } from '../../../../src/model/lease'
import { isHarmful, objectionsTo, planConfigEffect } from '../../../../src/plan/config/config-effect'
import type { Underlay } from '../../../../src/plan/host/underlay'
import { announcement } from '../encryption/support'
import { config, dualConfig, dualLease, hw, ip, ip6, lease } from '../support'

const before = config()
const leases = [lease('10.5.7.0/24', { publicIp: '192.168.77.11' }), lease('10.5.200.0/24')]

test('a first config starts the hosts that wait, and affects no others', () => {
  const effect = planConfigEffect(undefined, before, [])
  expect(effect).toEqual({ kind: 'first', changes: [], lossy: [], leases: 0, misfits: [] })
  expect(isHarmful(effect)).toBe(false)
})

test('a text with the same meaning, or a change that is applied live, affects nobody', () => {
  expect(planConfigEffect(before, config({ Network: '10.5.0.0/16', SubnetLen: 24 }), leases)).toMatchObject({
    kind: 'same',
    misfits: [],
  })
  const live = planConfigEffect(before, config({ Network: '10.4.0.0/15' }), leases)
  expect(live).toMatchObject({ kind: 'live', lossy: [], misfits: [], leases: 2 })
  expect(live.changes).toContain('network 10.4.0.0/15 instead of 10.5.0.0/16')
  expect(isHarmful(live)).toBe(false)
})

test('a warning names a field that must be the same on all hosts', () => {
  const other = config({ Network: '10.5.0.0/16', Backend: { Type: 'vxlan', Port: 4789, VNI: 5, GBP: true } })
  const effect = planConfigEffect(before, other, leases)
  expect(effect).toMatchObject({ kind: 'live', lossy: ['VNI', 'port', 'GBP'] })
  expect(isHarmful(effect)).toBe(true)
})

test('leases that no longer fit are named, each with its reason', () => {
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

test('if every host needs another subnet the reason is given once, and no lease fits', () => {
  const both = dualLease('10.5.7.0/24', 'fd00:5:0:7::/64')
  expect(planConfigEffect(before, config({ Network: '10.5.0.0/16', SubnetLen: 25 }), leases)).toMatchObject({
    kind: 'restart',
    reason: 'IPv4 subnets become /25 instead of /24',
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

test('leases older than a first config are checked against it too', () => {
  expect(planConfigEffect(undefined, config({ Network: '10.9.0.0/16' }), leases)).toMatchObject({
    kind: 'first',
    misfits: [{ reason: expect.stringContaining('10.5.7.0/24 is not among those of 10.9.0.0/16') }, {}],
  })
})

test('fewer subnets than hosts cause a warning', () => {
  const small = config({ Network: '10.5.0.0/16', SubnetMin: '10.5.7.0', SubnetMax: '10.5.7.0' })
  expect(planConfigEffect(before, small, leases)).toMatchObject({
    room: '10.5.0.0/16 has 1 subnet for 2 hosts',
  })
})

describe('encryption', () => {
  const encrypted = (fields: object, more: object = {}) =>
    config({ Network: '10.5.0.0/16', Backend: { Type: 'vxlan', ...fields }, ...more })
  const withKeys = (
    number: number,
    keys = number,
    fields: Parameters<typeof announcement>[1] = {},
  ): Lease => {
    const { value, ...rest } = lease(`10.5.${number}.0/24`, {
      publicIp: `192.168.77.${number}`,
      revision: number,
    })
    const vtep = value.vtep && { ...value.vtep, wireguard: announcement(keys, fields) }
    return { ...rest, value: { ...value, vtep } }
  }
  const required = encrypted({ Encryption: 'required' })
  const prefer = encrypted({ Encryption: 'prefer' })

  test('that is required asks first while a lease has no keys, and names each with its reason', () => {
    const hosts = [
      withKeys(9),
      withKeys(7),
      lease('10.5.200.0/24'),
      withKeys(10, 7),
      withKeys(12, 12, { source: ip('0.0.0.0') }),
    ]
    const effect = planConfigEffect(prefer, required, hosts)
    expect(effect.kind).toBe('live')
    expect(effect.unencryptable).toEqual([
      { subnet: '10.5.200.0/24', publicIp: '192.168.77.12', reason: 'it announces no keys' },
      { subnet: '10.5.10.0/24', publicIp: '192.168.77.10', reason: 'an older lease has the same key' },
      { subnet: '10.5.12.0/24', publicIp: '192.168.77.12', reason: 'its source address belongs to no host' },
    ])
    expect(isHarmful(effect)).toBe(true)
    expect(isHarmful(planConfigEffect(undefined, required, hosts))).toBe(true)
  })

  test('that is required asks nobody when all leases have keys, nor when it was required before', () => {
    const effect = planConfigEffect(prefer, required, [withKeys(7), withKeys(9)])
    expect(effect.unencryptable).toBeUndefined()
    expect(isHarmful(effect)).toBe(false)
    const again = encrypted({ Encryption: 'required', MTU: 1400 })
    expect(isHarmful(planConfigEffect(required, again, [lease('10.5.200.0/24')]))).toBe(false)
  })

  test('that is preferred asks nobody', () => {
    expect(isHarmful(planConfigEffect(before, prefer, leases))).toBe(false)
    expect(isHarmful(planConfigEffect(required, prefer, leases))).toBe(false)
  })

  test('takes bytes from containers, those of the first family, and gives them back', () => {
    const room = (one: NetworkConfig, other: NetworkConfig) => planConfigEffect(one, other, []).encryptionRoom
    const six = { EnableIPv4: false, EnableIPv6: true, IPv6Network: 'fd00:5::/48' }
    const dual = { EnableIPv6: true, IPv6Network: 'fd00:5::/48' }
    expect(room(before, prefer)).toMatch(
      /^encryption takes 60 bytes .* an MTU that is 60 bytes less .* learn the/,
    )
    expect(room(encrypted({}, six), encrypted({ Encryption: 'required' }, six))).toContain('80 bytes less')
    expect(room(encrypted({}, dual), encrypted({ Encryption: 'prefer' }, dual))).toContain('60 bytes less')
    expect(room(prefer, before)).toMatch(/^without encryption .* 60 bytes more/)
    expect(room(prefer, required)).toBeUndefined()
    expect(planConfigEffect(undefined, prefer, []).encryptionRoom).toBeUndefined()
  })

  test('loses packets with other ports only', () => {
    const moved = encrypted({ Encryption: 'prefer', EncryptionPort: 7000 })
    expect(planConfigEffect(prefer, moved, []).lossy).toEqual(["encryption's UDP ports"])
    expect(planConfigEffect(before, moved, []).lossy).toEqual([])
    expect(planConfigEffect(moved, before, []).lossy).toEqual([])
    expect(planConfigEffect(prefer, required, []).lossy).toEqual([])
  })

  test('of a reserved subnet is missing, and its host may be away', () => {
    const reserved = { ...lease('10.5.200.0/24'), etcdLease: NO_ETCD_LEASE }
    expect(planConfigEffect(prefer, required, [reserved]).unencryptable).toEqual([
      expect.objectContaining({ reason: 'it announces no keys; it is reserved, and its host may be away' }),
    ])
  })

  test('needs keys of one of the families of the network', () => {
    const both = dualLease('10.5.7.0/24', 'fd00:5:0:7::/64')
    const dual = (Encryption: string) => dualConfig({ Backend: { Type: 'vxlan', Encryption } })
    const keyed = {
      ...both,
      value: {
        ...both.value,
        vtep: both.value.vtep && { ...both.value.vtep, wireguard: announcement(7) },
        vtep6: both.value.vtep6 && { ...both.value.vtep6, wireguard: announcement(8) },
      },
    }
    expect(planConfigEffect(dual('prefer'), dual('required'), [keyed]).unencryptable).toEqual([
      expect.objectContaining({ reason: 'its families announce different keys' }),
    ])
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
    ['no objection to a network elsewhere', before, []],
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
    ['too little room for IPv6', dualConfig(), [/needs 1280 bytes, but the MTU 1300 of eth0 leaves 1230/]],
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
