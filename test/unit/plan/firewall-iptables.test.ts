import fc from 'fast-check'
import type { FirewallRequest, IptablesListing, IptablesTable } from '../../../src/model/firewall'
import { desiredIptables } from '../../../src/plan/firewall'
import { diffIptables } from '../../../src/plan/firewall-iptables'
import { ipv4Network, prefix, request, restore } from '../../support/firewall'

const diff = (wanted: FirewallRequest, observed: IptablesListing): string | undefined =>
  diffIptables(desiredIptables(wanted, 'IPv4'), wanted.links, observed)

/** What there is when the diffs of these requests have been carried out on nothing. */
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

test('what is in force is left alone, wherever the call stands', () => {
  const built = applied(chains)
  expect(diff(chains, built)).toBeUndefined()
  const nat = built.get('nat') as readonly string[]
  const moved = [...nat.filter((line) => line.startsWith(':')), JUMP, '-A POSTROUTING -j KUBE-POSTROUTING']
  const inChain = nat.filter((line) => line.startsWith('-A FLANNEL'))
  expect(diff(chains, new Map([...built, ['nat', [...moved, ...inChain]]]))).toBeUndefined()
})

describe('one restore puts right', () => {
  const nat = applied(chains).get('nat') as readonly string[]
  const rules = nat.filter((line) => line.startsWith('-A FLANNEL'))
  const others = nat.filter((line) => !line.startsWith('-A FLANNEL'))
  test.each<[string, readonly string[]]>([
    ['another order', [...others, ...rules.toReversed()]],
    ['a missing rule', [...others, ...rules.slice(1)]],
    ['a rule too many', [...others, ...rules, '-A FLANNEL-POSTRTG -j ACCEPT']],
    ['an empty chain', others],
    ['a call too many', [...others, JUMP, ...rules]],
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

test('rules of an earlier subnet go with the chain’s content', () => {
  const moved = request({ networks: [{ ...ipv4Network, subnet: prefix('10.5.9.0/24') }] })
  const sorted = (observed: IptablesListing): string[] =>
    [...observed].flatMap(([, lines]) => lines).toSorted()
  expect(sorted(applied(moved, chains))).toEqual(sorted(applied(chains)))
})

test('switched off, the chains go, and so do all calls of them, the chain’s own declaration last', () => {
  const called = new Map([...applied(chains)])
  called.set('filter', [
    ...(called.get('filter') as readonly string[]),
    '-A INPUT -s 192.0.2.0/24 -j FLANNEL-FWD',
  ])
  const filter = restore(called, diff(off, called) ?? '').get('filter')
  expect(filter).toEqual([':INPUT ACCEPT [0:0]', ':FORWARD ACCEPT [0:0]', ':OUTPUT ACCEPT [0:0]'])
  expect(diff(off, new Map())).toBeUndefined()
})

test('a table that iptables cannot read is an error only where something is wanted in it', () => {
  const foreign: IptablesListing = new Map([['filter', 'foreign']])
  expect(diff(off, foreign)).toBeUndefined()
  expect(() => diff(chains, foreign)).toThrow('table filter holds rules that iptables cannot read')
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

  test('on a fresh host, before Docker, its chain is made and filled', () => {
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

  test('what is in force is left alone, whatever Docker and others have beside it', () => {
    const filter = ['-A FORWARD -j DOCKER-USER', '-A DOCKER-USER -s 192.0.2.1/32 -j DROP', OUT, IN]
    expect(diff(hooks, observed([RAW, DOCKERS_DROP], filter))).toBeUndefined()
  })

  test.each([
    ['behind a drop of raw PREROUTING', [DOCKERS_DROP, RAW], 1],
    ['there twice, once in its place', [RAW, DOCKERS_DROP, RAW], 2],
  ])('a rule %s is moved to the head', (_, raw, copies) => {
    expect(lines(diff(hooks, observed(raw, [IN, OUT])))).toEqual([
      '*raw',
      ...Array(copies).fill(RAW.replace('-A', '-D')),
      RAW.replace('-A', '-I'),
      'COMMIT',
    ])
  })

  test('ours of an earlier network go; those of another overlay, on its own device, stay', () => {
    const old = IN.replace('10.5', '10.9')
    const others = [IN, OUT].map((line) => line.replace('flannel.1', 'flannel.7'))
    expect(lines(diff(hooks, observed([RAW], [...others, IN, old, OUT])))).toEqual([
      '*filter',
      old.replace('-A', '-D'),
      'COMMIT',
    ])
  })

  test('without Docker they go', () => {
    const built = applied(hooks)
    expect(JSON.stringify([...restore(built, diff(off, built) ?? '')])).not.toContain('overlayd')
  })
})

/** A ruleset of others' and our own lines, in any order and number. */
const arbitraryListing: fc.Arbitrary<IptablesListing> = fc.gen().map((gen) => {
  const ours = [
    ...applied(request({ docker: true })),
    ...applied(
      request({
        docker: true,
        networks: [{ ...ipv4Network, subnet: prefix('10.5.9.0/24'), network: prefix('10.4.0.0/15') }],
      }),
    ),
  ]
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

test('whatever there is, one restore is enough, and lines of others stay as they are', () => {
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
    { numRuns: 2000 },
  )
})
