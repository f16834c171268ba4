/** Messages of nftables, against what `nft` 1.0.6 sends for the same, byte for byte. */
import { replaceTable, STEP_FORMAT, TABLE_TRANSACTION, type TableStep } from '../../../src/kernel/netfilter'
import { MessageWriter } from '../../../src/kernel/netlink/bytes'
import type { FrameRule } from '../../../src/model/multicast'

/** A message's body behind its two headers. */
function body(write: (writer: MessageWriter) => void): string {
  const writer = new MessageWriter()
  write(writer)
  return writer.take().subarray(20).toString('hex')
}

const step = (wanted: TableStep): string => body((writer) => STEP_FORMAT.encode(writer, wanted))

test('a chain', () => {
  const chain = { name: 'in', link: 'fl0', otherwise: 'drop', rules: [] } as const
  const [table, name, type, policy, hook] = [
    '080001006d637800',
    '07000300696e0000',
    '0b00070066696c7465720000',
    '0800050000000000',
    // nft asks for priority 0.
    '1c0004800800010000000000080002000000006408000300666c3000',
  ]
  expect(step({ kind: 'add-chain', table: 'mcx', chain })).toBe([table, name, type, policy, hook].join(''))
})

test('a rule: ip saddr 10.50.0.0/16 ip daddr 224.0.0.0/4 ip protocol != igmp fwd to 2', () => {
  const rule: FrameRule = {
    family: 'IPv4',
    conditions: [
      { header: 'network', at: 12, value: [10, 50] },
      { header: 'network', at: 16, value: [0xe0], mask: [0xf0] },
      { header: 'network', at: 9, value: [2], not: true },
    ],
    copyTo: [],
    moveTo: 2,
  }
  const expressions = [
    '240001800900010'.concat('06d65746100000000', '14000280', '0800020000000001', '0800010000000001'),
    '2c00018008000100636d700020000280080001000000000108000200000000000c000380060001000800'.concat('0000'),
    '340001800c0001007061796c6f616400240002800800010000000001080002000000000108000300'.concat(
      '0000000c',
      '0800040000000002',
    ),
    '2c00018008000100636d700020000280080001000000000108000200000000000c000380060001000a32'.concat('0000'),
    '340001800c0001007061796c6f616400240002800800010000000001080002000000000108000300'.concat(
      '00000010',
      '0800040000000001',
    ),
    '440001800c0001006269747769736500340002800800010000000001080002000000000108000300'.concat(
      '00000001',
      '0c00048005000100f0000000',
      '0c0005800500010000000000',
    ),
    '2c00018008000100636d700020000280080001000000000108000200000000000c00038005000100e0000000',
    '340001800c0001007061796c6f616400240002800800010000000001080002000000000108000300'.concat(
      '00000009',
      '0800040000000001',
    ),
    '2c00018008000100636d700020000280080001000000000108000200000000010c0003800500010002000000',
    '2c0001800e000100696d6d656469617465000000180002800800010000000001'.concat('0c0002800800010002000000'),
    '1800018008000100667764000c0002800800010000000001',
  ]
  const list = expressions.join('')
  const length = Buffer.alloc(2)
  length.writeUInt16LE(4 + list.length / 2)
  expect(step({ kind: 'add-rule', table: 'mcx', chain: 'in', rule })).toBe(
    `080001006d63780007000200696e0000${length.toString('hex')}0480${list}`,
  )
})

test('a table takes the place of what is there: made, so that it can be deleted, and made again', () => {
  const rule: FrameRule = { family: 'IPv6', conditions: [], copyTo: [7] }
  const chain = { name: 'in', link: 'fl0', otherwise: 'drop', rules: [rule, rule] } as const
  const steps = replaceTable({ name: 'mcx', sets: [], chains: [chain] })
  expect(steps.map(({ kind }) => kind)).toEqual([
    'make-table',
    'delete-table',
    'make-table',
    'add-chain',
    'add-rule',
    'add-rule',
  ])
  expect(steps.map((each) => STEP_FORMAT.describe(each))).toContain(
    'add a chain on fl0 to the nftables table netdev mcx',
  )
})

test('the ends of a transaction name the subsystem', () => {
  const writer = new MessageWriter()
  TABLE_TRANSACTION.begin(writer)
  TABLE_TRANSACTION.end(writer)
  const bytes = writer.take()
  expect([bytes.readUInt16LE(4), bytes.readUInt16BE(18)]).toEqual([0x10, 10])
  expect([bytes.readUInt16LE(24), bytes.readUInt16BE(38)]).toEqual([0x11, 10])
})
