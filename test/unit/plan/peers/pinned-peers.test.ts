/** Peers of pinned subnets: who is taken, who is kept, and who is dropped. */
import { formatPrefix } from '../../../../src/model/address'
import { IdentitySecret } from '../../../../src/model/identity-secret'
import type { Lease, Peer, Revision } from '../../../../src/model/lease'
import { PeerTable } from '../../../../src/plan/peers/peer-table'
import { Pins } from '../../../../src/plan/trust/pins'
import { hw, ip, ipv4Range, type LeaseFields, lease, net } from '../support'

const OURS = IdentitySecret.generate()
const THIEF = IdentitySecret.generate()
const SUBNET = net('10.5.2.0/24')
// Pins of their own for each test: they know which serials were seen.
const pinsOf = (): Pins =>
  Pins.of([
    {
      name: '10.5.2.0-24',
      modRevision: 1n as Revision,
      subnet: { ipv4: SUBNET, ipv6: undefined },
      record: { identity: OURS.publicKey() },
    },
  ])

const PINS = pinsOf()

const table = () =>
  new PeerTable(
    { range: ipv4Range(), vni: 1 },
    {
      key: '/coreos.com/network/subnets/10.5.1.0-24',
      subnet: net('10.5.1.0/24'),
      publicIp: ip('192.168.77.11'),
      mac: hw('02:00:00:00:00:01'),
    },
  )
const unsigned = (fields: LeaseFields = {}): Lease => lease('10.5.2.0/24', fields)
const signed = (by: IdentitySecret, fields: LeaseFields = {}): Lease => {
  const plain = unsigned(fields)
  // The text stands for the value's: what is signed is the bytes.
  const text = JSON.stringify({ ip: plain.value.publicIp, revision: String(plain.modRevision) })
  const signature = by.sign(text)
  return { ...plain, value: { ...plain.value, signature }, signed: { text, signature } }
}
/** A lease that its host has signed with that serial. */
const serial = (number: number, fields: LeaseFields = {}): Lease => {
  const lease = signed(OURS, fields)
  return lease.signed === undefined ? lease : { ...lease, signed: { ...lease.signed, serial: number } }
}
const addressOf = (peers: PeerTable): Peer['publicIp'] | undefined => peers.peerAt(SUBNET.address)?.publicIp
const whatIs = (peers: PeerTable) => ({
  peer: addressOf(peers),
  refused: [...peers.rejected()].map(({ reason, keepsLastGood }) => [reason.slice(0, 32), keepsLastGood]),
})
const REFUSED = 'its host has not proven the iden'
const TRUE_HOST = ip('192.168.77.12')
const theft = (by?: IdentitySecret): Lease => {
  const fields = { publicIp: '192.168.77.66', mac: '02:00:00:00:00:66', revision: 9 }
  return by === undefined ? unsigned(fields) : signed(by, fields)
}

const pinned = (): PeerTable => {
  const peers = table()
  peers.pin(pinsOf())
  return peers
}

test('the lease that the pinned identity has signed is taken', () => {
  const peers = pinned()
  peers.put(signed(OURS))
  expect(whatIs(peers)).toEqual({ peer: TRUE_HOST, refused: [] })
})

test.each([['nobody'], ['another identity']])('a lease signed by %s is refused', (who) => {
  const peers = pinned()
  peers.put(theft(who === 'nobody' ? undefined : THIEF))
  expect(whatIs(peers)).toEqual({ peer: undefined, refused: [[REFUSED, false]] })
})

test.each([['event'], ['listing']])('a theft by an %s leaves the peer as it was proven', (by) => {
  const peers = pinned()
  peers.put(signed(OURS))
  if (by === 'event') peers.put(theft(THIEF))
  else peers.reset([theft(THIEF)], [])
  expect(whatIs(peers)).toEqual({ peer: TRUE_HOST, refused: [[REFUSED, true]] })
  // The host writes its lease again.
  peers.put(signed(OURS, { revision: 10 }))
  expect(whatIs(peers)).toEqual({ peer: TRUE_HOST, refused: [] })
})

test('a pin that comes later drops the peer that is not proven, at once', () => {
  const peers = table()
  peers.put(theft())
  const changes = peers.pin(PINS)
  expect(changes.map(({ after }) => after)).toEqual([undefined])
  expect(whatIs(peers)).toEqual({ peer: undefined, refused: [[REFUSED, false]] })
  peers.pin(Pins.NONE)
  expect(whatIs(peers)).toEqual({ peer: ip('192.168.77.66'), refused: [] })
})

test('a host that has signed before its pin comes is not dropped for a moment', () => {
  const peers = table()
  peers.put(unsigned())
  // The same place: only the signature is new.
  peers.put(signed(OURS, { revision: 2 }))
  expect(peers.pin(PINS)).toEqual([])
  expect(addressOf(peers)).toBe(TRUE_HOST)
})

test('a listing is judged by the pins of the same listing, and not by those before it', () => {
  const peers = table()
  // From the state file: nothing is signed there.
  peers.put(unsigned())
  const steps = peers.resetting([signed(OURS)], () => ({ leases: [] }), PINS)
  let step = steps.next()
  while (!step.done) {
    expect(addressOf(peers)).toBe(TRUE_HOST)
    step = steps.next()
  }
  expect(whatIs(peers)).toEqual({ peer: TRUE_HOST, refused: [] })
  peers.put(theft())
  expect(whatIs(peers)).toEqual({ peer: TRUE_HOST, refused: [[REFUSED, true]] })
})

test('a lease that waits for the subnet is not admitted without a proof when the subnet is free', () => {
  const peers = pinned()
  peers.put(signed(OURS))
  const key = '/coreos.com/network/subnets/10.5.2.0-24&fd00:5:0:2::-64'
  peers.put({ ...theft(), key })
  peers.remove('/coreos.com/network/subnets/10.5.2.0-24')
  expect(addressOf(peers)).toBeUndefined()
})

test('a pin of another subnet, or of what is proven, judges nothing again', () => {
  const peers = table()
  peers.put(signed(OURS))
  peers.put(lease('10.5.3.0/24', { publicIp: '192.168.77.13', mac: '02:00:00:00:00:03' }))
  const before = [...peers.peers()]
  expect(peers.pin(PINS)).toEqual([])
  expect(peers.pin(Pins.NONE)).toEqual([])
  for (const [i, peer] of [...peers.peers()].entries()) expect(peer).toBe(before[i])
})

test('a lease that waits is judged by a pin that comes: it is not admitted later', () => {
  const peers = table()
  peers.put(signed(OURS))
  const key = '/coreos.com/network/subnets/10.5.2.0-24&fd00:5:0:2::-64'
  peers.put({ ...theft(), key })
  peers.pin(PINS)
  peers.remove('/coreos.com/network/subnets/10.5.2.0-24')
  expect(addressOf(peers)).toBeUndefined()
  peers.pin(Pins.NONE)
  expect(addressOf(peers)).toBe(ip('192.168.77.66'))
})

test('other subnets need no proof', () => {
  const peers = pinned()
  peers.put(lease('10.5.3.0/24', { publicIp: '192.168.77.13', mac: '02:00:00:00:00:03' }))
  expect([...peers.peers()].map(({ subnet }) => formatPrefix(subnet))).toEqual(['10.5.3.0/24'])
})

describe('a former lease of the host, which is written again', () => {
  const FORMER_ADDRESS = '192.168.77.99'
  const former = (revision = 9): Lease => serial(5, { publicIp: FORMER_ADDRESS, revision })
  const REPLAYED = [['it is a former lease of its host', true]]

  test.each([['event'], ['listing']])('by an %s is refused, and the peer stays', (by) => {
    const peers = pinned()
    peers.put(serial(7, { revision: 3 }))
    if (by === 'event') peers.put(former())
    else peers.reset([former()], [])
    expect(whatIs(peers)).toEqual({ peer: TRUE_HOST, refused: REPLAYED })
    peers.put(serial(8, { revision: 10 }))
    expect(whatIs(peers)).toEqual({ peer: TRUE_HOST, refused: [] })
  })

  test('after the key was deleted leads nobody to the former address', () => {
    const peers = pinned()
    peers.put(serial(7, { revision: 3 }))
    peers.remove('/coreos.com/network/subnets/10.5.2.0-24')
    peers.put(former())
    expect(whatIs(peers)).toEqual({
      peer: undefined,
      refused: [['it is a former lease of its host', false]],
    })
  })

  test('a later lease that is refused for another reason leaves the peer as it was', () => {
    const peers = pinned()
    peers.put(serial(5))
    // Outside of what the network has: a lease of another VNI.
    peers.put({ ...serial(7, { revision: 4 }), value: { ...serial(7).value, vtep: undefined } })
    expect(addressOf(peers)).toBe(TRUE_HOST)
    peers.put(serial(6, { publicIp: FORMER_ADDRESS, revision: 5 }))
    expect(whatIs(peers)).toEqual({ peer: TRUE_HOST, refused: REPLAYED })
  })
})
