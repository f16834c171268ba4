import { compileGoRegex } from '../../../src/options/go-regex'

test.each([
  ['eth', 'my-eth0', true],
  ['^eth', 'my-eth0', false],
  ['(?i)ETH0', 'eth0', true],
  ['\\Aeth\\z', 'eth', true],
  ['\\Aeth\\z', 'eth0', false],
  ['\\\\A', 'A', false],
  ['^(?P<kind>en|eth)\\d+$', 'eth12', true],
  ['^en[[:alnum:]]+$', 'enp3s0', true],
  ['^en[[:digit:]]+$', 'enp3s0', false],
  ['10\\.(4|5)\\..*', '10.4.7.7', true],
])('%s on %s: %s', (pattern, text, matches) => {
  expect(compileGoRegex(pattern).test(text)).toBe(matches)
})

test.each([['eth('], ['[z-a]'], ['*'], ['\\Qeth\\E'], ['\\pL+'], ['a(?i)b'], ['(?U)a+']])(
  '%s is refused',
  (pattern) => {
    expect(() => compileGoRegex(pattern)).toThrow(SyntaxError)
  },
)
