import { diffSets } from '../../../../src/kernel/nftables/apply-table'
import { ip } from '../../plan/support'

test('a set changes by its new elements and by those that are no longer desired', () => {
  const set = (...addresses: readonly string[]) => ({
    name: 'wanted4',
    family: 'IPv4' as const,
    addresses: addresses.map(ip),
  })
  expect(diffSets([set('239.0.1.1', '239.0.1.2')], [set('239.0.1.2', '239.0.1.3')])).toEqual([
    { added: set('239.0.1.1'), removed: set('239.0.1.3') },
  ])
  expect(diffSets([set('239.0.1.1')], [set('239.0.1.1')])).toEqual([])
})
