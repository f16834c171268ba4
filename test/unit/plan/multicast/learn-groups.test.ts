import { FAMILIES, type Family, type IpAddress } from '../../../../src/model/address'
import { GroupLearner, type SeenBridge } from '../../../../src/plan/multicast/learn-groups'
import { ip, ip6 } from '../support'

const seen = (
  queriers: readonly Family[] | undefined,
  groups: readonly IpAddress[] = [],
  { index = 4, hasRouter = false } = {},
): SeenBridge => ({
  bridge: {
    index,
    name: `br${index}`,
    multicastRouter: 2,
    ...(queriers && { snooping: { queriers, answeredWithin: 1000 } }),
  },
  members: [{ bridge: index, groups, hasRouter }],
})

test('groups are known once a querier has been present for the longest response time', () => {
  const learner = new GroupLearner()
  const bridge = seen(FAMILIES, [ip('239.1.2.3'), ip6('ff05::77')])
  expect(learner.look([bridge], 0)).toEqual({
    tells: [],
    groups: [],
    why: { IPv4: 'members on br4 are still being asked', IPv6: 'members on br4 are still being asked' },
    due: 1000,
  })
  expect(learner.look([bridge], 999).tells).toEqual([])
  expect(learner.look([bridge], 1000)).toEqual({
    tells: FAMILIES,
    groups: [ip('239.1.2.3'), ip6('ff05::77')],
    why: {},
    due: Number.POSITIVE_INFINITY,
  })
})

test('after an absence of the querier the waiting time begins anew, for each family by itself', () => {
  const learner = new GroupLearner()
  learner.look([seen(FAMILIES)], 0)
  expect(learner.look([seen(['IPv4'])], 2000)).toMatchObject({
    tells: ['IPv4'],
    why: { IPv6: 'br4 has no IPv6 querier' },
  })
  expect(learner.look([seen(FAMILIES)], 3000)).toMatchObject({ tells: ['IPv4'], due: 4000 })
  expect(learner.look([seen(FAMILIES)], 4000).tells).toEqual(FAMILIES)
})

test('groups are known only if all bridges know theirs', () => {
  const learner = new GroupLearner()
  const bridges = [seen(FAMILIES, [ip('239.1.2.3')]), seen(FAMILIES, [ip('239.1.2.4')], { index: 5 })]
  learner.look(bridges, 0)
  expect(learner.look(bridges, 1000).groups).toEqual([ip('239.1.2.3'), ip('239.1.2.4')])
  expect(learner.look([seen(FAMILIES), seen(undefined, [], { index: 5 })], 2000)).toMatchObject({
    tells: [],
    why: { IPv4: 'br5 does not snoop', IPv6: 'br5 does not snoop' },
  })
})

test('with a multicast router behind a port, or without a bridge, groups are unknown', () => {
  const learner = new GroupLearner()
  learner.look([seen(FAMILIES)], 0)
  expect(learner.look([seen(FAMILIES, [], { hasRouter: true })], 1000)).toMatchObject({
    tells: [],
    why: { IPv4: 'a multicast router is behind br4' },
  })
  expect(learner.look([], 2000)).toMatchObject({ tells: [], why: { IPv4: 'no bridge has our subnet' } })
})

test('groups that are always flooded, or never leave the host, are not announced', () => {
  const learner = new GroupLearner()
  const groups = [ip('224.0.0.251'), ip6('ff02::1'), ip6('ff02::1:ff00:7'), ip6('ff01::fb'), ip6('ff02::fb')]
  learner.look([seen(FAMILIES)], 0)
  expect(learner.look([seen(FAMILIES, groups)], 1000).groups).toEqual([ip6('ff02::fb')])
})
