import fc from 'fast-check'
import type { FirewallRequest, IptablesListing, IptablesTable } from '../../../../src/model/firewall'
import { desiredBeside, desiredIptables } from '../../../../src/plan/firewall/firewall'
import { diffIptables } from '../../../../src/plan/firewall/iptables'
import { ipv4Network, prefix, request, restore } from '../../../support/firewall'
import { runs } from '../../support/runs'

const diff = (wanted: FirewallRequest, observed: IptablesListing): string | undefined =>
  diffIptables(desiredIptables(wanted, 'IPv4'), wanted.links, observed)

/** The tables after the diffs of the requests were applied to empty ones. */
const applied = (...requests: FirewallRequest[]): IptablesListing =>
  requests.reduce<IptablesListing>((listing, each) => restore(listing, diff(each, listing) ?? ''), new Map())

const listing = (tables: Partial<Record<IptablesTable, readonly string[]>>): IptablesListing =>
  new Map(Object.entries(tables) as [IptablesTable, readonly string[]][])

const chains = request()
const off = request({ ipMasq: false, forwardRules: false })
const hooks = request({ ipMasq: false, forwardRules: false, docker: true })

const JUMP = '-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG'
const ACCEPTS = [
  '-A FLANNEL-FWD -s 10.5.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT',
  '-A FLANNEL-FWD -d 10.5.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT',
]

test('on a fresh host each table gets its chain, filled and called, in one transaction', () => {
  const forward = request({ ipMasq: false })
  expect(diff(forward, new Map())).toBe(
    [
      '*filter',
      ':FLANNEL-FWD - [0:0]',
      ...ACCEPTS,
      '-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD',
      'COMMIT',
      '',
    ].join('\n'),
  )
})

test('rules in force are left alone, at any position of the call', () => {
  const built = applied(chains)
  expect(diff(chains, built)).toBeUndefined()
  const nat = built.get('nat') as readonly string[]
  const moved = [...nat.filter((line) => line.startsWith(':')), JUMP, '-A POSTROUTING -j KUBE-POSTROUTING']
  const inChain = nat.filter((line) => line.startsWith('-A FLANNEL'))
  expect(diff(chains, new Map([...built, ['nat', [...moved, ...inChain]]]))).toBeUndefined()
})

describe('one restore repairs', () => {
  const nat = applied(chains).get('nat') as readonly string[]
  const rules = nat.filter((line) => line.startsWith('-A FLANNEL'))
  const others = nat.filter((line) => !line.startsWith('-A FLANNEL'))
  test.each<[string, readonly string[]]>([
    ['another order', [...others, ...rules.toReversed()]],
    ['a missing rule', [...others, ...rules.slice(1)]],
    ['an extra rule', [...others, ...rules, '-A FLANNEL-POSTRTG -j ACCEPT']],
    ['an empty chain', others],
    ['an extra call', [...others, JUMP, ...rules]],
    ['no call', nat.filter((line) => line !== JUMP)],
    ['no chain', others.filter((line) => line.includes(' ACCEPT ['))],
  ])('%s', (_, lines) => {
    const observed = new Map([...applied(chains), ['nat' as const, lines]])
    const change = diff(chains, observed) ?? ''
    expect(change).toMatch(/^\*nat\n[^*]*COMMIT\n$/)
    const result = restore(observed, change)
    expect(diff(chains, result)).toBeUndefined()
    expect((result.get('nat') as readonly string[]).filter((line) => line === JUMP)).toHaveLength(1)
  })
})

describe('a rule that drops all packets of containers', () => {
  const FORWARD = '-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD'
  const REJECT = '-A FORWARD -j REJECT --reject-with icmp-host-prohibited'
  const others = [
    '-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
    '-A FORWARD -i lo -j ACCEPT',
  ]
  const forwardOf = (lines: readonly string[]): string[] =>
    lines.filter((line) => line.startsWith('-A FORWARD'))
  const brought = (table: 'filter' | 'nat', lines: readonly string[]) => {
    const before = listing({ [table]: [...BUILT_IN_CHAINS[table], ...lines] })
    const after = restore(before, diff(chains, before) ?? '')
    expect(diff(chains, after)).toBeUndefined()
    return after.get(table) as readonly string[]
  }

  test.each<[string, readonly string[]]>([
    ['a REJECT', [REJECT]],
    ['a DROP', ['-A FORWARD -j DROP']],
    ['a DROP with a comment', ['-A FORWARD -m comment --comment "-j ACCEPT, no" -j DROP']],
    ['a DROP of new connections', ['-A FORWARD -m state --state NEW -j DROP']],
    ['a DROP of a wider network', ['-A FORWARD -s 10.0.0.0/8 -j DROP']],
    ['a DROP of packets from our device', ['-A FORWARD -i flannel.1 -j DROP']],
    ['a DROP of packets from devices with such names', ['-A FORWARD -i flannel+ -j DROP']],
    [
      'a DROP of packets from other interfaces to our device',
      ['-A FORWARD ! -i flannel.1 -o flannel.1 -j DROP'],
    ],
    [
      'a chain that rejects',
      ['-A FORWARD -j deny', '-A deny -i lo -j RETURN', '-A deny -g deny2', '-A deny2 -j REJECT'],
    ],
  ])('in FORWARD, %s, comes after our call', (_, [first = '', ...more]) => {
    const mine = more.length === 0 ? [] : [':deny - [0:0]', ':deny2 - [0:0]']
    for (const at of [[], [FORWARD, ...(applied(chains).get('filter') as readonly string[])].slice(0, 1)]) {
      const rest = at.length === 0 ? [] : [':FLANNEL-FWD - [0:0]', ...ACCEPTS]
      const after = forwardOf(brought('filter', [...mine, ...rest, ...others, first, ...at, ...more]))
      expect(after).toEqual([...others, FORWARD, first])
    }
  })

  test.each<[string, string]>([
    ['a DROP of a port', '-A FORWARD -p tcp -m tcp --dport 25 -j DROP'],
    ['a DROP of one container', '-A FORWARD -s 10.5.1.7/32 -j DROP'],
    ['a DROP of another network', '-A FORWARD -s 192.0.2.0/24 -j DROP'],
    ['a DROP of all networks but ours', '-A FORWARD ! -s 10.5.0.0/16 -j DROP'],
    ['a DROP of one bridge', '-A FORWARD -i docker1 -j DROP'],
    ['a DROP of invalid packets', '-A FORWARD -m conntrack --ctstate INVALID -j DROP'],
    ['a LOG', '-A FORWARD -j LOG'],
  ])('%s is intended by its owner, and stays before our call', (_, line) => {
    expect(forwardOf(brought('filter', [line]))).toEqual([line, FORWARD])
  })

  test('a drop after an accept of the same packets is ignored', () => {
    const accept = '-A FORWARD -j ACCEPT'
    expect(forwardOf(brought('filter', [accept, REJECT]))).toEqual([accept, REJECT, FORWARD])
  })

  test('a rule that masquerades containers comes after our accepts in POSTROUTING', () => {
    const docker = '-A POSTROUTING -s 10.5.1.0/24 ! -o docker0 -j MASQUERADE'
    const elsewhere = '-A POSTROUTING -s 172.18.0.0/16 ! -o br-1 -j MASQUERADE'
    const way = '-A POSTROUTING -o eth0 -j MASQUERADE'
    const accepts = [
      '-A POSTROUTING -s 10.5.1.0/24 -d 10.5.0.0/16 -m comment --comment "overlayd flannel.1" -j ACCEPT',
      '-A POSTROUTING -s 10.5.0.0/16 -d 10.5.1.0/24 -m comment --comment "overlayd flannel.1" -j ACCEPT',
    ]
    const posted = (...lines: string[]): string[] =>
      brought('nat', lines).filter((line) => line.startsWith('-A POSTROUTING'))
    // Docker's rule for a network on a part of our subnet.
    const part = '-A POSTROUTING -s 10.5.1.32/27 ! -o br-0c2a6ee8a1b2 -j MASQUERADE'
    const all = ['-A POSTROUTING -j MASQUERADE', '-A POSTROUTING -j SNAT --to-source 192.0.2.1', docker, part]
    for (const line of all) {
      expect(posted(elsewhere, line)).toEqual([...accepts, elsewhere, line, JUMP])
      expect(posted(line, ...accepts, elsewhere)).toEqual([...accepts, line, elsewhere, JUMP])
    }
    expect(posted(elsewhere, way, ...accepts)).toEqual([elsewhere, way, JUMP])
  })

  test.each(['10.5.1.0/24', '10.5.1.32/27'])('netavark’s chain for %s comes after our accepts', (part) => {
    const chain = 'NETAVARK-1D8721804F16F'
    const call = `-A POSTROUTING -s ${part} -j ${chain}`
    const rules = [`-A ${chain} -d ${part} -j ACCEPT`, `-A ${chain} ! -d 224.0.0.0/4 -j MASQUERADE`]
    const posted = (...lines: string[]): string[] =>
      brought('nat', lines).filter((line) => line.startsWith('-A POSTROUTING'))
    expect(posted(call, ...rules)).toEqual([
      '-A POSTROUTING -s 10.5.1.0/24 -d 10.5.0.0/16 -m comment --comment "overlayd flannel.1" -j ACCEPT',
      '-A POSTROUTING -s 10.5.0.0/16 -d 10.5.1.0/24 -m comment --comment "overlayd flannel.1" -j ACCEPT',
      call,
      JUMP,
    ])
    // A chain of another program for some of our addresses, and one that does not masquerade towards us.
    const own = rules.map((line) => line.replace(chain, 'OWN'))
    const elsewhere = [`-A ${chain} ! -d 10.0.0.0/8 -j MASQUERADE`]
    if (part !== '10.5.1.0/24') expect(posted(call.replace(chain, 'OWN'), ...own)).toHaveLength(2)
    expect(posted(call, ...elsewhere)).toEqual([call, JUMP])
  })

  test.each([
    '-A POSTROUTING -s 10.5.1.7/32 -j SNAT --to-source 192.0.2.1',
    '-A POSTROUTING -s 10.5.1.7/32 -d 10.5.1.7/32 -p tcp -m tcp --dport 80 -j MASQUERADE',
    '-A POSTROUTING ! -s 10.5.1.32/27 ! -o br-0c2a6ee8a1b2 -j MASQUERADE',
    '-A POSTROUTING -s 10.5.1.32/27 ! -o flannel.1 -j MASQUERADE',
    '-A POSTROUTING -s 10.5.1.32/27 -o eth0 -j MASQUERADE',
    '-A POSTROUTING -s 10.5.0.0/27 ! -o br-0c2a6ee8a1b2 -j MASQUERADE',
  ])('the rule %s is no reason for accepts in POSTROUTING', (line) => {
    expect(brought('nat', [line]).filter((each) => each.startsWith('-A POSTROUTING'))).toEqual([line, JUMP])
  })

  test.each(['iptables', 'nftables'] as const)(
    'if the other variant drops, our rules are in that variant too (%s)',
    (mode) => {
      const wanted = desiredBeside(request({ mode }), 'IPv4')
      const about = (lines: readonly string[]) =>
        diffIptables(wanted, chains.links, listing({ filter: lines }))
      const quiet = [':FORWARD ACCEPT [0:0]', '-A FORWARD -p tcp -j DROP']
      expect(about(quiet)).toBeUndefined()
      const before = listing({ filter: [':FORWARD DROP [0:0]', REJECT] })
      const after = restore(before, diffIptables(wanted, chains.links, before) ?? '')
      expect(forwardOf(after.get('filter') as readonly string[])).toEqual([
        '-A FORWARD -d 10.5.0.0/16 -m comment --comment "overlayd flannel.1" -j ACCEPT',
        '-A FORWARD -s 10.5.0.0/16 -m comment --comment "overlayd flannel.1" -j ACCEPT',
        REJECT,
      ])
      expect(diffIptables(wanted, chains.links, after)).toBeUndefined()
      const gone = listing({
        filter: [...quiet, ...forwardOf(after.get('filter') as readonly string[]).slice(0, 2)],
      })
      expect(diffIptables(wanted, chains.links, gone)).toMatch(
        /^\*filter\n-D FORWARD .*\n-D FORWARD .*\nCOMMIT\n$/,
      )
    },
  )

  test('nftables mode has rules in iptables too, whose drops an accept in nft cannot undo', () => {
    const before = listing({ filter: [':FORWARD DROP [0:0]'] })
    expect(diff(request({ mode: 'nftables' }), before)).toMatch(
      /-I FORWARD -s 10.5.0.0\/16 -m comment --comment "overlayd flannel.1"/,
    )
  })
})

const BUILT_IN_CHAINS = {
  filter: [':INPUT ACCEPT [0:0]', ':FORWARD ACCEPT [0:0]', ':OUTPUT ACCEPT [0:0]'],
  nat: [':PREROUTING ACCEPT [0:0]', ':POSTROUTING ACCEPT [0:0]'],
}

test('rules of an earlier subnet are removed with the content of the chain', () => {
  const moved = request({ networks: [{ ...ipv4Network, subnet: prefix('10.5.9.0/24') }] })
  const sorted = (observed: IptablesListing): string[] =>
    [...observed].flatMap(([, lines]) => lines).toSorted()
  expect(sorted(applied(moved, chains))).toEqual(sorted(applied(chains)))
})

test('when switched off, all calls and rules are removed, then the chain', () => {
  const called = new Map([...applied(chains)])
  called.set('filter', [
    ...(called.get('filter') as readonly string[]),
    '-A INPUT -s 192.0.2.0/24 -j FLANNEL-FWD',
  ])
  const filter = restore(called, diff(off, called) ?? '').get('filter')
  expect(filter).toEqual([':INPUT ACCEPT [0:0]', ':FORWARD ACCEPT [0:0]', ':OUTPUT ACCEPT [0:0]'])
  expect(diff(off, new Map())).toBeUndefined()
})

test('a table that iptables cannot read is an error only if rules are desired in it', () => {
  const foreign: IptablesListing = new Map([['filter', 'foreign']])
  expect(diff(off, foreign)).toBeUndefined()
  expect(() => diff(chains, foreign)).toThrow('table filter contains rules that iptables cannot read')
})

describe('Docker’s hooks', () => {
  const RAW = '-A PREROUTING -s 10.5.0.0/16 -i flannel.1 -m comment --comment overlayd -j ACCEPT'
  const IN = '-A DOCKER-USER -s 10.5.0.0/16 -i flannel.1 -m comment --comment overlayd -j ACCEPT'
  const OUT = '-A DOCKER-USER -d 10.5.0.0/16 -o flannel.1 -m comment --comment overlayd -j ACCEPT'
  const DOCKERS_DROP = '-A PREROUTING -d 10.5.1.2/32 ! -i docker0 -j DROP'
  const PREROUTING = ':PREROUTING ACCEPT [0:0]'
  const FILTER = [':FORWARD DROP [0:0]', ':DOCKER-USER - [0:0]']
  const lines = (input: string | undefined): string[] | undefined => input?.trimEnd().split('\n')
  const observed = (raw: readonly string[], filter: readonly string[]): IptablesListing =>
    listing({ raw: [PREROUTING, ...raw], filter: [...FILTER, ...filter] })

  test('on a fresh host, before Docker starts, its chain is made and filled', () => {
    expect(lines(diff(hooks, new Map()))).toEqual([
      '*raw',
      RAW.replace('-A', '-I'),
      'COMMIT',
      '*filter',
      '-N DOCKER-USER',
      IN.replace('-A', '-I'),
      OUT.replace('-A', '-I'),
      'COMMIT',
    ])
  })

  test('rules in force are left alone, among any rules of Docker and others', () => {
    const filter = ['-A FORWARD -j DOCKER-USER', '-A DOCKER-USER -s 192.0.2.1/32 -j DROP', OUT, IN]
    expect(diff(hooks, observed([RAW, DOCKERS_DROP], filter))).toBeUndefined()
  })

  test.each([
    ['after a drop in raw PREROUTING', [DOCKERS_DROP, RAW], 1],
    ['that is there twice, once at the head', [RAW, DOCKERS_DROP, RAW], 2],
  ])('a rule %s is moved to the head', (_, raw, copies) => {
    expect(lines(diff(hooks, observed(raw, [IN, OUT])))).toEqual([
      '*raw',
      ...Array(copies).fill(RAW.replace('-A', '-D')),
      RAW.replace('-A', '-I'),
      'COMMIT',
    ])
  })

  test('our rules of an earlier network are removed; those of another overlay’s device stay', () => {
    const old = IN.replace('10.5', '10.9')
    const others = [IN, OUT].map((line) => line.replace('flannel.1', 'flannel.7'))
    expect(lines(diff(hooks, observed([RAW], [...others, IN, old, OUT])))).toEqual([
      '*filter',
      old.replace('-A', '-D'),
      'COMMIT',
    ])
  })

  test.each<[string, IptablesListing]>([
    ['a drop in raw PREROUTING', listing({ raw: [PREROUTING, DOCKERS_DROP] })],
    ['a chain DOCKER', listing({ filter: [':FORWARD ACCEPT [0:0]', ':DOCKER - [0:0]'] })],
    ['a call of its hook', listing({ filter: [...FILTER, '-A FORWARD -j DOCKER-USER'] })],
  ])('Docker is recognised by %s', (_, before) => {
    const after = restore(before, diff(off, before) ?? '')
    expect(JSON.stringify([...after])).toContain('-A PREROUTING -s 10.5.0.0/16 -i flannel.1 -m comment')
    expect(diff(off, after)).toBeUndefined()
  })

  test('without Docker they are removed', () => {
    const built = applied(hooks)
    expect(JSON.stringify([...restore(built, diff(off, built) ?? '')])).not.toContain('overlayd')
  })
})

/** Our rules for two subnets, of which the second was left earlier. */
const OURS = [
  ...applied(request({ docker: true })),
  ...applied(
    request({
      docker: true,
      networks: [{ ...ipv4Network, subnet: prefix('10.5.9.0/24'), network: prefix('10.4.0.0/15') }],
    }),
  ),
]
/** A ruleset with any number of foreign lines and ours, in any order. */
const arbitraryListing: fc.Arbitrary<IptablesListing> = fc.gen().map((gen) => {
  const ours = OURS
  const tables = (['raw', 'nat', 'filter'] as const).map((table) => {
    const known = ours.filter(([name]) => name === table).flatMap(([, lines]) => lines as readonly string[])
    const builtIn = [...new Set(known.filter((line) => / ACCEPT \[/.test(line)))]
    const rules = known.filter((line) => line.startsWith('-A '))
    const parent = builtIn[builtIn.length - 1]?.split(' ')[0]?.slice(1) ?? ''
    const pool = [...rules, ...FOREIGN.map((text) => `-A ${parent} ${text}`)]
    const picked = gen(fc.array, fc.constantFrom(...pool), { maxLength: 12 })
    const named = new Set(
      picked.flatMap((line) => [line.split(' ')[1] ?? '', line.split(' -j ')[1]?.split(' ')[0] ?? '']),
    )
    const chains = [...named]
      .filter((name) => /^(FLANNEL|DOCKER)/.test(name))
      .map((name) => `:${name} - [0:0]`)
    return [table, [...chains, ...builtIn, ...picked]] as const
  })
  return new Map(tables.filter(() => gen(fc.boolean)))
})
const FOREIGN = ['-s 192.0.2.1/32 -j DROP', '-m comment --comment "not ours" -j ACCEPT']

const arbitraryRequest: fc.Arbitrary<FirewallRequest> = fc
  .record({
    ipMasq: fc.boolean(),
    forwardRules: fc.boolean(),
    fullyRandom: fc.boolean(),
    docker: fc.boolean(),
    mode: fc.constantFrom('iptables' as const, 'nftables' as const),
  })
  .map(request)

test('for any ruleset one restore is enough, and foreign lines stay as they are', () => {
  const foreign = (observed: IptablesListing): string[] =>
    [...observed].flatMap(([table, lines]) =>
      (lines as readonly string[])
        .filter((line) => FOREIGN.some((text) => line.endsWith(text)))
        .map((line) => table + line),
    )
  fc.assert(
    fc.property(arbitraryRequest, arbitraryListing, (wanted, observed) => {
      const change = diff(wanted, observed)
      const result = restore(observed, change ?? '')
      expect(diff(wanted, result)).toBeUndefined()
      expect(foreign(result)).toEqual(foreign(observed))
    }),
    { numRuns: runs(400, 50_000) },
  )
})
