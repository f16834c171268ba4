import { readChains } from '../../../../src/plan/firewall/nft-listing'

const RULESET = `table inet t { # handle 3
	set s { # handle 9
		type inet_service
		elements = { 80 }
	}

	chain out { # handle 1
		type filter hook output priority filter; policy accept;
		tcp dport 8472 drop # handle 4
		jump more # handle 5
	}

	chain more { # handle 2
		udp dport { 4789, 8472 } counter packets 3 bytes 90 drop # handle 7
	}
}
table ip filter { # handle 4
	chain INPUT { # handle 1
		type filter hook input priority filter; policy drop;
		udp dport 53 accept # handle 2
	}
}
`

test('chains with their hooks, policies and rules', () => {
  expect(
    readChains(RULESET).map(({ table, name, hook, policy, rules }) => [
      table,
      name,
      hook,
      policy,
      rules.length,
    ]),
  ).toEqual([
    ['inet t', 'out', 'output', 'accept', 2],
    ['inet t', 'more', undefined, undefined, 1],
    ['ip filter', 'INPUT', 'input', 'drop', 1],
  ])
})
