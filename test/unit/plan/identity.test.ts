import { type EtcdLeaseId, type Lease, NO_ETCD_LEASE } from '../../../src/model/lease'
import {
  type Claim,
  differenceOf,
  type Evidence,
  IdentityConflict,
  judgeClaim,
} from '../../../src/plan/identity'
import { dualLease, hw, ip, lease } from './support'

const US = '192.168.77.11'
const MAC = '02:00:00:00:00:0a'
const none = { ipv4: undefined, ipv6: undefined }
const ours = (fields = {}): Lease => lease('10.5.1.0/24', { publicIp: US, mac: MAC, ...fields })
const stranger: Evidence = { publicIp: ip(US), devices: none, remembered: undefined, sameMachine: false }
const withDevice: Evidence = { ...stranger, devices: { ...none, ipv4: hw(MAC) } }
const withState: Evidence = { ...stranger, remembered: ours(), sameMachine: true }
/** A copy of the machine, or the machine at another address. */
const elsewhere: Evidence = { ...withState, sameMachine: false, publicIp: ip('192.168.77.99') }
const reserved = (it: Lease): Lease => ({ ...it, etcdLease: NO_ETCD_LEASE })

test.each<[string, Evidence, Lease, Claim]>([
  ['flannel ran here: the device has its MAC', withDevice, ours(), 'ours'],
  ['rebooted: the state file has it', withState, ours(), 'ours'],
  ['flannel renewed it meanwhile', withState, { ...ours(), etcdLease: '8' as EtcdLeaseId }, 'ours'],
  ['reserved for us', stranger, reserved(ours()), 'ours'],
  [
    'reserved for us, and we are another',
    { ...withState, remembered: lease('10.5.9.0/24') },
    reserved(ours()),
    'ours',
  ],
  ['reinstalled, or another has our address', stranger, ours(), 'doubtful'],
  ['our device has another MAC', withDevice, ours({ mac: '02:00:00:00:00:0b' }), 'doubtful'],
  [
    'our key, written over by one with our address',
    withState,
    ours({ mac: '02:00:00:00:00:0b' }),
    'doubtful',
  ],
  ['a copy with the same address', { ...withState, sameMachine: false }, ours(), 'doubtful'],
  ['another key with our address', withState, lease('10.5.2.0/24', { publicIp: US, mac: MAC }), 'doubtful'],
  ['a copy, or moved', elsewhere, ours(), 'moved'],
  [
    'the same, and renewed under another etcd lease',
    elsewhere,
    { ...ours(), etcdLease: '8' as EtcdLeaseId },
    'other',
  ],
  ['the same, and reserved for the address that was ours', elsewhere, reserved(ours()), 'other'],
  [
    'our key in other hands',
    withState,
    ours({ publicIp: '192.168.77.12', mac: '02:00:00:00:00:0b' }),
    'other',
  ],
  ['anyone', withState, lease('10.5.2.0/24'), 'other'],
  ['another host with our MAC', withDevice, lease('10.5.2.0/24', { mac: MAC }), 'other'],
])('%s', (_, evidence, each, claim) => {
  expect(judgeClaim(each, evidence)).toBe(claim)
})

test('either family’s device knows the lease', () => {
  const dual = dualLease('10.5.1.0/24', 'fd00:5:0:1::/64', { publicIp: US, mac6: '02:00:00:00:06:0a' })
  expect(judgeClaim(dual, { ...stranger, devices: { ...none, ipv6: hw('02:00:00:00:06:0a') } })).toBe('ours')
  expect(judgeClaim(dual, { ...stranger, devices: { ...none, ipv4: hw('02:00:00:00:06:0a') } })).toBe(
    'doubtful',
  )
})

test('a lease without a device is not known by that', () => {
  const bare = ours()
  const other = { ...bare, value: { ...bare.value, backendType: 'udp', vtep: undefined } }
  expect(judgeClaim(other, { ...withState, remembered: other })).toBe('doubtful')
})

describe('the machine', () => {
  const here = { machine: 'm', linkMac: 'l', ipv4: { local: 'a', public: 'p' } }

  test.each<[object, string | undefined]>([
    [{}, undefined],
    [{ machine: 'n' }, 'the machine id is another'],
    [{ machine: undefined }, undefined],
    [{ linkMac: 'k' }, 'the MAC of the underlay interface was l and is k'],
    [{ ipv4: { local: 'b', public: 'p' } }, 'the underlay address was a and is b'],
    [{ ipv4: { local: 'a', public: 'q' } }, 'the PublicIP was p and is q'],
    [{ ipv6: { local: '6', public: '6' } }, undefined],
  ])('that is now %j', (now, difference) => {
    expect(differenceOf(here, { ...here, ...now })).toBe(difference)
  })
})

test('the conflict names key, address, MAC and what to do', () => {
  const conflict = new IdentityConflict(ours(), ip(US))
  expect(conflict.code).toBe('identity-conflict')
  for (const part of ['10.5.1.0-24', US, MAC]) expect(conflict.message).toContain(part)
  expect(conflict.fix).toMatch(/--public-ip.*delete/)
})
