/** The guard's rules, compared byte for byte with those that `nft` 1.0.6 sends for the same text. */
import { MessageWriter } from '../../../../src/kernel/netlink/bytes'
import { guardTable } from '../../../../src/kernel/nftables/guard-table'
import { replaceTable, STEP_FORMAT } from '../../../../src/kernel/nftables/netfilter'
import type { Guard } from '../../../../src/model/guard'

const GUARD: Guard = { name: 't', links: ['fl-wg.1'], port: 8472, vnis: [1] }

/** The family and the body of each rule of a chain, as hex digits. */
const rules = (guard: Guard, chain: string): readonly (readonly [family: number, body: string])[] =>
  replaceTable(guardTable(guard)).flatMap((step) => {
    if (step.kind !== 'add-rule' || step.chain !== chain) return []
    const writer = new MessageWriter()
    STEP_FORMAT.encode(writer, step)
    const bytes = writer.take()
    return [[bytes.readUInt8(16), bytes.subarray(20).toString('hex')]]
  })

const INET = 1
const IN_TABLE = '060001007400000007000200696e0000'
const UDP = [
  '24000180090001006d65746100000000140002800800020000000010080001000000000',
  '12c00018008000100636d700020000280080001000000000108000200000000000c0003800500010011000000',
].join('')
const COMPARE = '2c00018008000100636d700020000280080001000000000108000200000000'
const VERDICT = '300001800e000100696d6d6564696174650000001c0002800800010000000000100002800c00028008000100'
const loadTransport = (at: string, length: string): string =>
  '340001800c0001007061796c6f61640024000280080001000000000108000200000000020800030000000'.concat(
    `0${at}08000400000000${length}`,
  )

test('iifname "fl-wg.1" accept; udp dport 8472 @th,96,24 1 counter drop', () => {
  const [through, dropped] = rules(GUARD, 'in')
  const name = '666c2d77672e31000000000000000000'
  expect(through).toEqual([
    INET,
    `${IN_TABLE}9000048024000180090001006d6574610000000014000280080002000000000608000100000000013800018008`.concat(
      '000100636d70002c000280080001000000000108000200000000001800038014000100',
      `${name}${VERDICT}00000001`,
    ),
  ])
  expect(dropped).toEqual([
    INET,
    [
      IN_TABLE,
      '58010480',
      UDP,
      loadTransport('02', '02'),
      `${COMPARE}000c0003800600010021180000`,
      loadTransport('0c', '03'),
      `${COMPARE}000c0003800700010000000100`,
      '140001800c000100636f756e74657200',
      '04000280',
      `${VERDICT}00000000`,
    ].join(''),
  ])
})

test('@th,96,24 >= 0 return', () => {
  const [, , readable] = rules(GUARD, 'cut')
  expect(readable?.[1]).toBe(
    [
      '060001007400000008000200637574',
      '0094000480',
      loadTransport('0c', '03'),
      `${COMPARE}050c0003800700010000000000`,
      `${VERDICT}fffffffb`,
    ].join(''),
  )
})

test('each link, and each VNI, has a rule of its own', () => {
  const count = (guard: Guard) => ['cut', 'in', 'out', 'post'].map((chain) => rules(guard, chain).length)
  expect(count(GUARD)).toEqual([4, 3, 2, 2])
  expect(count({ ...GUARD, links: [] })).toEqual([4, 2, 1, 1])
  expect(count({ ...GUARD, links: ['a', 'b'], vnis: [1, 2, 3] })).toEqual([4, 6, 5, 5])
})

test.each<[string, Partial<Guard>]>([
  ['a name that the kernel would cut off', { links: ['fl-wg.1234567890'] }],
  ['no name', { links: [''] }],
  ['a name with a null byte, which the kernel ends at', { links: ['fl\0wg'] }],
  ['no VNI', { vnis: [] }],
  ['a VNI of more than 24 bits', { vnis: [1, 0x1000000] }],
  ['a port of more than 16 bits', { port: 0x10000 }],
])('a guard that would not guard is refused: %s', (_what, wrong) => {
  expect(() => rules({ ...GUARD, ...wrong }, 'in')).toThrow(RangeError)
})
