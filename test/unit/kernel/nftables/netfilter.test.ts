/** Messages of nftables, compared byte for byte with those that `nft` 1.0.6 sends. */

import { MessageWriter } from '../../../../src/kernel/netlink/bytes'
import {
  replaceTable,
  STEP_FORMAT,
  TABLE_TRANSACTION,
  type TableStep,
} from '../../../../src/kernel/nftables/netfilter'
import type { Rule } from '../../../../src/model/kernel/tables'

/** The body of a message, without its two headers, as hex digits. */
function body(write: (writer: MessageWriter) => void): string {
  const writer = new MessageWriter()
  write(writer)
  return writer.take().subarray(20).toString('hex')
}

const step = (wanted: TableStep): string => body((writer) => STEP_FORMAT.encode(writer, wanted))

const MCX = { family: 'netdev', name: 'mcx' } as const

test('a chain', () => {
  const chain = { name: 'in', link: 'fl0', policy: 'drop', rules: [] } as const
  const [table, name, type, policy, hook] = [
    '080001006d637800',
    '07000300696e0000',
    '0b00070066696c7465720000',
    '0800050000000000',
    // With priority 0, as nft sends it.
    '1c0004800800010000000000080002000000006408000300666c3000',
  ]
  expect(step({ kind: 'add-chain', table: MCX, chain })).toBe([table, name, type, policy, hook].join(''))
})

test('a rule: ip saddr 10.50.0.0/16 ip daddr 224.0.0.0/4 ip protocol != igmp fwd to 2', () => {
  const rule: Rule = {
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
  expect(step({ kind: 'add-rule', table: MCX, chain: 'in', rule })).toBe(
    `080001006d63780007000200696e0000${length.toString('hex')}0480${list}`,
  )
})

test('a table replaces an existing one: made, so that the deletion succeeds, deleted, and made again', () => {
  const rule: Rule = { family: 'IPv6', conditions: [], copyTo: [7] }
  const chain = { name: 'in', link: 'fl0', policy: 'drop', rules: [rule, rule] } as const
  const steps = replaceTable({ ...MCX, sets: [], chains: [chain] })
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

test('begin and end of a transaction name the subsystem', () => {
  const writer = new MessageWriter()
  TABLE_TRANSACTION.begin(writer)
  TABLE_TRANSACTION.end(writer)
  const bytes = writer.take()
  expect([bytes.readUInt16LE(4), bytes.readUInt16BE(18)]).toEqual([0x10, 10])
  expect([bytes.readUInt16LE(24), bytes.readUInt16BE(38)]).toEqual([0x11, 10])
})
