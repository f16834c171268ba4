/** Records of operators' writes: with the write or not at all, in order, and bounded. */
import { MOST_RECORDS } from '../../../src/model/audit'
import { patient } from '../../lab/patience'
import { CONFIG, ever, hostValue, PREFIX, recordOf, Site, subnetOf } from './site'

jest.setTimeout(patient(60_000))

const noted = (number: number) => ({ record: recordOf('reserve', number), isNoted: true })

let site: Site
beforeAll(async () => {
  site = await Site.start()
})
afterAll(() => site.stop())
beforeEach(() => site.clear())

const writes = async () => {
  const entries = await (await site.registry()).audit.list(ever)
  return entries.map(({ number, record }) => [number, record.value?.what ?? record.reason])
}

test('a write that happens has a record, in the same revision; one that does not has none', async () => {
  const { config } = await site.registry()
  expect(await config.put(CONFIG, 'absent', recordOf('config set', 1), ever)).toBe('written')
  expect(await config.put('{}', 'absent', recordOf('config set', 2), ever)).toBe('changed')
  expect(await writes()).toEqual([[1, 'write 1']])
  const { kvs } = await site.others.kv.range({
    key: Buffer.from(`${PREFIX}/`),
    range_end: Buffer.from(`${PREFIX}0`),
  })
  expect(new Set(kvs.map(({ mod_revision }) => mod_revision)).size).toBe(1)
})

test('a second try after a lost answer is no second record', async () => {
  const { reservations } = await site.registry()
  const create = () => reservations.create(subnetOf('10.5.1.0'), hostValue(1), ever, noted(1))
  const first = await create()
  expect(first.kind).toBe('created')
  expect(await create()).toEqual(first)
  expect(await writes()).toEqual([[1, 'write 1']])
})

test('operators who write at the same time have a record each', async () => {
  const registries = await Promise.all(Array.from({ length: 5 }, () => site.registry()))
  const results = await Promise.all(
    registries.map(({ reservations }, i) =>
      reservations.create(subnetOf(`10.5.${i}.0`), hostValue(i + 1), ever, noted(i)),
    ),
  )
  expect(results.map(({ kind }) => kind)).toEqual(Array(5).fill('created'))
  const found = await writes()
  expect(found.map(([number]) => number)).toEqual([5, 4, 3, 2, 1])
  expect(new Set(found.map(([, what]) => what)).size).toBe(5)
})

test('of more records than are kept the oldest goes with the write of the newest', async () => {
  const { config } = await site.registry()
  const puts = Array.from({ length: MOST_RECORDS }, (_, i) => ({
    request_put: {
      key: Buffer.from(`${PREFIX}/overlay/audit/${String(i + 1).padStart(12, '0')}`),
      value: Buffer.from('{}'),
    },
  }))
  for (let at = 0; at < puts.length; at += 100)
    await site.others.kv.txn({ success: puts.slice(at, at + 100) })
  await config.put(CONFIG, 'absent', recordOf('config set', 1), ever)
  const found = await writes()
  expect(found).toHaveLength(MOST_RECORDS)
  expect(found[0]).toEqual([MOST_RECORDS + 1, 'write 1'])
  expect(found.at(-1)).toEqual([2, expect.stringContaining('not valid')])
})

test('keys of another program among the records stop no operator', async () => {
  const { config } = await site.registry()
  await site.put('overlay/audit/0000-stray', 'x')
  await site.put('overlay/audit/99', 'x')
  await site.put('overlay/audit/zz', 'x')
  expect(await config.put(CONFIG, 'absent', recordOf('config set', 1), ever)).toBe('written')
  expect(await writes()).toEqual([[1, 'write 1']])
})
