import fc from 'fast-check'
import type { EtcdLeaseId, Revision } from '../../../../src/model/lease'
import type { PrefixClaim } from '../../../../src/model/prefixes'
import { ClaimTable } from '../../../../src/plan/prefixes/claim-table'
import { net } from '../support'

const claim = (name: string, until: number | undefined): PrefixClaim => ({
  name,
  host: 'a',
  modRevision: 1n as Revision,
  announcement: { prefix: net('10.5.240.7/32'), priority: 100, until, via: undefined },
  claimedAt: 1n as Revision,
  etcdLease: '1' as EtcdLeaseId,
})

test('the next end is that of the claims that are there, whatever came before, and whatever the clock does', () => {
  const name = fc.constantFrom('a/1', 'a/2', 'a/3', 'a/4')
  const step = fc.oneof(
    fc.record({ name, until: fc.option(fc.integer({ min: 1, max: 20 }), { nil: undefined }) }),
    fc.record({ gone: name }),
    fc.record({ now: fc.integer({ min: 0, max: 21 }) }),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const [table, ends] = [new ClaimTable(), new Map<string, number>()]
      for (const each of steps) {
        if ('gone' in each) {
          table.delete(each.gone)
          ends.delete(each.gone)
        } else if ('name' in each) {
          table.set(claim(each.name, each.until))
          ends.delete(each.name)
          if (each.until !== undefined) ends.set(each.name, each.until)
        } else {
          const coming = [...ends.values()].filter((end) => end > each.now)
          expect(table.nextEnd(each.now)).toBe(Math.min(...coming, Number.POSITIVE_INFINITY))
        }
      }
    }),
  )
})
