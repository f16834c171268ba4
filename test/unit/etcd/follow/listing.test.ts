import fc from 'fast-check'
import { keysUnder, keyText } from '../../../../src/etcd/codec/keys'
import { type ListingOptions, readSnapshot } from '../../../../src/etcd/follow/listing'
import { MOST_MISNAMED } from '../../../../src/model/lease'
import { runs } from '../../support/runs'
import { honestly, type Page, RangeServer, type StoredKey } from '../range-server'

const numRuns = runs(200)
const keys = keysUnder('/p')
const ever = new AbortController().signal
const VALUE = '{"PublicIP":"192.168.77.11","PublicIPv6":null}'

const stored = (key: string | Buffer, value: string | Buffer = VALUE): StoredKey => ({
  key: Buffer.concat([Buffer.from('/p/'), Buffer.from(key)]),
  value: Buffer.from(value),
})
const list = async (server: RangeServer, options: ListingOptions = {}) =>
  (await readSnapshot(server.client, keys, ever, options)).snapshot
const bytes = (...all: number[]) => Buffer.concat([Buffer.from('subnets/'), Buffer.from(all)])

test('keys that are not UTF-8 are listed once each, and the listing ends', async () => {
  const bad = Array.from({ length: 100 }, (_, i) => stored(bytes(0xff, i)))
  const server = new RangeServer(honestly([...bad, stored('subnets/10.5.1.0-24')]))
  const { leases, unreadable } = await list(server, { pageKeys: 7 })
  expect(leases.map(({ key }) => key)).toEqual(['/p/subnets/10.5.1.0-24'])
  expect(unreadable).toHaveLength(100)
  expect(new Set(unreadable.map(({ key }) => key)).size).toBe(100)
  expect(unreadable[0]?.key).toBe('/p/subnets/\\xff\\x00')
  expect(server.asked).toHaveLength(Math.ceil(101 / 7))
})

test('any keys are listed once each, whatever the size of pages and answers', async () => {
  const anyKey = fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 12 }).map((each) => Buffer.from(each)),
    fc.uint8Array({ maxLength: 8 }).map((each) => Buffer.concat([Buffer.from('subnets/'), each])),
    fc.uint8Array({ maxLength: 8 }).map((each) => Buffer.concat([Buffer.from('overlay/groups/'), each])),
    fc.nat(255).map((octet) => Buffer.from(`subnets/10.5.${octet}.0-24`)),
    fc.constant(Buffer.from('config')),
  )
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(anyKey, { maxLength: 60, selector: (key) => key.toString('latin1') }),
      fc.integer({ min: 1, max: 20 }),
      fc.integer({ min: 200, max: 5000 }),
      fc.boolean(),
      fc.boolean(),
      async (names, pageKeys, mostBytes, wants, hasManyGroups) => {
        const server = new RangeServer(honestly(names.map((name) => stored(name))), mostBytes)
        const { config, leases, unreadable, moreMisnamed, groups } = await list(server, {
          pageKeys,
          hasManyGroups,
          wantsGroups: () => wants,
        })
        const under = (start: string) => names.filter((name) => name.toString('latin1').startsWith(start))
        const listed = [...leases, ...unreadable].map(({ key }) => key)
        const subnets = under('subnets/').map((name) => `/p/subnets/${keyText(name.subarray(8))}`)
        expect(listed.sort()).toEqual(subnets.sort())
        expect(moreMisnamed).toBeUndefined()
        expect(config).toBe(names.some((name) => name.equals(Buffer.from('config'))) ? VALUE : undefined)
        const announced = under('overlay/groups/').map((name) => keyText(name.subarray(15)))
        expect(groups?.map(({ name }) => name).sort()).toEqual(wants ? announced.sort() : undefined)
      },
    ),
    { numRuns },
  )
})

test.each<[string, (asked: { from: Buffer }) => Page]>([
  ['the same page again', () => ({ kvs: [stored('subnets/a'), stored('subnets/b')], more: true })],
  ['a key twice', () => ({ kvs: [stored('subnets/a'), stored('subnets/a')], more: false })],
  ['keys backwards', () => ({ kvs: [stored('subnets/b'), stored('subnets/a')], more: false })],
  [
    'a key outside the range',
    () => ({ kvs: [{ key: Buffer.from('/q/x'), value: Buffer.alloc(0) }], more: false }),
  ],
  ['more keys and none', () => ({ kvs: [], more: true })],
])('an answer with %s is an error, not an endless loop', async (_, answer) => {
  const server = new RangeServer(answer)
  await expect(list(server)).rejects.toMatchObject({
    code: 'etcd-failed',
    message: expect.stringMatching(/^cannot read the leases: etcd at http:\/\/test /),
    fix: expect.stringContaining('proxy'),
  })
  expect(server.asked.length).toBeLessThanOrEqual(2)
})

test('an endless listing ends at each of the bounds', async () => {
  let next = 0
  const endless = (name: () => string) => () =>
    new RangeServer(() => ({ kvs: [stored(`subnets/${name()}`, 'x'.repeat(1000))], more: true }))
  const junk = endless(() => String(next++).padStart(9, '0'))
  const leases = endless(() => {
    next += 1
    return `10.${100 + (next >> 8)}.${100 + (next & 127)}.0-24`
  })
  const bounds = { pages: 50, bytes: 1e9, milliseconds: 60_000, leases: 1e9 }
  const first = junk()
  await expect(list(first, { bounds })).rejects.toThrow(/more than 50 pages of an answer/)
  expect(first.asked).toHaveLength(50)
  await expect(list(junk(), { bounds: { ...bounds, bytes: 5000 } })).rejects.toThrow(/more than 5000 bytes/)
  const late = list(junk(), { bounds: { ...bounds, pages: 1e9, milliseconds: 50 } })
  await expect(late).rejects.toThrow(/takes more than 0.05 s/)
  next = 0
  await expect(list(leases(), { bounds: { ...bounds, leases: 3 } })).rejects.toMatchObject({
    message: expect.stringMatching(/more than 3 leases/),
    fix: expect.stringContaining('etcdctl get /p/ --prefix --keys-only'),
  })
})

test('of many long names a bounded number is kept, shortened, and the others are counted', async () => {
  const names = Array.from(
    { length: 1000 },
    (_, i) => `subnets/${String(i).padStart(4, '0')}${'x'.repeat(5000)}`,
  )
  const server = new RangeServer(honestly(names.map((name) => stored(name))))
  const { unreadable, moreMisnamed } = await list(server)
  expect([unreadable.length, moreMisnamed]).toEqual([MOST_MISNAMED, 1000 - MOST_MISNAMED])
  expect(new Set(unreadable.map(({ key }) => key)).size).toBe(MOST_MISNAMED)
  expect(Math.max(...unreadable.map(({ key }) => key.length))).toBeLessThan(250)
  expect(unreadable[0]?.key).toMatch(/^\/p\/subnets\/0000x+\\\.\.\.\(5004 bytes, SHA-256 [0-9a-f]{64}\)$/)
})

test('a value that is too long does not affect other values', async () => {
  const server = new RangeServer(
    honestly([stored('subnets/10.5.1.0-24', 'x'.repeat(1_000_000)), stored('subnets/10.5.2.0-24')]),
  )
  const { leases, unreadable } = await list(server)
  expect(leases).toHaveLength(1)
  expect(unreadable).toEqual([expect.objectContaining({ reason: expect.stringContaining('1000000 bytes') })])
})

describe('the groups that hosts announce', () => {
  const many = Array.from({ length: 300 }, (_, i) => stored(`overlay/groups/${i}`, 'x'.repeat(10_000)))
  const rest = [stored('config', '{}'), stored('subnets/10.5.1.0-24'), stored('zzz')]

  test('are dropped if they are not wanted, and a further listing skips their range', async () => {
    const server = new RangeServer(honestly([...many, ...rest]), 1_000_000)
    const wantsGroups = () => false
    const first = await readSnapshot(server.client, keys, ever, { wantsGroups })
    expect(first.snapshot.groups).toBeUndefined()
    expect(first.snapshot.leases).toHaveLength(1)
    expect(first.hasManyGroups).toBe(true)
    server.asked.length = 0
    const second = await readSnapshot(server.client, keys, ever, { wantsGroups, hasManyGroups: true })
    expect(second.snapshot).toEqual(first.snapshot)
    const isIn = ({ from }: { from: Buffer }) => from.toString().startsWith('/p/overlay/groups/')
    expect([server.asked.length, server.asked.some(isIn)]).toEqual([2, false])
  })

  test('are read, after an earlier listing skipped them, if the config wants them now', async () => {
    const server = new RangeServer(honestly([...many, ...rest]), 1_000_000)
    const { snapshot } = await readSnapshot(server.client, keys, ever, {
      wantsGroups: (config) => config === '{}',
      hasManyGroups: true,
    })
    expect(snapshot.groups).toHaveLength(300)
    expect(snapshot.leases).toHaveLength(1)
  })
})

describe('the text of a key', () => {
  test.each([
    [Buffer.from('10.5.1.0-24&fd00::-64'), '10.5.1.0-24&fd00::-64'],
    [Buffer.from('größe'), 'größe'],
    [Buffer.from([0xff, 0x41]), '\\xffA'],
    [Buffer.from('\\xffA'), '\\\\xffA'],
    [Buffer.from('\u{fffd}A'), '\u{fffd}A'],
    [Buffer.from('\x1b[2J\u202e\n'), '\\u{1b}[2J\\u{202e}\\u{a}'],
    [Buffer.from([0x0a, 0xc3]), '\\x0a\\xc3'],
  ])('of %p is %s', (key, text) => expect(keyText(key)).toBe(text))

  test('differs for different keys, and has no control characters', () => {
    const any = fc.oneof(
      fc.uint8Array({ maxLength: 6 }).map((each) => Buffer.from(each)),
      fc
        .array(fc.constantFrom('\\', 'x', 'f', 'u', '{', '}', '\u{1b}', '\u{fffd}', 'ÿ'), { maxLength: 6 })
        .map((all) => Buffer.from(all.join(''))),
      fc.nat(3).map((last) => Buffer.from(`${'x'.repeat(600)}${last}`)),
    )
    fc.assert(
      fc.property(any, any, (a, b) => {
        expect(keyText(a) === keyText(b)).toBe(a.equals(b))
        expect(keyText(a)).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u)
      }),
      { numRuns: 2 * numRuns },
    )
  })
})
