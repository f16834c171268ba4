import fc from 'fast-check'
import type { HostEntry } from '../../../../src/model/host-record'
import { IdentitySecret } from '../../../../src/model/identity-secret'
import type { Revision, SignedLease } from '../../../../src/model/lease'
import { HostBook } from '../../../../src/plan/trust/host-book'
import { isUnproven, Pins } from '../../../../src/plan/trust/pins'
import type { SeenSerial } from '../../../../src/plan/trust/serial'
import { runs } from '../../support/runs'
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

describe('a lease of before, with the signature of the pinned identity', () => {
  const at = (serial: number | undefined, by = OURS): SignedLease => ({
    ...signed(by, `{"Serial":${serial}}`),
    ...(serial !== undefined && { serial }),
  })
  const isRefused = (pins: Pins, lease: SignedLease): boolean => {
    const objection = pins.objectionToLease(SUBNET, lease)
    if (objection !== undefined) expect(isUnproven(objection)).toBe(true)
    return objection !== undefined
  }

  test('is refused once a later one was seen; the same one is not', () => {
    const pins = Pins.of([PINNED])
    expect([at(5), at(7), at(7), at(6), at(undefined), at(8)].map((each) => isRefused(pins, each))).toEqual([
      false,
      false,
      false,
      true,
      true,
      false,
    ])
    expect(pins.objectionToLease(SUBNET, at(7))).toContain('it is a former lease of its host')
  })

  test('of an overlayd without serials is taken until one with a serial was seen', () => {
    const pins = Pins.of([PINNED])
    expect(isRefused(pins, at(undefined))).toBe(false)
    expect(isRefused(pins, at(1))).toBe(false)
    expect(isRefused(pins, at(undefined))).toBe(true)
  })

  test('is no reason against a peer that is kept as it was', () => {
    const pins = Pins.of([PINNED])
    pins.objectionToLease(SUBNET, at(7))
    expect(pins.objection(SUBNET, at(5))).toBeUndefined()
  })

  test('what others sign counts for nothing', () => {
    const pins = Pins.of([PINNED])
    expect(isRefused(pins, at(1000, THEIRS))).toBe(true)
    expect(isRefused(pins, at(5))).toBe(false)
  })

  test('is known to a later run, for the same identity alone, and only while it is pinned', () => {
    const pins = Pins.of([PINNED])
    pins.objectionToLease(SUBNET, at(7))
    const seen = pins.seenSerials()
    expect(seen).toEqual([{ subnet: '10.5.42.0/24', identity: OURS.publicKey(), serial: 7 }])
    expect(isRefused(Pins.of([PINNED], Pins.NONE, seen), at(6))).toBe(true)
    const anew = Pins.of([entry({ identity: THEIRS.publicKey() })], Pins.NONE, seen)
    expect(isRefused(anew, at(1, THEIRS))).toBe(false)
    expect(Pins.of([], Pins.NONE, seen).seenSerials()).toEqual([])
  })

  test('is known after a change of other pins, and while etcd has not told which there are', () => {
    const seen: SeenSerial[] = [{ subnet: '10.5.42.0/24', identity: OURS.publicKey(), serial: 7 }]
    const book = new HostBook(undefined, seen)
    expect(book.seenSerials()).toEqual(seen)
    book.replace([PINNED])
    expect(isRefused(book.pins, at(6))).toBe(true)
    book.pins.objectionToLease(SUBNET, at(9))
    book.apply([{ kind: 'host', host: { ...entry({ user: 'x' }), name: '10.5.43.0-24' } }])
    expect(isRefused(book.pins, at(8))).toBe(true)
    expect(book.seenSerials()).toEqual([{ ...seen[0], serial: 9 }])
  })

  test('property: in any order, what is taken never goes back, over restarts too', () => {
    const leases = Array.from({ length: 6 }, (_, serial) => at(serial === 0 ? undefined : serial))
    const event = fc.oneof(fc.nat({ max: 5 }), fc.constant('restart' as const))
    fc.assert(
      fc.property(fc.array(event, { maxLength: 30 }), (events) => {
        let pins = Pins.of([PINNED])
        let [most, last] = [0, 0]
        for (const each of events) {
          if (each === 'restart') {
            pins = Pins.of([PINNED], Pins.NONE, pins.seenSerials())
            continue
          }
          most = Math.max(most, each)
          const isTaken = pins.objectionToLease(SUBNET, leases[each]) === undefined
          expect(isTaken).toBe(each === most)
          if (isTaken) expect(each).toBeGreaterThanOrEqual(last)
          if (isTaken) last = each
        }
      }),
      { numRuns: runs(200) },
    )
  })
})
