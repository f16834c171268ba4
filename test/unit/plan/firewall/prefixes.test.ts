/** Announced prefixes in the firewall rules. */
import type { FirewallRequest, IptablesListing } from '../../../../src/model/firewall'
import {
  desiredIptables,
  desiredMark,
  desiredSource,
  desiredTable,
} from '../../../../src/plan/firewall/firewall'
import { diffIptables } from '../../../../src/plan/firewall/iptables'
import { DROPS, findObstacle, MASQUERADES } from '../../../../src/plan/firewall/iptables-way'
import { restore } from '../../../support/firewall'
import { net } from '../support'

const request = (
  allowed: readonly string[],
  mode: FirewallRequest['mode'] = 'iptables',
): FirewallRequest => ({
  mode,
  networks: [
    {
      network: net('10.5.0.0/16'),
      subnet: net('10.5.1.0/24'),
      link: 'flannel.1',
      ...(allowed.length > 0 && { allowed: allowed.map(net) }),
    },
  ],
  links: ['flannel.1'],
  ipMasq: true,
  fullyRandom: false,
  forwardRules: true,
  docker: true,
  dockerMark: 1,
})
const INSIDE = '10.5.240.0/20'
const OUTSIDE = '192.0.2.0/24'

test('packets of announced prefixes pass, and keep their addresses', () => {
  const { chains, hooks } = desiredIptables(request([INSIDE, OUTSIDE]), 'IPv4')
  const [masquerade = [], forward = []] = chains.map(({ rules }) => rules)
  const index = (text: string): number => masquerade.findIndex((rule) => rule.includes(text))
  for (const range of [INSIDE, OUTSIDE])
    for (const way of [`-s 10.5.0.0/16 -d ${range} `, `-s ${range} -d 10.5.0.0/16 `]) {
      expect(masquerade[index(way)]).toMatch(/-j RETURN$/)
      expect(index(way)).toBeLessThan(masquerade.findIndex((rule) => rule.endsWith('-j MASQUERADE')))
    }
  // The network's own rules accept what is inside of the network.
  expect(forward.map((rule) => rule.replace(/ -m .*/, ''))).toEqual([
    '-A FLANNEL-FWD -s 10.5.0.0/16',
    '-A FLANNEL-FWD -d 10.5.0.0/16',
    `-A FLANNEL-FWD -s ${OUTSIDE}`,
    `-A FLANNEL-FWD -d ${OUTSIDE}`,
  ])
  expect(hooks.map(({ chain, text }) => `${chain} ${text.replace(/ -m .*/, '')}`)).toEqual(
    expect.arrayContaining([
      `PREROUTING -s ${OUTSIDE} -i flannel.1`,
      `DOCKER-USER -s ${OUTSIDE} -i flannel.1`,
      `DOCKER-USER -d ${OUTSIDE} -o flannel.1`,
      `POSTROUTING -s 10.5.0.0/16 -d ${INSIDE}`,
      `POSTROUTING -s ${OUTSIDE} -d 10.5.0.0/16`,
    ]),
  )
})

test('the same with nftables', () => {
  const { text = '' } = desiredTable(request([OUTSIDE], 'nftables'), 'IPv4')
  expect(text).toContain(`\t\tip saddr ${OUTSIDE} accept\n\t\tip daddr ${OUTSIDE} accept\n`)
  expect(text).toContain(`\t\tip saddr 10.5.0.0/16 ip daddr ${OUTSIDE} return\n`)
  expect(text).toContain(`\t\tip saddr ${OUTSIDE} ip daddr 10.5.0.0/16 return\n`)
  expect(desiredMark(request([OUTSIDE]), 'IPv4').text?.match(/meta mark set/g)).toHaveLength(2)
})

test('a rule of Docker that masquerades a network in an allowed range is found, and one that drops is not', () => {
  const [network] = request([INSIDE]).networks
  if (network === undefined) throw new Error('there is no network')
  const part = INSIDE.replace(/\/\d+$/, '/27')
  const masquerade = `-A POSTROUTING -s ${part} ! -o br-0c2a6ee8a1b2 -j MASQUERADE`
  expect(findObstacle([masquerade], 'POSTROUTING', network, MASQUERADES)?.line).toBe(masquerade)
  const elsewhere = '-A POSTROUTING -s 172.18.0.0/27 ! -o br-0c2a6ee8a1b2 -j MASQUERADE'
  expect(findObstacle([elsewhere], 'POSTROUTING', network, MASQUERADES)).toBeUndefined()
  const [plain] = request([]).networks
  expect(plain && findObstacle([masquerade], 'POSTROUTING', plain, MASQUERADES)).toBeUndefined()
  expect(findObstacle([`-A FORWARD -d ${INSIDE} -j DROP`], 'FORWARD', network, DROPS)).toBeUndefined()
})

/** Rules of POSTROUTING, once ours are in force beside those. */
function posted(allowed: readonly string[], lines: readonly string[]): string[] {
  const wanted = request(allowed)
  const before: IptablesListing = new Map([['nat', [':POSTROUTING ACCEPT [0:0]', ...lines]]])
  const diff = diffIptables(desiredIptables(wanted, 'IPv4'), wanted.links, before)
  const after = restore(before, diff ?? '')
  expect(diffIptables(desiredIptables(wanted, 'IPv4'), wanted.links, after)).toBeUndefined()
  const found = after.get('nat') ?? []
  return found === 'foreign' ? [] : found.filter((line) => line.startsWith('-A POSTROUTING'))
}

test.each([
  // All that leaves for the outside world, as on a gateway.
  [OUTSIDE, '-A POSTROUTING -o eth0 -j MASQUERADE'],
  [OUTSIDE, '-A POSTROUTING -s 10.0.0.0/8 -o eth0 -j SNAT --to-source 203.0.113.1'],
  // Docker's rule for a network that exists on all hosts.
  [INSIDE, '-A POSTROUTING -s 10.5.240.0/24 ! -o br-moving -j MASQUERADE'],
  [OUTSIDE, '-A POSTROUTING -s 192.0.2.0/25 ! -o br-behind -j MASQUERADE'],
])('packets of %s keep their addresses in spite of %s', (range, line) => {
  const rules = posted([range], [line])
  const place = rules.indexOf(line)
  for (const way of [`-s 10.5.0.0/16 -d ${range} `, `-s ${range} -d 10.5.0.0/16 `])
    expect(rules.slice(0, place).some((rule) => rule.includes(way) && rule.endsWith('-j ACCEPT'))).toBe(true)
  expect(posted([], [line])).toHaveLength(2)
})

test.each([
  [INSIDE, '-A POSTROUTING -o eth0 -j MASQUERADE'],
  [OUTSIDE, '-A POSTROUTING -s 10.5.1.7/32 -o eth0 -j SNAT --to-source 203.0.113.1'],
  [OUTSIDE, '-A POSTROUTING -d 192.0.2.7/32 -o eth0 -j MASQUERADE'],
  [OUTSIDE, '-A POSTROUTING -o eth0 -p tcp -j MASQUERADE'],
])('where %s is allowed, the rule %s is left alone', (range, line) => {
  expect(posted([range], [line])).toHaveLength(2)
})

test('netavark with nftables changes no address of announced prefixes', () => {
  const { text = '' } = desiredSource(request([INSIDE, OUTSIDE]), 'IPv4')
  const ways = text.match(/ip saddr \S+ ip daddr \S+ snat to ip saddr/g)
  expect(ways?.map((way) => way.replace(/ip saddr (\S+) ip daddr (\S+) .*/, '$1 $2'))).toEqual([
    '10.5.1.0/24 10.5.0.0/16',
    `10.5.1.0/24 ${OUTSIDE}`,
    `${INSIDE} 10.5.0.0/16`,
    `${INSIDE} ${OUTSIDE}`,
    `${OUTSIDE} 10.5.0.0/16`,
    `${OUTSIDE} ${OUTSIDE}`,
  ])
})

test('without allowed ranges nothing is different', () => {
  const plain = desiredIptables(request([]), 'IPv4')
  expect(JSON.stringify(plain)).not.toContain(OUTSIDE)
  expect(plain.chains[1]?.rules).toHaveLength(2)
})
