import { findNftDrops } from '../../../../src/plan/firewall/nft-drops'
import { ipv4Network, ipv6Network } from '../../../support/firewall'

const table = (name: string, chain: string, ...rules: string[]): string =>
  [`table ${name} {`, `\tchain ${chain} {`, ...rules.map((rule) => `\t\t${rule}`), '\t}', '}', ''].join('\n')
const FORWARD = (policy = 'accept') => `type filter hook forward priority filter; policy ${policy};`
const RAW = 'type filter hook prerouting priority raw; policy accept;'
const KNOWN = 'ct state established,related accept # handle 3'
const rulesOf = (ruleset: string): string[] => findNftDrops(ruleset, ipv4Network).map(({ rule }) => rule)

test.each<[string, string, string]>([
  ['a policy', table('inet mine', 'fwd', FORWARD('drop'), KNOWN), 'table inet mine, chain fwd: policy drop'],
  [
    'a drop of all packets',
    table('ip mine', 'fwd', FORWARD(), KNOWN, 'counter packets 3 bytes 180 drop # handle 4'),
    'table ip mine, chain fwd: counter packets 3 bytes 180 drop',
  ],
  [
    'a reject of all packets',
    table('inet mine', 'fwd', FORWARD(), 'reject with icmpx admin-prohibited # handle 4'),
    'table inet mine, chain fwd: reject with icmpx admin-prohibited',
  ],
  [
    "Docker's drop for one container",
    table(
      'ip docker-bridges',
      'raw-PREROUTING',
      RAW,
      'ip daddr 10.5.1.2 iifname != { "docker0" } counter packets 0 bytes 0 drop comment "DROP DIRECT ACCESS" # handle 9',
    ),
    'table ip docker-bridges, chain raw-PREROUTING: ip daddr 10.5.1.2 iifname != { "docker0" } counter packets 0 bytes 0 drop comment "DROP DIRECT ACCESS"',
  ],
])('%s is reported with its table and chain', (_, ruleset, rule) => {
  expect(rulesOf(ruleset)).toEqual([rule])
})

test.each<[string, string]>([
  ['of iptables', table('ip filter', 'FORWARD', FORWARD('drop'))],
  ['of ours', table('ip flannel-ipv4-blue', 'forward', FORWARD('drop'))],
  ['of another family', table('ip6 mine', 'fwd', FORWARD('drop'))],
  ['at another hook', table('inet mine', 'in', 'type filter hook input priority filter; policy drop;')],
  [
    'after a rule that may accept',
    table('inet mine', 'fwd', FORWARD('drop'), 'iifname "docker0" accept # handle 2'),
  ],
  ['after a call of a chain', table('inet mine', 'fwd', FORWARD('drop'), 'jump zones # handle 2')],
  ['of a port', table('inet mine', 'fwd', FORWARD(), 'tcp dport 25 drop # handle 2')],
  [
    'of a container of another network',
    table(
      'ip docker-bridges',
      'raw-PREROUTING',
      RAW,
      'ip daddr 172.18.0.2 iifname != "br-1" counter drop # handle 9',
    ),
  ],
])('a drop %s is not reported', (_, ruleset) => {
  expect(rulesOf(ruleset)).toEqual([])
})

test("the fix is a command of the drop's owner", () => {
  const fix = (ruleset: string, network = ipv4Network) => findNftDrops(ruleset, network)[0]?.fix
  expect(fix(table('inet firewalld', 'filter_FORWARD', FORWARD('drop')))).toContain(
    'firewall-cmd --permanent',
  )
  expect(fix(table('ip docker-bridges', 'filter-FORWARD', FORWARD('drop')))).toContain(
    '--allow-direct-routing',
  )
  expect(fix(table('inet mine', 'fwd', FORWARD('drop')), ipv6Network)).toBe(
    'nft insert rule inet mine fwd ip6 saddr fd00:5::/48 accept; nft insert rule inet mine fwd ip6 daddr fd00:5::/48 accept',
  )
})
