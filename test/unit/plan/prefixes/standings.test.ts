import fc from 'fast-check'
import { formatPrefix } from '../../../../src/model/address'
import type { EtcdLeaseId, Revision } from '../../../../src/model/lease'
import { MOST_OF_HOST, MOST_SHARING, type PrefixClaim, prefixName } from '../../../../src/model/prefixes'
import { describeWait, type Judged, judgeClaims } from '../../../../src/plan/prefixes/standings'
import { net, net6 } from '../support'

const anyNet = (text: string) => (text.includes(':') ? net6(text) : net(text))

const claim = (host: string, prefix: string, priority = 100, claimedAt = 1, share?: number): PrefixClaim => ({
  name: `${host}/${prefixName(anyNet(prefix))}`,
  host,
  modRevision: 1n as Revision,
  announcement: { prefix: anyNet(prefix), priority, until: undefined, via: undefined, share },
  claimedAt: BigInt(claimedAt) as Revision,
  etcdLease: '1' as EtcdLeaseId,
})

const ADDRESS = '10.5.240.7/32'
const judge = (claims: readonly PrefixClaim[], refused: readonly string[] = []) =>
  judgeClaims(claims, ({ host }) => (refused.includes(host) ? 'no' : undefined)).map(
    ({ claim: { host, announcement }, standing }) =>
      `${formatPrefix(announcement.prefix)} ${host} ${standing.kind}`,
  )

test.each<[string, PrefixClaim[], string[], string[]]>([
  ['one claim wins', [claim('a', ADDRESS)], [], [`${ADDRESS} a wins`]],
  [
    'the higher priority wins, however new',
    [claim('a', ADDRESS, 100, 1), claim('b', ADDRESS, 101, 9)],
    [],
    [`${ADDRESS} b wins`, `${ADDRESS} a waits`],
  ],
  [
    'of one priority the older claim wins',
    [claim('a', ADDRESS, 100, 9), claim('b', ADDRESS, 100, 1)],
    [],
    [`${ADDRESS} b wins`, `${ADDRESS} a waits`],
  ],
  [
    'claims of one age are told apart by the name',
    [claim('b', ADDRESS), claim('a', ADDRESS)],
    [],
    [`${ADDRESS} a wins`, `${ADDRESS} b waits`],
  ],
  [
    'a refused claim keeps nobody waiting',
    [claim('a', ADDRESS, 200), claim('b', ADDRESS)],
    ['a'],
    [`${ADDRESS} a refused`, `${ADDRESS} b wins`],
  ],
  [
    'prefixes of other lengths do not compete',
    [claim('a', '10.5.240.0/24'), claim('b', '10.5.240.0/25')],
    [],
    ['10.5.240.0/24 a wins', '10.5.240.0/25 b wins'],
  ],
  [
    'equal claims that share are all followed',
    [claim('a', ADDRESS, 100, 2, 1), claim('b', ADDRESS, 100, 1, 5), claim('c', ADDRESS, 99, 1, 1)],
    [],
    [`${ADDRESS} b shares`, `${ADDRESS} a shares`, `${ADDRESS} c waits`],
  ],
  [
    'an address that moves is never shared: one of the two does not ask for it',
    [claim('a', ADDRESS, 100, 1, 1), claim('b', ADDRESS, 100, 2), claim('c', ADDRESS, 100, 3, 1)],
    [],
    [`${ADDRESS} a shares`, `${ADDRESS} b waits`, `${ADDRESS} c shares`],
  ],
  [
    'where the oldest does not share, it has all packets',
    [claim('a', ADDRESS, 100, 1), claim('b', ADDRESS, 100, 2, 1), claim('c', ADDRESS, 100, 3, 1)],
    [],
    [`${ADDRESS} a wins`, `${ADDRESS} b waits`, `${ADDRESS} c waits`],
  ],
  [
    'one that is left alone has all packets',
    [claim('a', ADDRESS, 100, 1, 1), claim('b', ADDRESS, 100, 2, 1)],
    ['a'],
    [`${ADDRESS} a refused`, `${ADDRESS} b wins`],
  ],
])('%s', (_, claims, refused, expected) => expect(judge(claims, refused)).toEqual(expected))

test('a claim that waits knows for whom, and why', () => {
  const [old, preferred, next] = [
    claim('a', ADDRESS, 5, 1),
    claim('b', ADDRESS, 9, 2),
    claim('c', ADDRESS, 9, 3),
  ]
  expect(describeWait(old, preferred)).toBe('b announces it with priority 9')
  expect(describeWait(next, preferred)).toMatch(
    /^b announces it with the same priority, and has claimed it before/,
  )
})

test('so many share at most: the oldest claims', () => {
  const many = Array.from({ length: MOST_SHARING + 1 }, (_, i) => claim(`${i}`, ADDRESS, 100, 50 - i, 1))
  const judged = judgeClaims(many, () => undefined)
  expect(judged.filter(({ standing }) => standing.kind === 'shares')).toHaveLength(MOST_SHARING)
  const [last] = judged.slice(-1)
  expect(last).toMatchObject({ claim: { host: '0' }, standing: { kind: 'waits' } })
  if (last?.standing.kind !== 'waits') throw new Error('it waits')
  expect(describeWait(last.claim, last.standing.winner)).toMatch(/^16 hosts share it/)
})

test('a claim that waits for one that shares is told how it could share', () => {
  const reason = describeWait(claim('b', ADDRESS, 100, 2), claim('a', ADDRESS, 100, 1, 1))
  expect(reason).toMatch(/shares only with those who announce it with --share/)
})

test('a host has at most so many prefixes: its oldest', () => {
  const many = Array.from({ length: MOST_OF_HOST + 2 }, (_, i) =>
    claim('a', `10.6.${i >> 8}.${i & 255}/32`, 100, 10_000 - i),
  )
  const refused = judgeClaims(many, () => undefined).filter(({ standing }) => standing.kind === 'refused')
  expect(refused.map(({ claim: { claimedAt } }) => claimedAt).sort()).toEqual([10_000n, 9999n].sort())
})

const HOSTS = ['a', 'b', 'c', 'd']
const PREFIXES = ['10.5.240.7/32', '10.5.240.0/24', '192.0.2.0/24', 'fd00:5:0:f0::/64']
const anyClaims = fc.uniqueArray(
  fc.record({
    host: fc.constantFrom(...HOSTS),
    prefix: fc.constantFrom(...PREFIXES),
    priority: fc.integer({ min: 0, max: 3 }),
    age: fc.integer({ min: 1, max: 5 }),
    share: fc.constantFrom(undefined, 1, 7),
  }),
  { selector: ({ host, prefix }) => `${host} ${prefix}`, maxLength: 16 },
)

test('the order of events never changes the outcome', () => {
  fc.assert(
    fc.property(
      anyClaims.chain((claims) =>
        fc.tuple(
          fc.constant(claims),
          fc.shuffledSubarray(claims, { minLength: claims.length, maxLength: claims.length }),
        ),
      ),
      fc.subarray(HOSTS),
      ([claims, shuffled], refused) => {
        const make = (all: typeof claims) =>
          all.map(({ host, prefix, priority, age, share }) => claim(host, prefix, priority, age, share))
        expect(judge(make(shuffled), refused)).toEqual(judge(make(claims), refused))
      },
    ),
  )
})

test('each prefix that somebody may announce has one winner whom no other beats, or several that all share', () => {
  fc.assert(
    fc.property(anyClaims, fc.subarray(HOSTS), (all, refused) => {
      const claims = all.map(({ host, prefix, priority, age, share }) =>
        claim(host, prefix, priority, age, share),
      )
      const judged = judgeClaims(claims, ({ host }) => (refused.includes(host) ? 'no' : undefined))
      expect(judged.length).toBe(claims.length)
      for (const prefix of PREFIXES) {
        const rivals = judged.filter(({ claim }) => formatPrefix(claim.announcement.prefix) === prefix)
        const valid = rivals.filter(({ claim: { host } }) => !refused.includes(host))
        const [wins, shares] = ['wins', 'shares'].map((kind) =>
          valid.filter(({ standing }) => standing.kind === kind),
        )
        const winners = [...(wins ?? []), ...(shares ?? [])]
        expect(wins?.length).toBe(valid.length === 0 || winners.length > 1 ? 0 : 1)
        expect(shares?.length).not.toBe(1)
        const best = Math.max(...valid.map(({ claim }) => claim.announcement.priority))
        const isBest = ({ claim: { announcement } }: Judged) => announcement.priority === best
        for (const winner of winners) expect(isBest(winner)).toBe(true)
        for (const { claim } of shares ?? []) expect(claim.announcement.share).toBeDefined()
        // Nobody who asked to share with the others is left out.
        if (shares !== undefined && shares.length > 0)
          for (const each of valid.filter(isBest))
            if (each.claim.announcement.share !== undefined) expect(each.standing.kind).toBe('shares')
      }
    }),
  )
})
