import fc from 'fast-check'
import { formatMark, parseMark, usersOfMark } from '../../../../src/model/docker-mark'
import { nftablesFlags } from '../../../../src/plan/host/docker-backend'

const BOTH = ['--allow-direct-routing', '--bridge-accept-fwmark=0x1000/0x1000']
const NFT = { 'firewall-backend': 'nftables' }

test.each([
  ['daemon.json', NFT, [], BOTH],
  ['a flag', {}, ['--firewall-backend=nftables'], BOTH],
  ['a flag in two words', {}, ['--firewall-backend', 'nftables', '--debug'], BOTH],
  ['nothing', {}, [], []],
  ['iptables', { 'firewall-backend': 'iptables' }, [], []],
  ['a flag before the file', NFT, ['--firewall-backend=iptables'], []],
  ['no rules of Docker at all', { ...NFT, iptables: false }, [], []],
  ['no rules of Docker at all, by a flag', NFT, ['--iptables=false'], []],
  // dockerd refuses to start when a flag and the file name the same setting.
  ['a file that names one option', { ...NFT, 'allow-direct-routing': true }, [], BOTH.slice(1)],
  ['a flag that names the other', NFT, ['--bridge-accept-fwmark=0x2/0x2'], BOTH.slice(0, 1)],
  ['a switch without a value', NFT, ['--allow-direct-routing', '--debug'], BOTH.slice(1)],
])('the flags for %s', (_, file, flags, expected) => {
  expect(nftablesFlags({ file, flags }, 0x1000)).toEqual(expected)
})

test.each([
  [0x1000, []],
  [0x80000, ['Tailscale', 'Calico']],
  [0x20000, ['Weave', 'Calico'].toSorted()],
  [0x8000, ['kube-proxy']],
])('%d is used by %j', (bit, users) => {
  expect(usersOfMark(bit)).toEqual(expect.arrayContaining(users))
  expect(usersOfMark(bit).length === 0).toBe(users.length === 0)
})

test.each(['', '0', '3', '0x4000', '16384', '0x100000000', '-1', 'on', '0x', '1.5'])(
  '%j is no bit to mark with',
  (text) => expect(parseMark(text)).toBeUndefined(),
)

test('every other bit is read as it is written', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 31 }), (place) => {
      const bit = 2 ** place
      fc.pre(bit !== 0x4000)
      expect([parseMark(formatMark(bit)), parseMark(`${bit}`)]).toEqual([bit, bit])
    }),
  )
})
