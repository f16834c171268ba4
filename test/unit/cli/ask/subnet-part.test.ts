import { readParts } from '../../../../src/cli/ask/subnet-part'
import { formatPrefix } from '../../../../src/model/address'

test('--subnet is given once for each family, in any order', () => {
  expect(readParts([], 'cni')).toEqual([])
  const texts = ['fd00:5:0:f000::/64', '10.5.250.0/26']
  expect(readParts(texts, 'cni').map(formatPrefix)).toEqual(texts)
})

test.each([
  [['10.5.7.0/27', '10.5.7.32/27'], '--subnet names 2 parts of IPv4: 10.5.7.0/27 and 10.5.7.32/27'],
  [['fd00::/64', '10.5.7.0/27', 'fd01::/64'], '--subnet names 2 parts of IPv6: fd00::/64 and fd01::/64'],
  [['10.5.7.0'], '--subnet is "10.5.7.0", which is not a prefix'],
])('--subnet=%j is refused', (texts, message) => {
  expect(() => readParts(texts, 'cni')).toThrow(message)
})
