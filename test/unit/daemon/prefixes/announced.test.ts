import fc from 'fast-check'
import type { SortedUpdate } from '../../../../src/daemon/node/sort-update'
import { sortUpdate } from '../../../../src/daemon/node/sort-update'
import type { Overlay } from '../../../../src/daemon/overlay/overlay'
import { AnnouncedPrefixes } from '../../../../src/daemon/prefixes/announced'
import { LEAST } from '../../../../src/daemon/prefixes/judging'
import { createLogger } from '../../../../src/daemon/tell/logger'
import type { RegistryEvent } from '../../../../src/etcd/follow/updates'
import { formatPrefix, type Prefix } from '../../../../src/model/address'
import { routeKey, routePrefix } from '../../../../src/model/kernel/route'
import type { EtcdLeaseId, Revision } from '../../../../src/model/lease'
import { MOST_OF_HOST, type PrefixEntry, prefixName } from '../../../../src/model/prefixes'
import { PeerTable } from '../../../../src/plan/peers/peer-table'
import { hw, ip, ipv4Range, lease, net } from '../../plan/support'

const OWN = lease('10.5.1.0/24')
const [TWO, THREE] = [lease('10.5.2.0/24'), lease('10.5.3.0/24')]
const ADDRESS = '10.5.240.7/32'

const entry = (host: string, prefix: string, fields: object = {}, claimedAt = 1): PrefixEntry => ({
  name: `${host}/${prefixName(net(prefix))}`,
  host,
  modRevision: 1n as Revision,
  announcement: { prefix: net(prefix), priority: 100, until: undefined, via: undefined, ...fields },
  claimedAt: BigInt(claimedAt) as Revision,
  etcdLease: '1' as EtcdLeaseId,
})

/** With listings and updates in one piece. */
class Announced extends AnnouncedPrefixes {
  list(entries: readonly PrefixEntry[], more = 0, revision?: Revision): void {
    const pieces = this.listing({ entries, more, revision })
    while (pieces.next().done !== true);
  }

  take(update: SortedUpdate): boolean {
    const pieces = this.taking(update)
    for (;;) {
      const { done, value } = pieces.next()
      if (done) return value
    }
  }
}

function setUp(links: readonly Prefix[] = []) {
  const peers = new PeerTable(
    { range: ipv4Range(), vni: 1 },
    { key: OWN.key, subnet: net('10.5.1.0/24'), publicIp: ip('192.168.77.11'), mac: hw('02:00:00:00:00:01') },
  )
  peers.reset([TWO, THREE], [])
  const rerouted: string[] = []
  const allowed = [net('10.5.240.0/20'), net('198.51.100.0/24')]
  const overlay = {
    spec: { family: 'IPv4', allowed, subnet: net('10.5.1.0/24'), link: { local: ip('192.168.77.11') } },
    peers,
    addresses: { links },
    reconciler: {
      rerouted: (keys: readonly Parameters<typeof routePrefix>[0][]) =>
        rerouted.push(...keys.map((key) => formatPrefix(routePrefix(key)))),
    },
  } as unknown as Overlay
  const log = createLogger(0, { underJournald: true, stream: process.stdout })
  for (const level of ['info', 'warn'] as const) Object.assign(log, { [level]: () => undefined })
  const surroundings = [{ address: ip('198.51.100.1'), what: 'the gateway of the default route' }]
  const prefixes = new Announced({ overlays: [overlay], own: OWN, surroundings }, log)
  const routes = () =>
    [TWO, THREE].flatMap(({ key }) =>
      peers.routed.of(key).map((each) => `${formatPrefix(each)} ${key.split('/').at(-1)}`),
    )
  const shares = () =>
    [...peers.routed.all()]
      .map((prefix) => [
        formatPrefix(prefix),
        ...peers.carriersOf(routeKey(prefix)).map(({ peer, weight }) => `${peer.key} ${weight}`),
      ])
      .sort()
  const states = () => prefixes.judged.map(({ claim, standing }) => `${claim.host} ${standing.kind}`)
  return { prefixes, peers, rerouted, routes, shares, states }
}

const update = (...events: readonly RegistryEvent[]): SortedUpdate =>
  sortUpdate({ kind: 'events', revision: 9n as Revision, events, receivedAt: 0 })
const put = (prefix: PrefixEntry): RegistryEvent => ({ kind: 'prefix', prefix })
const removed = ({ name }: PrefixEntry): RegistryEvent => ({
  kind: 'prefix-removed',
  name,
  modRevision: 9n as Revision,
})

test('a prefix follows its claims, and only what changes is compared', () => {
  const { prefixes, routes, rerouted } = setUp()
  const [two, three] = [entry('10.5.2.0-24', ADDRESS), entry('10.5.3.0-24', ADDRESS, { priority: 200 })]
  prefixes.list([two], 0, 5n as Revision)
  expect(routes()).toEqual([`${ADDRESS} 10.5.2.0-24`])
  expect(prefixes.take(update(put(three)))).toBe(true)
  expect(routes()).toEqual([`${ADDRESS} 10.5.3.0-24`])
  prefixes.take(update(removed(two)))
  expect(rerouted).toEqual([ADDRESS, ADDRESS])
  prefixes.take(update(removed(three)))
  expect([routes(), rerouted, prefixes.revision]).toEqual([[], [ADDRESS, ADDRESS, ADDRESS], 9n])
  expect(prefixes.take(update())).toBe(false)
})

test('a host that wins itself has no route to others, and one that is beaten has', () => {
  const { prefixes, routes, states } = setUp()
  prefixes.list([entry('10.5.1.0-24', ADDRESS), entry('10.5.2.0-24', ADDRESS, {}, 2)], 0)
  expect([routes(), states()]).toEqual([[], ['10.5.1.0-24 wins', '10.5.2.0-24 waits']])
  prefixes.take(update(put(entry('10.5.2.0-24', ADDRESS, { priority: 101 }, 2))))
  expect([routes(), states()]).toEqual([
    [`${ADDRESS} 10.5.2.0-24`],
    ['10.5.2.0-24 wins', '10.5.1.0-24 waits'],
  ])
})

test('the prefixes of a host go with its lease', () => {
  const { prefixes, peers, routes, states } = setUp()
  prefixes.list([entry('10.5.2.0-24', ADDRESS), entry('10.5.3.0-24', ADDRESS, {}, 2)], 0)
  peers.remove(TWO.key)
  prefixes.review()
  expect(routes()).toEqual([`${ADDRESS} 10.5.3.0-24`])
  expect(states()).toEqual(['10.5.2.0-24 refused', '10.5.3.0-24 wins'])
})

test('prefixes that are gone together with leases that are held back stay as long as these', () => {
  const { prefixes, routes } = setUp()
  const held = new Set([TWO.key])
  prefixes.holdWith((key) => held.has(key))
  const [two, three] = [entry('10.5.2.0-24', ADDRESS), entry('10.5.3.0-24', '10.5.240.8/32')]
  prefixes.list([two, three], 0)
  prefixes.take(update(removed(two), removed(three)))
  expect(routes()).toEqual([`${ADDRESS} 10.5.2.0-24`])
  prefixes.list([], 0)
  expect(routes()).toEqual([`${ADDRESS} 10.5.2.0-24`])
  held.clear()
  prefixes.review()
  expect(routes()).toEqual([])
})

test('what this host needs or has is given to nobody', () => {
  const { prefixes, routes, states } = setUp([net('10.5.241.1/24'), net('192.168.77.11/24')])
  prefixes.list(
    [
      entry('10.5.2.0-24', '10.5.241.0/24'),
      entry('10.5.2.0-24', '10.5.241.7/32'),
      entry('10.5.2.0-24', '198.51.100.0/30'),
      entry('10.5.2.0-24', '192.168.77.12/32'),
    ],
    0,
  )
  expect(routes()).toEqual(['10.5.241.7/32 10.5.2.0-24'])
  expect(states().filter((state) => state.endsWith('refused'))).toHaveLength(3)
  // Its own bridge is what a host may announce.
  expect(prefixes.objectionToOwn(net('10.5.241.0/24'))).toBeUndefined()
  expect(prefixes.objectionToOwn(net('198.51.100.0/30'))).toMatch(/the gateway of the default route/)
})

test('a claim ends with its time', () => {
  const { prefixes, states } = setUp()
  const until = Date.now() + 60_000
  prefixes.list([entry('10.5.2.0-24', ADDRESS, { until }), entry('10.5.3.0-24', ADDRESS, { until: 1 }, 0)], 0)
  expect(states()).toEqual(['10.5.3.0-24 refused', '10.5.2.0-24 wins'])
  expect(prefixes.due).toBeGreaterThan(performance.now())
  expect(prefixes.due).toBeLessThanOrEqual(performance.now() + 60_000)
})

test('a change is judged without a look at the other peers, until one of them changes', () => {
  const { prefixes, peers, routes, states } = setUp()
  prefixes.list([entry('10.5.2.0-24', ADDRESS)], 0)
  const all = jest.spyOn(peers, 'peers')
  prefixes.take(update(put(entry('10.5.3.0-24', '10.5.240.8/32'))))
  expect(prefixes.objectionToOwn(net('10.5.240.9/32'))).toBeUndefined()
  expect(all).not.toHaveBeenCalled()
  // Its PublicIP is now what a claim covers.
  const moved = lease('10.5.3.0/24', { publicIp: '198.51.100.9' })
  peers.reset([TWO, moved], [])
  prefixes.take(update(put(entry('10.5.2.0-24', '198.51.100.0/28', {}, 2))))
  expect(all).toHaveBeenCalledTimes(1)
  expect(states()).toContain('10.5.2.0-24 refused')
  expect(routes()).toEqual([`${ADDRESS} 10.5.2.0-24`, '10.5.240.8/32 10.5.3.0-24'])
})

test('a claim whose time ends while others change ends too', () => {
  const { prefixes, states } = setUp()
  const until = Date.now() + 2
  prefixes.list([entry('10.5.2.0-24', ADDRESS, { until })], 0)
  // In one turn of the event loop, so that no timer finds the end first.
  const isDue = (): boolean => prefixes.due === Number.POSITIVE_INFINITY || performance.now() >= prefixes.due
  while (Date.now() <= until || !isDue());
  prefixes.take(update(put(entry('10.5.3.0-24', '10.5.240.8/32', {}, 2))))
  expect(states()).toEqual(['10.5.2.0-24 refused', '10.5.3.0-24 wins'])
})

test.each([
  // Nobody has it.
  [[], {}, true],
  [[entry('10.5.2.0-24', ADDRESS)], { priority: 101 }, true],
  [[entry('10.5.2.0-24', ADDRESS)], { priority: 100 }, false],
  [[entry('10.5.2.0-24', ADDRESS)], { priority: 99 }, false],
  // A claim keeps its age when its priority changes.
  [[entry('10.5.2.0-24', ADDRESS, {}, 2), entry('10.5.1.0-24', ADDRESS, { priority: 1 }, 1)], {}, true],
  [[entry('10.5.2.0-24', ADDRESS, {}, 1), entry('10.5.1.0-24', ADDRESS, { priority: 1 }, 2)], {}, false],
  [[entry('10.5.9.0-24', ADDRESS)], {}, true],
  // It shares, if both ask for it.
  [[entry('10.5.2.0-24', ADDRESS, { share: 1 })], { share: 1 }, true],
  [[entry('10.5.2.0-24', ADDRESS, { share: 1 })], {}, false],
  [[entry('10.5.2.0-24', ADDRESS)], { share: 1 }, false],
  [[entry('10.5.2.0-24', '10.5.240.8/32')], {}, true],
  [[], { prefix: net('192.0.2.7/32') }, false],
])('what is known tells whether a claim of this host wins: %#', (entries, fields, wins) => {
  const { prefixes } = setUp()
  prefixes.list(entries, 0, 1n as Revision)
  const claim = { prefix: net(ADDRESS), priority: 100, until: undefined, via: undefined, ...fields }
  expect(prefixes.wouldWin(claim)).toBe(wins)
  if (wins || claim.prefix.address !== net(ADDRESS).address) return
  prefixes.take(update(put(entry('10.5.1.0-24', ADDRESS, fields, entries.length > 1 ? 2 : 3))))
  expect(prefixes.ownWins).toEqual([])
})

test('a listing without news is no change, and one of a state file has no revision', () => {
  const { prefixes, routes } = setUp()
  const known = entry('10.5.2.0-24', ADDRESS)
  prefixes.list([known])
  expect([routes(), prefixes.revision]).toEqual([[`${ADDRESS} 10.5.2.0-24`], undefined])
  const before = prefixes.generation
  prefixes.list([known], 0, 7n as Revision)
  expect([prefixes.generation, prefixes.revision]).toEqual([before, 7n])
  prefixes.list([{ ...known, modRevision: 8n as Revision }], 0, 8n as Revision)
  expect(prefixes.generation).toBe(before + 1)
  prefixes.take(update(removed(known)))
  expect(prefixes.generation).toBe(before + 2)
})

describe('thousands of claims', () => {
  const HOSTS = ['10.5.2.0-24', '10.5.3.0-24']
  const many = Array.from({ length: 2000 }, (_, at) =>
    entry(HOSTS[at % 2] ?? '', `10.5.${240 + (at >> 8)}.${at & 255}/32`, {}, at),
  )

  test('are judged in slices, and all of them in the end; those of a host that goes come first', async () => {
    const { prefixes, peers, routes } = setUp()
    prefixes.list(many, 0, 1n as Revision)
    expect(routes().length).toBeLessThan(many.length)
    await prefixes.settle(AbortSignal.timeout(5000))
    expect(routes()).toHaveLength(many.length)
    peers.remove(THREE.key)
    prefixes.review()
    // All 1,000 of them at once.
    expect(routes().filter((route) => route.endsWith(HOSTS[1] ?? ''))).toEqual([])
    await prefixes.settle(AbortSignal.timeout(5000))
    expect(routes()).toHaveLength(many.length / 2)
    expect(prefixes.judged.map(({ claim }) => claim.name)).toEqual(many.map(({ name }) => name))
  })

  test('that move in a listing have a host after each piece of it', async () => {
    const { prefixes, routes } = setUp()
    const few = many.slice(0, MOST_OF_HOST / 2)
    const ofHost = (host: string, age: number) =>
      few.map(({ announcement }, at) =>
        entry(host, formatPrefix(announcement?.prefix ?? net(ADDRESS)), {}, age + at),
      )
    const [before, moved] = [ofHost('10.5.2.0-24', 0), ofHost('10.5.3.0-24', 5000)]
    prefixes.list(before, 0, 1n as Revision)
    await prefixes.settle(AbortSignal.timeout(5000))
    let pieces = 0
    for (const _ of prefixes.listing({ entries: moved, more: 0, revision: 2n as Revision })) {
      prefixes.review()
      await prefixes.settle(AbortSignal.timeout(5000))
      expect(routes()).toHaveLength(few.length)
      pieces += 1
    }
    expect(pieces).toBeGreaterThan(3)
    await prefixes.settle(AbortSignal.timeout(5000))
    expect(routes().filter((route) => route.endsWith('10.5.3.0-24'))).toHaveLength(few.length)
  })

  test('reviews that follow one another leave nothing out', async () => {
    const { prefixes, routes } = setUp()
    prefixes.list(many, 0, 1n as Revision)
    // However slow the machine is, each has judged that many.
    for (let judged = LEAST; judged < many.length; judged += LEAST) prefixes.review()
    expect(routes()).toHaveLength(many.length)
    await prefixes.settle(AbortSignal.timeout(5000))
  })

  test('of one host are followed up to its limit, the oldest ones, and the next when one goes', async () => {
    const { prefixes, routes } = setUp()
    const ofOne = many.slice(0, MOST_OF_HOST + 2).map((_, at) =>
      // The youngest are listed first.
      entry('10.5.2.0-24', `10.5.${240 + (at >> 8)}.${at & 255}/32`, {}, 5000 - at),
    )
    prefixes.list(ofOne, 0, 1n as Revision)
    await prefixes.settle(AbortSignal.timeout(5000))
    expect(routes()).toHaveLength(MOST_OF_HOST)
    expect(routes()).not.toContain('10.5.240.0/32 10.5.2.0-24')
    expect(routes()).not.toContain('10.5.240.1/32 10.5.2.0-24')
    const [, , third] = ofOne
    if (third === undefined) throw new Error('there is a third')
    prefixes.take(update(removed(third)))
    expect(routes()).toHaveLength(MOST_OF_HOST)
    expect(routes()).toContain('10.5.240.1/32 10.5.2.0-24')
  })
})

test('who shares and is not reached gets no packets while another is reached, and only then', () => {
  const { prefixes, peers, rerouted } = setUp()
  const carriers = () => peers.routed.carriersOf(routeKey(net(ADDRESS))).map(({ peer }) => peer)
  const [two, three] = [TWO, THREE].map((each, at) =>
    entry(each.key.split('/').at(-1) ?? '', ADDRESS, { share: 1 }, at),
  )
  if (two === undefined || three === undefined) throw new Error('both announce it')
  prefixes.list([two, three], 0, 1n as Revision)
  expect(carriers()).toEqual([TWO.key, THREE.key])
  rerouted.length = 0
  prefixes.probed(({ key }) => key === TWO.key)
  expect(carriers()).toEqual([THREE.key])
  expect(rerouted).toEqual([ADDRESS])
  expect(prefixes.judged.map(({ claim }) => prefixes.isLeftOut(claim))).toEqual([true, false])
  prefixes.probed(({ key }) => key === TWO.key)
  expect(rerouted).toEqual([ADDRESS])
  prefixes.probed(() => true)
  expect(carriers()).toEqual([TWO.key, THREE.key])
  prefixes.probed(({ key }) => key === TWO.key)
  // The last one that is left stays, however it answers.
  prefixes.take(update(removed(three)))
  expect(carriers()).toEqual([TWO.key])
})

test('what this host shares goes to no other host', () => {
  const { prefixes, peers } = setUp()
  const share = { share: 3 }
  prefixes.list([entry('10.5.1.0-24', ADDRESS, share, 2), entry('10.5.2.0-24', ADDRESS, share, 1)], 0)
  expect(prefixes.ownWins).toHaveLength(1)
  expect(peers.routed.carriersOf(routeKey(net(ADDRESS)))).toEqual([])
})

test('after any changes the claims stand as in a listing of what is left', () => {
  const hosts = ['10.5.1.0-24', '10.5.2.0-24', '10.5.3.0-24', '10.5.9.0-24']
  const someEntry = fc
    .record({
      host: fc.constantFrom(...hosts),
      prefix: fc.constantFrom(ADDRESS, '10.5.240.8/32', '198.51.100.0/25', '192.0.2.0/25'),
      priority: fc.constantFrom(99, 100, 101),
      claimedAt: fc.integer({ min: 1, max: 4 }),
      share: fc.constantFrom(undefined, 1, 2),
      isThere: fc.boolean(),
    })
    .map(({ host, prefix, priority, claimedAt, share, isThere }) => {
      return { each: entry(host, prefix, { priority, share }, claimedAt), isThere }
    })
  const standing = (prefixes: AnnouncedPrefixes): string[] =>
    prefixes.judged.map(({ claim, standing: { kind } }) => `${claim.name} ${kind}`).sort()
  fc.assert(
    fc.property(fc.array(someEntry, { maxLength: 12 }), fc.subarray([TWO, THREE]), (changes, lost) => {
      const [changed, listed] = [setUp(), setUp()]
      const isLost = ({ key }: { key: string }) => lost.some((each) => each.key === key)
      changed.prefixes.probed(isLost)
      const left = new Map<string, PrefixEntry>()
      changed.prefixes.list([], 0, 1n as Revision)
      for (const { each, isThere } of changes) {
        if (isThere) left.set(each.name, each)
        else left.delete(each.name)
        changed.prefixes.take(update(isThere ? put(each) : removed(each)))
      }
      listed.prefixes.list([...left.values()], 0, 1n as Revision)
      expect(standing(changed.prefixes)).toEqual(standing(listed.prefixes))
      // Whether probing has told before or after the claims came means nothing.
      listed.prefixes.probed(isLost)
      expect(changed.routes().sort()).toEqual(listed.routes().sort())
      expect(changed.shares()).toEqual(listed.shares())
    }),
  )
})
