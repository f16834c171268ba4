import type { HostEntry } from '../../../../src/model/host-record'
import { IdentitySecret } from '../../../../src/model/identity-secret'
import type { Revision, SignedLease } from '../../../../src/model/lease'
import { HostBook } from '../../../../src/plan/trust/host-book'
import { isUnproven, Pins } from '../../../../src/plan/trust/pins'
import { net, net6 } from '../support'

const OURS = IdentitySecret.generate()
const THEIRS = IdentitySecret.generate()
const signed = (by: IdentitySecret, text = '{"PublicIP":"192.0.2.12"}'): SignedLease => ({
  text,
  signature: by.sign(text),
})
const entry = (record: HostEntry['record'], name = '10.5.42.0-24'): HostEntry => ({
  name,
  modRevision: 1n as Revision,
  subnet: { ipv4: net('10.5.42.0/24'), ipv6: name.includes('&') ? net6('fd00:5:0:2a::/64') : undefined },
  record,
})
const PINNED = entry({ identity: OURS.publicKey() })
const SUBNET = net('10.5.42.0/24')

test('a pinned subnet takes a lease that the pinned identity has signed, and no other', () => {
  const pins = Pins.of([PINNED])
  expect(pins.objection(SUBNET, signed(OURS))).toBeUndefined()
  for (const other of [undefined, signed(THEIRS), { ...signed(OURS), text: '{}' }]) {
    const objection = pins.objection(SUBNET, other)
    expect(isUnproven(objection ?? '')).toBe(true)
  }
  expect(pins.objection(net('10.5.43.0/24'), undefined)).toBeUndefined()
  expect(isUnproven('subnet 10.5.42.0/24 is outside the network')).toBe(false)
})

test('a record without an identity pins nothing; one that cannot be read lets nobody in', () => {
  expect(Pins.of([entry({ user: 'host2' })]).objection(SUBNET, undefined)).toBeUndefined()
  const broken = Pins.of([entry({ reason: 'the value is not JSON' })])
  expect(broken.objection(SUBNET, signed(OURS))).toContain('cannot be read (the value is not JSON)')
  expect(Pins.of([{ ...PINNED, subnet: undefined }]).size).toBe(0)
})

test('a pin of both families holds for each of them, under whatever key the lease is', () => {
  const pins = Pins.of([entry({ identity: OURS.publicKey() }, '10.5.42.0-24&fd00:5:0:2a::-64')])
  expect(pins.size).toBe(2)
  expect(pins.objection(net6('fd00:5:0:2a::/64'), signed(THEIRS))).toBeDefined()
  const half = { ipv4: SUBNET, ipv6: net6('fd00:5:0:99::/64') }
  expect(pins.identitiesOf(half)).toEqual([OURS.publicKey()])
})

test('a signature of another text, or for another use, is none', () => {
  const pins = Pins.of([PINNED])
  const { signature } = signed(OURS, 'another text')
  expect(pins.objection(SUBNET, { text: '{"PublicIP":"192.0.2.12"}', signature })).toBeDefined()
})

test('the book says whether other identities are pinned', () => {
  const book = new HostBook([PINNED])
  expect(book.isPinned({ ipv4: SUBNET, ipv6: undefined })).toBe(true)
  expect(book.apply([])).toBe(false)
  expect(book.replace([PINNED])).toBe(false)
  expect(book.apply([{ kind: 'host', host: entry({ identity: OURS.publicKey(), user: 'host2' }) }])).toBe(
    false,
  )
  expect(book.apply([{ kind: 'host', host: entry({ identity: THEIRS.publicKey() }) }])).toBe(true)
  expect(book.pins.objection(SUBNET, signed(OURS))).toBeDefined()
  expect(book.apply([{ kind: 'host', host: entry({ reason: 'torn' }) }])).toBe(true)
  expect(book.apply([{ kind: 'host-removed', name: '10.5.42.0-24' }])).toBe(true)
  expect(book.isPinned({ ipv4: SUBNET, ipv6: undefined })).toBe(false)
})

test('a pin that stays keeps what it has proven', () => {
  const before = Pins.of([PINNED])
  expect(before.objection(SUBNET, signed(OURS))).toBeUndefined()
  const other = { ...entry({ identity: THEIRS.publicKey() }, '10.5.43.0-24'), subnet: undefined }
  const after = Pins.of([PINNED, other], before)
  expect(after.changesFrom(before)).toEqual([])
  for (const proof of [signed(OURS), signed(THEIRS), signed(OURS)])
    expect(after.objection(SUBNET, proof) === undefined).toBe(proof.signature === signed(OURS).signature)
})
