import type { FirewallRequest } from '../../../../src/model/firewall'
import {
  desiredIptables,
  desiredMark,
  desiredSource,
  desiredTable,
  watchedChains,
} from '../../../../src/plan/firewall/firewall'
import { ipv4Network, prefix, request } from '../../../support/firewall'

/** Declaration, call and rules of both chains, as iptables-save prints them. */
const iptablesText = (family: 'IPv4' | 'IPv6', fields = {}): string[] =>
  desiredIptables(request(fields), family).chains.flatMap(({ name, jump, rules }) =>
    rules === undefined ? [] : [`:${name} - [0:0]`, jump, ...rules],
  )

const IPV4_IPTABLES = `\
:FLANNEL-POSTRTG - [0:0]
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.5.1.0/24 -d 10.5.0.0/16 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.5.0.0/16 -d 10.5.1.0/24 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG ! -s 10.5.0.0/16 -d 10.5.1.0/24 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.5.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s 10.5.0.0/16 -d 10.5.0.0/16 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
:FLANNEL-FWD - [0:0]
-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
-A FLANNEL-FWD -s 10.5.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
-A FLANNEL-FWD -d 10.5.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT`

const asIpv6 = (text: string): string =>
  text
    .replaceAll('10.5.0.0/16', 'fd00:5::/48')
    .replaceAll('10.5.1.0/24', 'fd00:5:0:1::/64')
    .replaceAll('224.0.0.0/4', 'ff00::/8')

test('iptables mode has flannel’s chains, rule by rule', () => {
  expect(iptablesText('IPv4').join('\n')).toBe(IPV4_IPTABLES)
  expect(iptablesText('IPv6').join('\n')).toBe(asIpv6(IPV4_IPTABLES))
})

test('without random source ports the option is absent', () => {
  expect(iptablesText('IPv4', { fullyRandom: false }).join('\n')).toBe(
    IPV4_IPTABLES.replaceAll(' --random-fully', ''),
  )
})

test('a subnet with host bits stands in rules as its network', () => {
  const networks = [{ ...ipv4Network, subnet: prefix('10.5.1.7/24') }]
  expect(iptablesText('IPv4', { networks }).join('\n')).toBe(IPV4_IPTABLES)
})

test.each<[string, Partial<FirewallRequest>, string[]]>([
  ['masquerading', { ipMasq: false }, ['FLANNEL-FWD']],
  ['forward rules', { forwardRules: false }, ['FLANNEL-POSTRTG']],
  ['the family', { networks: [ipv4Network] }, []],
])('without %s its chain is not desired', (_, fields, expected) => {
  const { chains } = desiredIptables(request(fields), fields.networks === undefined ? 'IPv4' : 'IPv6')
  expect(chains.filter(({ rules }) => rules !== undefined).map(({ name }) => name)).toEqual(expected)
  expect(chains).toHaveLength(2)
})

const IPV4_TABLE = `\
table ip flannel-ipv4 {
	comment "rules for flannel-ipv4"
	chain postrtg {
		comment "chain to manage traffic masquerading by flannel"
		type nat hook postrouting priority srcnat; policy accept;
		meta mark & 0x00004000 == 0x00004000 return
		ip saddr 10.5.1.0/24 ip daddr 10.5.0.0/16 return
		ip saddr 10.5.0.0/16 ip daddr 10.5.1.0/24 return
		ip saddr != 10.5.0.0/16 ip daddr 10.5.1.0/24 return
		ip saddr 10.5.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random
		ip saddr != 10.5.0.0/16 ip daddr 10.5.0.0/16 masquerade fully-random
	}

	chain forward {
		comment "chain to accept flannel traffic"
		type filter hook forward priority filter; policy accept;
		ip saddr 10.5.0.0/16 accept
		ip daddr 10.5.0.0/16 accept
	}
}
`

test('nftables mode has flannel’s tables, except for the mark’s mask and the fourth rule', () => {
  const inMode = request({ mode: 'nftables' })
  expect(desiredTable(inMode, 'IPv4')).toEqual({ name: 'ip flannel-ipv4', text: IPV4_TABLE })
  const text = asIpv6(IPV4_TABLE)
    .replaceAll('flannel-ipv4', 'flannel-ipv6')
    .replace('table ip ', 'table ip6 ')
    .replaceAll(/\bip ([sd])addr/g, 'ip6 $1addr')
  expect(desiredTable(inMode, 'IPv6')).toEqual({ name: 'ip6 flannel-ipv6', text })
})

test('a table has only desired chains, and is not desired without any', () => {
  const text = (fields: object) => desiredTable(request({ mode: 'nftables', ...fields }), 'IPv4').text
  expect(text({ ipMasq: false })).toMatch(
    /^table ip flannel-ipv4 {\n\tcomment .*\n\tchain forward {\n[^}]*\t}\n}\n$/,
  )
  expect(text({ forwardRules: false, fullyRandom: false })).not.toMatch(/forward|random/)
  expect(text({ forwardRules: false, ipMasq: false })).toBeUndefined()
  expect(text({ networks: [] })).toBeUndefined()
})

test('each mode desires nothing of the other mode; both desire the rules in Docker’s hooks', () => {
  const nftables = desiredIptables(request({ mode: 'nftables', docker: true }), 'IPv6')
  expect(nftables.chains.map(({ rules }) => rules)).toEqual([undefined, undefined])
  const docker = nftables.hooks.filter(({ where }) => where === 'docker')
  const { hooks } = desiredIptables(request({ docker: true }), 'IPv6')
  expect(docker).toEqual(hooks.filter(({ where }) => where === 'docker'))
  expect(docker.map(({ table, chain, text }) => `${table} ${chain} ${text}`)).toEqual([
    'raw PREROUTING -s fd00:5::/48 -i flannel-v6.1 -m comment --comment overlayd -j ACCEPT',
    'filter DOCKER-USER -s fd00:5::/48 -i flannel-v6.1 -m comment --comment overlayd -j ACCEPT',
    'filter DOCKER-USER -d fd00:5::/48 -o flannel-v6.1 -m comment --comment overlayd -j ACCEPT',
  ])
  expect(desiredTable(request(), 'IPv4').text).toBeUndefined()
})

test('the mark for Docker’s nftables backend is set in a table of ours, in either mode', () => {
  expect(desiredMark(request({ dockerMark: 0x1000 }), 'IPv4')).toEqual({
    name: 'ip overlayd-docker',
    text: [
      'table ip overlayd-docker {',
      '\tcomment "rules for overlayd-docker"',
      '\tchain prerouting {',
      '\t\tcomment "chain to mark packets of other hosts for docker"',
      '\t\ttype filter hook prerouting priority mangle; policy accept;',
      '\t\tiifname "flannel.1" ip saddr 10.5.0.0/16 meta mark set meta mark | 0x00001000',
      '\t}',
      '}',
      '',
    ].join('\n'),
  })
  const six = desiredMark(request({ dockerMark: 0x80000000, mode: 'nftables' }), 'IPv6').text
  expect(six).toContain('iifname "flannel-v6.1" ip6 saddr fd00:5::/48 meta mark set meta mark | 0x80000000')
  for (const fields of [{}, { dockerMark: 0x1000, networks: [] }])
    expect(desiredMark(request(fields), 'IPv4').text).toBeUndefined()
  const blue = request({ scope: 'blue', dockerMark: 1 })
  expect(desiredMark(blue, 'IPv4').name).toBe('ip overlayd-docker-blue')
})

test('the table that keeps addresses from netavark', () => {
  expect(desiredSource(request({}), 'IPv4')).toEqual({
    name: 'ip overlayd-source',
    text: [
      'table ip overlayd-source {',
      '\tcomment "rules for overlayd-source"',
      '\tchain postrouting {',
      '\t\tcomment "chain to keep addresses that netavark would masquerade"',
      '\t\ttype nat hook postrouting priority srcnat - 1; policy accept;',
      '\t\tmeta mark & 0x00002000 == 0x00000000 ip saddr 10.5.1.0/24 ip daddr 10.5.0.0/16 snat to ip saddr',
      '\t}',
      '}',
      '',
    ].join('\n'),
  })
  for (const fields of [{ ipMasq: false }, { networks: [] }])
    expect(desiredSource(request(fields), 'IPv4').text).toBeUndefined()
  expect(desiredSource(request({ scope: 'blue' }), 'IPv6').name).toBe('ip6 overlayd-source-blue')
  expect(watchedChains(request({}))).toContain('inet netavark POSTROUTING ')
})

test('a further network of the host has chains and tables of its own', () => {
  const blue = request({ scope: 'blue' })
  expect(desiredIptables(blue, 'IPv4').chains.map(({ name }) => name)).toEqual([
    'FLANNEL-POSTRTG-blue',
    'FLANNEL-FWD-blue',
  ])
  expect(desiredTable({ ...blue, mode: 'nftables' }, 'IPv6').name).toBe('ip6 flannel-ipv6-blue')
})

test.each(['', 'thirteen-long', 'a b', 'ü'])('%j is not a valid scope', (scope) => {
  expect(() => desiredIptables(request({ scope }), 'IPv4')).toThrow(
    `"${scope}" cannot be part of a chain's name`,
  )
})

test('nft’s reports show whether a change concerns our tables', () => {
  const places = watchedChains(request({ docker: true }))
  const concerns = (line: string): boolean => places.some((place) => line.includes(place))
  expect(
    [
      'delete rule ip flannel-ipv4 postrtg handle 2',
      'delete rule ip nat POSTROUTING handle 4',
      'add rule ip6 filter FLANNEL-FWD counter packets 0 bytes 0 accept',
      'insert rule ip raw PREROUTING ip daddr 10.5.1.2 drop',
      'delete rule ip6 filter DOCKER-USER handle 3',
    ].filter((line) => !concerns(line)),
  ).toEqual([])
  const marks = watchedChains(request({ docker: true, dockerMark: 0x1000 }))
  for (const line of [
    'delete rule ip overlayd-docker prerouting handle 2',
    'add rule ip6 docker-bridges filter-FORWARD oifname vmap @filter-forward-in-jumps',
  ])
    expect([concerns(line), marks.some((place) => line.includes(place))]).toEqual([false, true])
  expect(concerns('add rule ip filter KUBE-FORWARD counter packets 0 bytes 0 accept')).toBe(false)
  expect(concerns('add rule ip filter INPUT accept')).toBe(false)
})
