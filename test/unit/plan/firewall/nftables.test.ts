import { desiredMark, desiredTable } from '../../../../src/plan/firewall/firewall'
import { diffTable, sameRules } from '../../../../src/plan/firewall/nftables'
import { request } from '../../../support/firewall'

const wanted = { name: 'ip flannel-ipv4', text: 'table ip flannel-ipv4 {\n}\n' }
const unwanted = { name: 'ip flannel-ipv4', text: undefined }

test('a table that equals the desired text is left alone; nothing is done for an absent one', () => {
  expect(diffTable(wanted, wanted.text)).toBeUndefined()
  expect(diffTable(unwanted, undefined)).toBeUndefined()
})

test('any other table is replaced in one transaction, which also works if it does not exist', () => {
  const replace = 'add table ip flannel-ipv4\ndelete table ip flannel-ipv4\ntable ip flannel-ipv4 {\n}\n'
  expect(diffTable(wanted, undefined)).toBe(replace)
  expect(diffTable(wanted, 'table ip flannel-ipv4 {\n\tset x {\n\t}\n}\n')).toBe(replace)
})

test('a table that is not desired is removed', () => {
  expect(diffTable(unwanted, wanted.text)).toBe('add table ip flannel-ipv4\ndelete table ip flannel-ipv4\n')
})

test('another spelling of the same rules is distinguished from other rules', () => {
  const text = desiredTable(request({ mode: 'nftables' }), 'IPv6').text ?? ''
  expect(sameRules(text.replaceAll('0x00004000', '0x4000').replace(/\tcomment.*\n/, ''), text)).toBe(true)
  for (const [from, to] of [
    ['fd00:5:0:1::/64', 'fd00:5:0:9::/64'],
    ['!= ', ''],
    [' accept\n', ' return\n'],
    [' fully-random', ''],
    ['saddr', 'daddr'],
    ['chain forward', 'chain other'],
  ] as const) {
    expect(sameRules(text.replace(from, to), text)).toBe(false)
  }
  const mark = desiredMark(request({ dockerMark: 0x1000 }), 'IPv4').text ?? ''
  expect(sameRules(mark.replace('| 0x00001000', 'or 0x1000'), mark)).toBe(true)
  expect(sameRules(mark.replace('0x00001000', '0x00002000'), mark)).toBe(false)
})
