import { desiredTable } from '../../../src/plan/firewall'
import { diffTable, sayTheSame } from '../../../src/plan/firewall-nftables'
import { request } from '../../support/firewall'

const wanted = { name: 'ip flannel-ipv4', text: 'table ip flannel-ipv4 {\n}\n' }
const unwanted = { name: 'ip flannel-ipv4', text: undefined }

test('a table in the wanted words is left alone, and so is one that is neither wanted nor there', () => {
  expect(diffTable(wanted, wanted.text)).toBeUndefined()
  expect(diffTable(unwanted, undefined)).toBeUndefined()
})

test('any other is replaced in one transaction, which also works when it is not there', () => {
  const replace = 'add table ip flannel-ipv4\ndelete table ip flannel-ipv4\ntable ip flannel-ipv4 {\n}\n'
  expect(diffTable(wanted, undefined)).toBe(replace)
  expect(diffTable(wanted, 'table ip flannel-ipv4 {\n\tset x {\n\t}\n}\n')).toBe(replace)
})

test('one that is not wanted is removed', () => {
  expect(diffTable(unwanted, wanted.text)).toBe('add table ip flannel-ipv4\ndelete table ip flannel-ipv4\n')
})

test('other words for the same rules are told from other rules', () => {
  const text = desiredTable(request({ mode: 'nftables' }), 'IPv6').text ?? ''
  expect(sayTheSame(text.replaceAll('0x00004000', '0x4000').replace(/\tcomment.*\n/, ''), text)).toBe(true)
  for (const [from, to] of [
    ['fd00:5:0:1::/64', 'fd00:5:0:9::/64'],
    ['!= ', ''],
    [' accept\n', ' return\n'],
    [' fully-random', ''],
    ['saddr', 'daddr'],
    ['chain forward', 'chain other'],
  ] as const) {
    expect(sayTheSame(text.replace(from, to), text)).toBe(false)
  }
})
