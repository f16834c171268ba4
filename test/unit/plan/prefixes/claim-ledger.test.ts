import fc from 'fast-check'
import type { EtcdLeaseId, Revision } from '../../../../src/model/lease'
import { type Announcement, type PrefixClaim, prefixName } from '../../../../src/model/prefixes'
import { ClaimLedger, type Sight } from '../../../../src/plan/prefixes/claim-ledger'
import { lease, net } from '../support'

const OWN = lease('10.5.1.0/24')
const announce = (fields: Partial<Announcement> = {}): Announcement => ({
  prefix: net('10.5.240.7/32'),
  priority: 100,
  until: undefined,
  via: undefined,
  ...fields,
})
const NAME = prefixName(announce().prefix)
const keyOf = (announcement: Announcement, etcdLease: EtcdLeaseId = OWN.etcdLease): PrefixClaim => ({
  name: `10.5.1.0-24/${NAME}`,
  host: '10.5.1.0-24',
  modRevision: 1n as Revision,
  claimedAt: 1n as Revision,
  announcement,
  etcdLease,
})
const sight = (claim: PrefixClaim | undefined, revision = 0, more: Partial<Sight> = {}): Sight => ({
  claim,
  revision: BigInt(revision) as Revision,
  lease: OWN,
  hasWay: true,
  ...more,
})

/** An answer of etcd that comes when the test says so. */
function later() {
  let come = (): void => undefined
  const answer = new Promise<void>((resolve) => {
    come = resolve
  })
  return { come, answer }
}

test.each<[string, Announcement[], Sight, string]>([
  ['is missing', [announce()], sight(undefined), 'put'],
  ['is missing, of a further subnet', [announce({ further: true })], sight(undefined), 'claim'],
  ['is right', [announce()], sight(keyOf(announce())), 'none'],
  ['has another priority', [announce()], sight(keyOf(announce({ priority: 5 }))), 'put'],
  ['is bound to another lease', [announce()], sight(keyOf(announce(), '9' as EtcdLeaseId)), 'put'],
  ['is wanted no more', [], sight(keyOf(announce())), 'delete'],
  ['is an operator’s, for good', [], sight(keyOf(announce(), '0' as EtcdLeaseId)), 'none'],
  ['has no way any more', [announce()], sight(keyOf(announce()), 0, { hasWay: false }), 'delete'],
  ['has no way yet', [announce()], sight(undefined, 0, { hasWay: false }), 'none'],
])('a key that %s', (_, wanted, seen, step) => {
  expect(new ClaimLedger(wanted).step(NAME, seen)).toBe(step)
})

test('a key that an order writes is not taken back because the watch was faster than the answer', async () => {
  const ledger = new ClaimLedger([])
  const { come, answer } = later()
  const order = ledger.ordering(NAME, async () => {
    await answer
    ledger.noted(NAME, 7n as Revision)
    ledger.want(announce())
  })
  // The watch reports the key, and a pass runs.
  expect(ledger.step(NAME, sight(keyOf(announce()), 7))).toBe('none')
  come()
  await order
  expect(ledger.step(NAME, sight(keyOf(announce()), 7))).toBe('none')
})

test('a key that an order deletes is not written again meanwhile, and not before the watch tells', async () => {
  const ledger = new ClaimLedger([announce()])
  const { come, answer } = later()
  const order = ledger.ordering(NAME, async () => {
    await answer
    ledger.noted(NAME, 8n as Revision)
    ledger.unwant(NAME)
  })
  expect(ledger.step(NAME, sight(undefined, 8))).toBe('none')
  come()
  await order
  // The watch is behind: the key that it knows is gone already.
  expect(ledger.step(NAME, sight(keyOf(announce()), 7))).toBe('none')
  expect(ledger.step(NAME, sight(undefined, 8))).toBe('none')
})

test('of two orders about one prefix the first that ends leaves the other its key', async () => {
  const ledger = new ClaimLedger([])
  const [first, second] = [later(), later()]
  const orders = [first, second].map(({ answer }) => ledger.ordering(NAME, () => answer))
  first.come()
  await orders[0]
  expect(ledger.step(NAME, sight(keyOf(announce())))).toBe('none')
  second.come()
  await orders[1]
  expect(ledger.step(NAME, sight(keyOf(announce())))).toBe('delete')
})

test('an order that fails leaves the passes to do as before', async () => {
  const ledger = new ClaimLedger([announce()])
  await expect(ledger.ordering(NAME, async () => Promise.reject(new Error('etcd')))).rejects.toThrow('etcd')
  expect(ledger.step(NAME, sight(undefined))).toBe('put')
})

test('whatever the order of answers, reports and passes, no pass undoes an order', async () => {
  // The key's history: each entry is what etcd has from that revision on.
  const acts = fc.array(
    fc.record({
      order: fc.constantFrom('announce', 'withdraw'),
      /** How much of the history the watch has reported at each of four moments of the order. */
      heard: fc.array(fc.nat({ max: 20 }), { minLength: 4, maxLength: 4 }),
    }),
    { maxLength: 6 },
  )
  await fc.assert(
    fc.asyncProperty(acts, async (orders) => {
      const ledger = new ClaimLedger([])
      const history: (PrefixClaim | undefined)[] = [undefined]
      let known = 0
      const pass = (heard: number): string => {
        known = Math.max(known, Math.min(heard, history.length - 1))
        return ledger.step(NAME, sight(history[known], known))
      }
      for (const [at, { order, heard }] of orders.entries()) {
        const wanted = announce({ priority: at })
        const steps: string[] = [pass(heard[0] ?? 0)]
        await ledger.ordering(NAME, async () => {
          steps.push(pass(heard[1] ?? 0))
          history.push(order === 'announce' ? keyOf(wanted) : undefined)
          steps.push(pass(heard[2] ?? 0))
          ledger.noted(NAME, BigInt(history.length - 1) as Revision)
          if (order === 'announce') ledger.want(wanted)
          else ledger.unwant(NAME)
        })
        steps.push(pass(heard[3] ?? 0))
        expect(steps).toEqual(['none', 'none', 'none', 'none'])
      }
    }),
  )
})
