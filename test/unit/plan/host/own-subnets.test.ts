import type { Prefix } from '../../../../src/model/address'
import type { Announcement } from '../../../../src/model/prefixes'
import { furtherSubnets, ownSubnets, subnetWith } from '../../../../src/plan/host/own-subnets'
import type { Standing } from '../../../../src/plan/prefixes/standings'
import { ip, ip6, net, net6 } from '../support'

const held = (prefix: Prefix, further?: true): Announcement => ({
  prefix,
  priority: 100,
  until: undefined,
  via: undefined,
  further,
})

test('further subnets are the blocks that win, and those of which etcd has not told yet', () => {
  const blocks = ['10.5.250.0/26', '10.5.249.0/26', '10.5.248.0/26', '10.5.247.0/26', '10.5.246.0/26'].map(
    net,
  )
  const winner = { host: '10.5.9.0-24' } as Extract<Standing, { kind: 'waits' }>['winner']
  const standings: (Standing | undefined)[] = [
    { kind: 'wins' },
    undefined,
    { kind: 'refused', reason: 'it is inside of no range' },
    { kind: 'waits', winner },
    { kind: 'shares' },
  ]
  const standing = (prefix: Prefix) =>
    standings[blocks.findIndex(({ address }) => address === prefix.address)]
  expect(
    furtherSubnets([...blocks.map((each) => held(each, true)), held(net('10.5.240.7/32'))], standing),
  ).toEqual([net('10.5.246.0/26'), net('10.5.249.0/26'), net('10.5.250.0/26')])
})

test('an address is in a subnet of the host or in none', () => {
  const own = ownSubnets([net('10.5.7.0/24'), net6('fd00:5:0:7::/64')], [net('10.5.250.0/26')])
  expect(subnetWith(own, ip('10.5.7.9'))).toEqual(net('10.5.7.0/24'))
  expect(subnetWith(own, ip('10.5.250.63'))).toEqual(net('10.5.250.0/26'))
  expect(subnetWith(own, ip('10.5.250.64'))).toBeUndefined()
  expect(subnetWith(own, ip6('fd00:5:0:7::1'))).toEqual(net6('fd00:5:0:7::/64'))
  expect(subnetWith(own, ip6('fd00:5:0:8::1'))).toBeUndefined()
})
