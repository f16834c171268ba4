import fc from 'fast-check'
import { FAMILIES, type IpAddress, type Ipv6, ipv4 } from '../../../../src/model/address'
import type { HostGroups } from '../../../../src/model/multicast'
import { Publication, type PublicationStep } from '../../../../src/plan/multicast/publication'
import { ip, ip6 } from '../support'

const VNI = 9
const [A, B, C] = [ip('239.1.2.3'), ip('239.1.2.4'), ip6('ff05::77')]

/** A host, and an etcd that accepts every write. */
class Site {
  readonly publication = new Publication()
  said: HostGroups | undefined
  writes = 0

  want(groups: readonly IpAddress[], now: number, tells = FAMILIES): PublicationStep {
    this.publication.take({ tells, groups }, now)
    return this.step(now)
  }

  step(now: number): PublicationStep {
    const step = this.publication.next(this.said, VNI, now)
    if (step.kind === 'write') {
      this.said = step.value
      this.writes += 1
      this.publication.wrote(now)
    } else if (step.kind === 'withdraw') this.said = undefined
    return step
  }
}

test('a group that is joined is announced at once, a group that is left is withdrawn later', () => {
  const site = new Site()
  expect(site.want([B, A, C], 0)).toEqual({
    kind: 'write',
    value: { vni: VNI, tells: FAMILIES, groups: [A, B, C] },
  })
  expect(site.step(1)).toEqual({ kind: 'wait', due: Number.POSITIVE_INFINITY })
  expect(site.want([A, C], 1000)).toEqual({ kind: 'wait', due: 4000 })
  // The group is joined again before its withdrawal was announced.
  expect(site.want([A, B, C], 2000)).toEqual({ kind: 'wait', due: Number.POSITIVE_INFINITY })
  site.want([A, C], 5000)
  expect(site.step(8000)).toMatchObject({ kind: 'write', value: { groups: [A, C] } })
})

test('a family whose groups are unknown is withdrawn at once; without any family the key is deleted', () => {
  const site = new Site()
  site.want([A, C], 0)
  expect(site.want([A], 1, ['IPv4'])).toMatchObject({
    kind: 'write',
    value: { tells: ['IPv4'], groups: [A] },
  })
  expect(site.want([], 2, [])).toEqual({ kind: 'withdraw' })
  expect(site.step(3)).toMatchObject({ kind: 'wait' })
})

test('with more groups than fit the family with most groups is not announced', () => {
  const site = new Site()
  const many = Array.from({ length: 256 }, (_, n) => ipv4(0xef010000 + n))
  expect(site.want(many, 0)).toMatchObject({ kind: 'write', value: { groups: many } })
  expect(site.publication.problem(0)).toBeUndefined()
  expect(site.want([...many, C], 1)).toMatchObject({ kind: 'write', value: { tells: ['IPv6'], groups: [C] } })
  expect(site.publication.problem(1)).toBe('containers have joined more than 256 groups')
  const more = Array.from({ length: 300 }, (_, n) => ((0xff05n << 112n) + BigInt(n + 16)) as Ipv6)
  expect(site.want([...many, B, ...more], 2)).toMatchObject({ kind: 'withdraw' })
})

test('too many changes of members end the announcement for a while', () => {
  const site = new Site()
  for (let n = 0; n < 20; n++) site.want([ipv4(0xef010000 + n)], n * 100)
  expect(site.writes).toBe(20)
  const now = 2000
  expect(site.want([A], now)).toEqual({ kind: 'withdraw' })
  expect(site.publication.problem(now)).toContain('more than 20 times a minute')
  expect(site.step(now + 1)).toEqual({ kind: 'wait', due: now + 60_000 })
  expect(site.step(now + 60_000)).toMatchObject({ kind: 'write', value: { groups: [A] } })
  expect(site.publication.problem(now + 60_000)).toBeUndefined()
})

test('a withdrawal waits when many writes were made, and is written together with the next join', () => {
  const site = new Site()
  const all = Array.from({ length: 10 }, (_, n) => ipv4(0xef010000 + n))
  for (let n = 1; n <= 10; n++) site.want(all.slice(0, n), n)
  site.want(all.slice(1), 100)
  expect(site.step(4000)).toEqual({ kind: 'wait', due: 60_001 })
  expect(site.want([...all.slice(1), A], 5000)).toMatchObject({ kind: 'write' })
  expect(site.said?.groups).toContain(A)
})

test('a foreign value is overwritten, at a bounded rate', () => {
  const site = new Site()
  site.want([A], 0)
  for (let now = 1; now < 60_000; now += 10) {
    site.said = { vni: 0, tells: [], groups: [] }
    site.step(now)
  }
  expect(site.writes).toBe(10)
})

test('for any changes: all joined groups are announced, the rate is bounded, the end is exact', () => {
  const change = fc.record({
    after: fc.integer({ min: 0, max: 2000 }),
    tells: fc.subarray([...FAMILIES]),
    groups: fc.subarray([A, B, C, ...Array.from({ length: 20 }, (_, n) => ipv4(0xef020000 + n))]),
  })
  fc.assert(
    fc.property(fc.array(change, { maxLength: 80 }), (changes) => {
      const site = new Site()
      let now = 0
      const times: number[] = []
      let last = { tells: [] as readonly string[], groups: [] as readonly IpAddress[] }
      for (const { after, tells, groups } of changes) {
        now += after
        const known = groups.filter((group) => tells.includes(typeof group === 'number' ? 'IPv4' : 'IPv6'))
        last = { tells, groups: known }
        const before = site.writes
        site.want(known, now, tells)
        if (site.writes > before) times.push(now)
        for (const family of site.said?.tells ?? []) expect(tells).toContain(family)
        for (const group of known)
          if (site.said?.tells.includes(typeof group === 'number' ? 'IPv4' : 'IPv6'))
            expect(site.said.groups).toContain(group)
        expect(times.filter((at) => at > now - 60_000).length).toBeLessThanOrEqual(20)
      }
      for (let step = site.step(now); ; step = site.step(now)) {
        if (step.kind === 'wait' && step.due === Number.POSITIVE_INFINITY) break
        now = step.kind === 'wait' ? Math.max(now + 1, step.due) : now + 1
      }
      expect([...(site.said?.tells ?? [])]).toEqual([...last.tells])
      expect(new Set(site.said?.groups ?? [])).toEqual(new Set(last.groups))
    }),
  )
})
