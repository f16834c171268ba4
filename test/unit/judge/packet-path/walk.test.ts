/** The fate of packets by given rules, as a table; and that a walk over any input ends with an answer. */
import fc from 'fast-check'
import { readNftObjects, readNftRuleset } from '../../../../src/firewall/nft-json'
import { readSaved } from '../../../../src/firewall/xtables'
import {
  containerWays,
  hostWays,
  type OverlayHost,
  type OverlayPeer,
  vxlanWays,
} from '../../../../src/judge/packet-path/overlay-ways'
import { cureFor, describePlace, ownerOf } from '../../../../src/judge/packet-path/owner'
import { FilterIndex } from '../../../../src/judge/packet-path/walk'
import { type Journey, travel } from '../../../../src/judge/packet-path/way'
import { parseIp } from '../../../../src/model/address'
import type { FilterChain } from '../../../../src/model/packet-filter'
import { patient } from '../../../lab/patience'
import { prefix } from '../../../support/firewall'
import { runs } from '../../support/runs'

const ip = (text: string) => parseIp(text) ?? fail(`not an address: ${text}`)
function fail(message: string): never {
  throw new Error(message)
}

const HOST: OverlayHost = {
  container: ip('10.5.1.2'),
  vtep: ip('10.5.1.0'),
  device: 'flannel.1',
  bridge: 'docker0',
  port: 'veth1',
  underlay: 'eth0',
  local: ip('192.0.2.1'),
  udpPort: 8472,
}
const PEER: OverlayPeer = { container: ip('10.5.2.2'), vtep: ip('10.5.2.0'), publicIp: ip('192.0.2.2') }
const ALL = [...containerWays(HOST, PEER), ...vxlanWays(HOST, PEER.publicIp), ...hostWays(HOST, PEER)]

const chains = (table: string, ...lines: string[]): readonly FilterChain[] =>
  readSaved([`*${table}`, ...lines, 'COMMIT', ''].join('\n'), 'IPv4', 'iptables').chains

const journey = (filter: readonly FilterChain[], kind: string, protocol = 'TCP', state = 'new'): Journey => {
  const way = ALL.find((each) => each.kind === kind && each.protocol === protocol && each.state === state)
  return travel(
    new FilterIndex({ chains: filter, unread: [] }),
    way?.stops ?? [],
    way?.packet ?? fail('no way'),
  )
}

const FORWARD = ':FORWARD ACCEPT [0:0]'
/** Conditions of a dropping iptables rule in FORWARD, and the fate of TCP from a container. */
test.each<[string, 'passes' | 'dropped' | 'undecided']>([
  ['', 'dropped'],
  ['-s 10.5.1.0/24', 'dropped'],
  ['-s 10.5.2.0/24', 'passes'],
  ['! -s 10.5.0.0/16', 'passes'],
  ['-d 10.5.2.2/32 -i docker+ ! -o docker0', 'dropped'],
  ['-o eth0', 'passes'],
  ['-p udp', 'passes'],
  ['-p tcp -m tcp --dport 1:1024', 'passes'],
  ['-p tcp -m tcp ! --dport 1:1024', 'dropped'],
  ['-p udp -m udp ! --dport 1:1024', 'passes'],
  ['-p tcp -m multiport --dports 22,41952', 'dropped'],
  ['-p tcp -m multiport ! --sports 22,80', 'dropped'],
  ['-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN', 'dropped'],
  ['-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN', 'passes'],
  ['-m conntrack --ctstate INVALID', 'passes'],
  ['-m conntrack ! --ctstate RELATED,ESTABLISHED', 'dropped'],
  ['-m mark --mark 0x1', 'passes'],
  ['-m mark ! --mark 0x1/0xff', 'dropped'],
  ['-m iprange --src-range 10.5.1.1-10.5.1.9', 'dropped'],
  ['-m addrtype --dst-type LOCAL', 'passes'],
  ['-m pkttype --pkt-type broadcast', 'passes'],
  ['-m comment --comment "a \\"quoted\\" -j ACCEPT"', 'dropped'],
  ['-f', 'passes'],
  ['-s 10.0.0.2/255.0.0.255', 'dropped'],
  ['-m limit --limit 5/sec', 'undecided'],
  ['-m set --match-set bad src', 'undecided'],
  ['-p udp -m set --match-set bad src', 'passes'],
  ['-m physdev --physdev-in veth1', 'dropped'],
  ['-m u32 --u32 "0>>22&0x3C@0=1"', 'undecided'],
  ['-p udp -m recent --name x --rcheck', 'passes'],
])('%s: %s', (conditions, fate) => {
  expect(journey(chains('filter', FORWARD, `-A FORWARD ${conditions} -j DROP`), 'out').fate.kind).toBe(fate)
})

test('an accept that is undecided before a drop makes the fate undecided, and both rules are named', () => {
  const { fate } = journey(
    chains('filter', FORWARD, '-A FORWARD -m limit --limit 1/sec -j ACCEPT', '-A FORWARD -j DROP'),
    'out',
  )
  expect(fate).toMatchObject({
    kind: 'undecided',
    doubts: [{ at: { rule: { number: 1 } }, what: 'the match limit', drops: { rule: { number: 2 } } }],
  })
})

test('bits of a mark that a rule may have set are unknown, all other bits are known', () => {
  const marked = (mask: string) =>
    journey(
      [
        ...chains(
          'mangle',
          ':PREROUTING ACCEPT [0:0]',
          '-A PREROUTING -m limit --limit 1/sec -j MARK --set-xmark 0x1/0x1',
        ),
        ...chains('filter', FORWARD, `-A FORWARD -m mark --mark ${mask} -j DROP`),
      ],
      'out',
    ).fate.kind
  expect(marked('0x1/0x1')).toBe('undecided')
  expect(marked('0x0/0x0')).toBe('dropped')
})

test('the first translation counts, and replies are not translated', () => {
  const nat = chains(
    'nat',
    ':POSTROUTING ACCEPT [0:0]',
    '-A POSTROUTING -o flannel.1 -j MASQUERADE',
    '-A POSTROUTING -j SNAT --to-source 1.2.3.4',
  )
  expect(journey(nat, 'out').translations).toMatchObject([{ how: 'masquerade', at: { rule: { number: 1 } } }])
  expect(journey(nat, 'out', 'TCP', 'established').translations).toEqual([])
})

test.each([
  ['ip saddr, before', 99, { payload: { protocol: 'ip', field: 'saddr' } }, []],
  ['ip saddr, after', 101, { payload: { protocol: 'ip', field: 'saddr' } }, ['masquerade']],
  ['an address, before', 99, '192.0.2.1', ['snat']],
])('netavark’s masquerading with snat to %s it', (_, prio, addr, hows) => {
  const chain = (table: string, priority: number, expr: readonly unknown[]) => [
    {
      chain: {
        family: 'ip',
        table,
        name: 'post',
        type: 'nat',
        hook: 'postrouting',
        prio: priority,
        policy: 'accept',
      },
    },
    { rule: { family: 'ip', table, chain: 'post', handle: 1, expr } },
  ]
  const ruleset = [
    ...chain('ours', prio, [{ snat: { addr } }]),
    ...chain('netavark', 100, [{ masquerade: null }]),
  ]
  const { fate, translations } = journey(readNftObjects(ruleset, new Map()), 'out')
  expect(fate.kind).toBe('passes')
  expect(translations.map(({ how }) => how)).toEqual(hows)
})

test('20,000 rules that every packet meets take few seconds of CPU for all ways', () => {
  const rules = Array.from(
    { length: 20_000 },
    (_, i) => `-A FORWARD -d 10.${i % 250}.${i >> 8}.1/32 -p tcp -m tcp --dport ${i % 60_000} -j DROP`,
  )
  const filter = chains('filter', FORWARD, ...rules)
  const index = new FilterIndex({ chains: filter, unread: [] })
  const started = process.cpuUsage()
  for (const { stops, packet } of ALL) expect(travel(index, stops, packet).fate.kind).toBe('passes')
  const { user } = process.cpuUsage(started)
  expect(user / 1000).toBeLessThan(patient(3000))
})

test('chains whose calls multiply end as undecided', () => {
  const names = Array.from({ length: 15 }, (_, i) => `C${i}`)
  const lines = names.flatMap((name, i) => {
    const next = names[i + 1]
    return next === undefined ? [] : Array.from({ length: 4 }, () => `-A ${name} -j ${next}`)
  })
  const filter = chains(
    'filter',
    FORWARD,
    ...names.map((name) => `:${name} - [0:0]`),
    '-A FORWARD -j C0',
    ...lines,
  )
  const { fate } = journey(filter, 'out')
  expect(fate).toMatchObject({
    kind: 'undecided',
    doubts: [{ what: expect.stringContaining('rules in the way') }],
  })
})

const OWNERS: readonly (readonly [readonly FilterChain[], string | undefined, string, string])[] = [
  [
    chains(
      'filter',
      FORWARD,
      ':ufw-before-forward - [0:0]',
      ':ufw-reject-forward - [0:0]',
      '-A FORWARD -j ufw-before-forward',
      '-A FORWARD -j ufw-reject-forward',
      '-A ufw-reject-forward -j REJECT',
    ),
    'ufw',
    'out',
    'ufw route allow in on flannel.1',
  ],
  [
    chains('filter', ':INPUT DROP [0:0]', ':ufw-before-input - [0:0]', '-A INPUT -j ufw-before-input'),
    'ufw',
    'vxlan-in',
    'ufw allow 8472/udp',
  ],
  [
    chains('filter', ':FORWARD DROP [0:0]', ':DOCKER-USER - [0:0]', '-A FORWARD -j DOCKER-USER'),
    'Docker',
    'in',
    'iptables -I DOCKER-USER -s 10.5.0.0/16 -i flannel.1 -j ACCEPT',
  ],
  [
    chains('raw', ':PREROUTING ACCEPT [0:0]', '-A PREROUTING -d 10.5.1.2/32 ! -i docker0 -j DROP'),
    'Docker',
    'in',
    'iptables -t raw -I PREROUTING -s 10.5.0.0/16 -j ACCEPT',
  ],
  [
    chains('filter', FORWARD, '-A FORWARD -j REJECT'),
    undefined,
    'out',
    'iptables -I FORWARD -s 10.5.0.0/16 -j ACCEPT',
  ],
  [
    readNftObjects(
      [
        {
          chain: {
            family: 'inet',
            table: 'firewalld',
            name: 'filter_FORWARD',
            handle: 1,
            type: 'filter',
            hook: 'forward',
            prio: 10,
            policy: 'accept',
          },
        },
        {
          rule: {
            family: 'inet',
            table: 'firewalld',
            chain: 'filter_FORWARD',
            handle: 7,
            expr: [{ reject: { type: 'icmpx', expr: 'admin-prohibited' } }],
          },
        },
      ],
      new Map(),
    ),
    'firewalld',
    'in',
    'firewall-cmd --permanent --zone=trusted --add-interface=flannel.1 --add-source=10.5.0.0/16',
  ],
]
test.each(OWNERS)('the owner of a rule, and its command for the cure %#', (filter, owner, kind, command) => {
  const index = new FilterIndex({ chains: filter, unread: [] })
  const { fate } = journey(filter, kind, kind === 'vxlan-in' ? 'UDP' : 'TCP')
  if (fate.kind !== 'dropped') throw new Error(`it ${fate.kind}`)
  expect(ownerOf(index, fate.by)).toBe(owner)
  const passing = {
    kind: kind === 'vxlan-in' ? ('vxlan-in' as const) : ('containers' as const),
    family: 'IPv4' as const,
    network: prefix('10.5.0.0/16'),
    device: 'flannel.1',
    bridge: 'docker0',
    port: 8472,
    directions: new Set(['in', 'out'] as const),
  }
  expect(cureFor(index, fate.by, passing).commands).toContain(command)
})

/** Words of nft's JSON, combined at random. */
const words = fc.constantFrom(
  ...[
    'rule',
    'chain',
    'set',
    'map',
    'match',
    'left',
    'right',
    'op',
    '==',
    '!=',
    'in',
    '<',
    'payload',
    'meta',
    'ct',
    'fib',
    'vmap',
    'key',
    'data',
  ],
  ...[
    '@s',
    's',
    'ip',
    'saddr',
    'prefix',
    'addr',
    'len',
    'range',
    'concat',
    'elem',
    'val',
    'mark',
    'mangle',
    'value',
    '&',
    '|',
    'jump',
    'target',
  ],
  ...[
    'forward',
    'input',
    'filter',
    'inet',
    't',
    'c',
    'accept',
    'drop',
    'xt',
    'limit',
    '10.5.1.2',
    'flannel*',
    'protocol',
    'field',
    'dport',
    'udp',
  ],
)
const json = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 6 },
    words,
    fc.integer(),
    fc.constant(null),
    fc.boolean(),
    tie('list'),
    tie('record'),
  ),
  list: fc.array(tie('value'), { maxLength: 4 }),
  record: fc.dictionary(words, tie('value'), { maxKeys: 4 }),
}))
const place = { family: 'inet', table: 't' }
const BASE = {
  chain: { ...place, name: 'c', handle: 1, type: 'filter', hook: 'forward', prio: 0, policy: 'drop' },
}

test('reading and walking throw for no JSON', () => {
  fc.assert(
    fc.property(
      fc.array(json.value, { maxLength: 6 }),
      fc.array(json.value, { maxLength: 4 }),
      (objects, expr) => {
        const set = { set: { ...place, name: 's', type: 'ipv4_addr', elem: expr } }
        const rules = [
          { rule: { ...place, chain: 'c', handle: 2, expr } },
          {
            rule: {
              ...place,
              chain: 'c',
              handle: 3,
              expr: [{ match: objects[0] }, { vmap: objects[1] }, ...expr],
            },
          },
        ]
        const filter = readNftObjects([BASE, set, ...objects, ...rules], new Map())
        const index = new FilterIndex({ chains: filter, unread: [] })
        for (const { stops, packet } of ALL) {
          const { fate } = travel(index, stops, packet)
          if (fate.kind === 'dropped') describePlace(index, fate.by)
        }
      },
    ),
    { numRuns: runs(500) },
  )
})

test('reading iptables-save and walking throw for no text', () => {
  const word = fc.constantFrom(
    ...[
      '-A',
      'FORWARD',
      '-j',
      '-g',
      '-m',
      '!',
      '-s',
      '-d',
      '-p',
      'tcp',
      '--dport',
      '--tcp-flags',
      'multiport',
      '--ports',
      '1:',
      ':',
      'mark',
      '--mark',
      '0x/',
      'MARK',
      '--set-xmark',
      'X',
      '"',
      '-i',
      '+',
      'DROP',
      'conntrack',
      '--ctstate',
      '10.0.0.0/99',
      'comment',
    ],
  )
  fc.assert(
    fc.property(fc.array(fc.oneof(word, fc.string()), { maxLength: 12 }), (parts) => {
      const filter = chains(
        'filter',
        FORWARD,
        ':X - [0:0]',
        `-A FORWARD ${parts.join(' ')}`,
        `-A X ${parts.join(' ')} -j FORWARD`,
      )
      for (const { stops, packet } of ALL)
        travel(new FilterIndex({ chains: filter, unread: [] }), stops, packet)
    }),
    { numRuns: runs(500) },
  )
})

test('a text that is not JSON is refused, and another JSON document has no rules', () => {
  expect(() => readNftRuleset('{')).toThrow(SyntaxError)
  expect(readNftRuleset('[]')).toEqual([])
  expect(readNftRuleset('{"nftables":{"rule":1}}')).toEqual([])
})
