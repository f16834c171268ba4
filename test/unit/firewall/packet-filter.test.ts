import { readTables, readTexts } from '../../../src/firewall/packet-filter'

/** Output of nft 1.0.6. */
const LISTING = `# Warning: table ip nat is managed by iptables-nft, do not touch!
table ip nat { # handle 1
\tchain POSTROUTING { # handle 1
\t\ttype nat hook postrouting priority srcnat; policy accept;
\t\tip saddr 10.0.0.0/8 masquerade # handle 2
\t}
}
table netdev overlayd-lock-flannel.1 { # progname MainThread # handle 2
\tflags owner
}
table inet asleep { # handle 3
\tflags dormant

\tset flags {
\t\ttype ipv4_addr
\t\tflags interval
\t}

\tchain f { # handle 1
\t\tip daddr @flags drop # handle 4
\t}
}
`

test('tables are listed with name, flags and whether they have content', () => {
  expect(readTables(LISTING)).toEqual([
    { family: 'ip', name: 'nat', flags: '', hasChains: true },
    { family: 'netdev', name: 'overlayd-lock-flannel.1', flags: 'owner', hasChains: false },
    { family: 'inet', name: 'asleep', flags: 'dormant', hasChains: true },
  ])
  expect(readTables('')).toEqual([])
})

test('rules after a table with an owner are found', () => {
  expect([...readTexts(LISTING)]).toEqual([
    ['ip nat POSTROUTING 2', 'ip saddr 10.0.0.0/8 masquerade'],
    ['inet asleep f 4', 'ip daddr @flags drop'],
  ])
})
