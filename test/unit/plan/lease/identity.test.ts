import fc from 'fast-check'
import { type EtcdLeaseId, type Lease, NO_ETCD_LEASE } from '../../../../src/model/lease'
import {
  bestFirst,
  type Claim,
  differenceOf,
  type Evidence,
  IdentityConflict,
  judgeClaim,
  rememberedSubnet,
} from '../../../../src/plan/lease/identity'
import { planOwnLease } from '../../../../src/plan/lease/own-lease'
import { config, dualConfig, dualLease, hw, ip, ip6, lease, net, net6 } from '../support'

const US = '192.168.77.11'
const MAC = '02:00:00:00:00:0a'
const none = { ipv4: undefined, ipv6: undefined }
const ours = (fields = {}): Lease => lease('10.5.1.0/24', { publicIp: US, mac: MAC, ...fields })
const stranger: Evidence = {
  publicIp: ip(US),
  devices: none,
  remembered: undefined,
  sameMachine: false,
  subnet: none,
}
const withDevice: Evidence = { ...stranger, devices: { ...none, ipv4: hw(MAC) } }
const withState: Evidence = {
  ...stranger,
  remembered: ours(),
  sameMachine: true,
  subnet: { ...none, ipv4: net('10.5.1.0/24') },
}
const elsewhereOnly = lease('10.5.9.0/24')
/** Evidence of a copy of the machine, or of the machine at another address. */
const elsewhere: Evidence = { ...withState, sameMachine: false, subnet: none, publicIp: ip('192.168.77.99') }
const reserved = (it: Lease): Lease => ({ ...it, etcdLease: NO_ETCD_LEASE })

test.each<[string, Evidence, Lease, Claim]>([
  ['flannel ran here: the device has its MAC', withDevice, ours(), 'ours'],
  ['rebooted: the state file has it', withState, ours(), 'ours'],
  ['flannel renewed it meanwhile', withState, { ...ours(), etcdLease: '8' as EtcdLeaseId }, 'ours'],
  ['reserved for us, and we are new', stranger, reserved(ours()), 'named'],
  ['reserved for us, and we have it', withState, reserved(ours({ mac: '02:00:00:00:00:0b' })), 'ours'],
  [
    'reserved for us, and we remember another',
    { ...withState, remembered: elsewhereOnly, subnet: elsewhereOnly.subnet },
    reserved(ours()),
    'named',
  ],
  [
    'with our address and MAC, while our device carries another subnet',
    { ...withDevice, subnet: elsewhereOnly.subnet },
    ours(),
    'named',
  ],
  ['of the subnet in subnet.env', { ...stranger, subnet: ours().subnet }, ours(), 'doubtful'],
  ['reinstalled, or another has our address', stranger, ours(), 'doubtful'],
  ['our device has another MAC', withDevice, ours({ mac: '02:00:00:00:00:0b' }), 'doubtful'],
  [
    'our key, overwritten by a host with our address',
    withState,
    ours({ mac: '02:00:00:00:00:0b' }),
    'doubtful',
  ],
  ['a copy with the same address', { ...withState, sameMachine: false, subnet: none }, ours(), 'doubtful'],
  ['another key with our address', withState, lease('10.5.2.0/24', { publicIp: US, mac: MAC }), 'doubtful'],
  ['a copy, or moved', elsewhere, ours(), 'moved'],
  [
    'with the MAC of our device and our subnet, at another address, without a state file',
    { ...withDevice, subnet: ours().subnet, publicIp: ip('192.168.77.99') },
    ours(),
    'moved',
  ],
  [
    'of another subnet, with the MAC of our device, at another address',
    { ...withDevice, subnet: elsewhereOnly.subnet, publicIp: ip('192.168.77.99') },
    ours(),
    'other',
  ],
  [
    'the same, and renewed under another etcd lease',
    elsewhere,
    { ...ours(), etcdLease: '8' as EtcdLeaseId },
    'other',
  ],
  ['the same, and reserved for the address that was ours', elsewhere, reserved(ours()), 'other'],
  [
    'our key, taken by another host',
    withState,
    ours({ publicIp: '192.168.77.12', mac: '02:00:00:00:00:0b' }),
    'other',
  ],
  ['a foreign lease', withState, lease('10.5.2.0/24'), 'other'],
  ['another host with our MAC', withDevice, lease('10.5.2.0/24', { mac: MAC }), 'other'],
])('%s', (_, evidence, each, claim) => {
  expect(judgeClaim(each, evidence)).toBe(claim)
})

test('the device of either family identifies the lease', () => {
  const dual = dualLease('10.5.1.0/24', 'fd00:5:0:1::/64', { publicIp: US, mac6: '02:00:00:00:06:0a' })
  expect(judgeClaim(dual, { ...stranger, devices: { ...none, ipv6: hw('02:00:00:00:06:0a') } })).toBe('ours')
  expect(judgeClaim(dual, { ...stranger, devices: { ...none, ipv4: hw('02:00:00:00:06:0a') } })).toBe(
    'doubtful',
  )
})

test('a lease without a MAC is not identified by an absent device', () => {
  const bare = ours()
  const other = { ...bare, value: { ...bare.value, backendType: 'udp', vtep: undefined } }
  expect(judgeClaim(other, { ...withState, remembered: other })).toBe('doubtful')
})

describe('the machine', () => {
  const here = { machine: 'm', linkMac: 'l', ipv4: { local: 'a', public: 'p' } }

  test.each<[object, string | undefined]>([
    [{}, undefined],
    [{ machine: 'n' }, 'the machine id differs'],
    [{ machine: undefined }, undefined],
    [{ linkMac: 'k' }, 'the MAC of the underlay interface was l and is k'],
    [{ ipv4: { local: 'b', public: 'p' } }, 'the underlay address was a and is b'],
    [{ ipv4: { local: 'a', public: 'q' } }, 'the PublicIP was p and is q'],
    [{ ipv6: { local: '6', public: '6' } }, undefined],
  ])('that is now %j', (now, difference) => {
    expect(differenceOf(here, { ...here, ...now })).toBe(difference)
  })
})

test('the conflict names key, address, MAC and a fix', () => {
  const conflict = new IdentityConflict(ours(), ip(US))
  expect(conflict.code).toBe('identity-conflict')
  for (const part of ['10.5.1.0-24', US, MAC]) expect(conflict.message).toContain(part)
  expect(conflict.fix).toMatch(/--public-ip.*overlayctl evict 10\.5\.1\.0\/24/)
})

describe('a host that remembers its subnet', () => {
  const OUR6 = 'fd77::11'
  const own4 = ours()
  const own = dualLease('10.5.1.0/24', 'fd00:5:0:1::/64', {
    publicIp: US,
    mac: MAC,
    publicIpv6: OUR6,
    mac6: '02:00:00:00:06:0a',
  })
  const six = { publicIpv6: OUR6, mac6: '02:00:00:00:06:0a' }
  /**
   * Any lease that others can write: our addresses and MACs or others, under any key but ours, bound to an
   * etcd lease or not, at any revision.
   */
  const foreign = fc
    .record({
      third: fc.integer({ min: 2, max: 6 }),
      v6: fc.option(fc.constantFrom('fd00:5:0:1::/64', 'fd00:5:0:2::/64'), { nil: undefined }),
      sameV4: fc.boolean(),
      us: fc.boolean(),
      mac: fc.boolean(),
      etcdLease: fc.constantFrom('0', '7', '9'),
      revision: fc.integer({ min: 1, max: 100 }),
    })
    .map(({ third, v6, sameV4, us, mac, etcdLease, revision }): Lease => {
      const subnet = sameV4 && v6 === 'fd00:5:0:2::/64' ? '10.5.1.0/24' : `10.5.${third}.0/24`
      const fields = {
        publicIp: us ? US : '192.168.77.12',
        mac: mac ? MAC : '02:00:00:00:00:02',
        revision,
        ...(us && six),
      }
      const made = v6 === undefined ? lease(subnet, fields) : dualLease(subnet, v6, fields)
      return { ...made, etcdLease: etcdLease as EtcdLeaseId }
    })

  /** The ways in which a host remembers its subnet: by the state file, or by the device. */
  const memories = (mine: Lease): Evidence[] => [
    { ...stranger, remembered: mine, sameMachine: true, subnet: mine.subnet },
    {
      ...stranger,
      devices: { ipv4: mine.value.vtep?.mac, ipv6: mine.value.vtep6?.mac },
      subnet: mine.subnet,
    },
  ]

  test.each([
    ['one family', config(), own4],
    ['two families', dualConfig(), own],
  ])('keeps it whatever keys others write: %s', (_, network, mine) => {
    fc.assert(
      fc.property(fc.array(foreign, { maxLength: 8 }), fc.nat(), fc.boolean(), (others, at, isReserved) => {
        const kept = isReserved ? reserved(mine) : mine
        const leases = others.filter(({ key }) => key !== mine.key)
        leases.splice(at % (leases.length + 1), 0, kept)
        for (const evidence of memories(kept)) {
          const claimed = bestFirst(
            leases.filter((each) => judgeClaim(each, evidence) === 'ours'),
            evidence,
          )
          const plan = planOwnLease(
            network,
            leases,
            {
              publicIp: ip(US),
              previous: none,
              refused: [],
              isOurs: ({ key }) => claimed.some((each) => each.key === key),
              preferred: claimed.map(({ key }) => key),
            },
            Math.random,
          )
          expect(plan).toEqual({ kind: 'reuse', lease: kept })
        }
      }),
    )
  })
})

describe('the remembered subnet', () => {
  const nothing = { devices: { ipv4: [], ipv6: [] }, state: undefined, subnetEnv: {} }
  const [one, two, three] = ['10.5.1.0/24', '10.5.2.0/24', '10.5.3.0/24'].map(net)

  test('is that of the device, else of the state file, else of subnet.env', () => {
    const sources = {
      devices: { ipv4: [ip('10.5.1.0')], ipv6: [] },
      state: { ...none, ipv4: two },
      subnetEnv: { ipv4: three },
    }
    const subnetOf = (fields: object) => rememberedSubnet(config(), { ...nothing, ...fields }).ipv4
    expect(subnetOf(sources)).toEqual(one)
    expect(subnetOf({ ...sources, devices: nothing.devices })).toEqual(two)
    expect(subnetOf({ subnetEnv: sources.subnetEnv })).toEqual(three)
    expect(subnetOf({})).toBeUndefined()
  })

  test('is, if the device has several addresses, the one in the state file', () => {
    const devices = { ipv4: [ip('10.5.9.0'), ip('10.5.2.0'), ip('192.168.1.7')], ipv6: [] }
    expect(rememberedSubnet(config(), { ...nothing, devices, state: { ...none, ipv4: two } }).ipv4).toEqual(
      two,
    )
  })

  test('is only one that the network config allows', () => {
    const sources = {
      devices: { ipv4: [ip('10.9.1.0')], ipv6: [ip6('fd00:5:0:7::')] },
      state: { ipv4: net('10.5.16.0/20'), ipv6: undefined },
      subnetEnv: {},
    }
    expect(rememberedSubnet(dualConfig(), sources)).toEqual({
      ipv4: undefined,
      ipv6: net6('fd00:5:0:7::/64'),
    })
    expect(rememberedSubnet(config(), sources)).toEqual(none)
  })
})
