import fc from 'fast-check'
import {
  FAMILIES,
  type Family,
  familyOf,
  type IpAddress,
  ipv4,
  type MacAddress,
} from '../../../../src/model/address'
import { type Destination, EVERY_GROUP, type HostGroups } from '../../../../src/model/multicast'
import type { Way } from '../../../../src/model/way'
import {
  GROUP_BOUNDS,
  groupMac,
  hostsOf,
  isLinkLocal,
  isSharedWithLink,
  isTold,
  planGroups,
} from '../../../../src/plan/multicast/groups'
import { diffDestinations } from '../../../../src/plan/multicast/multicast'
import { hw, ip, ip6 } from '../support'

const VNI = 8388609
const groupOf = (text: string): IpAddress => (text.includes(':') ? ip6(text) : ip(text))
const host = (n: number): IpAddress => ipv4(0xc0000200 + n)
const wants = (tells: readonly Family[], ...groups: readonly string[]): HostGroups => ({
  vni: VNI,
  tells,
  groups: groups.map(groupOf),
})
const plan = (hosts: readonly HostGroups[], distrust?: string, bounds = GROUP_BOUNDS) =>
  planGroups(new Map(hosts.map((each, n) => [host(n), { ...each, via: 0 }])), distrust, bounds)

/** The hosts that get a frame to a MAC, as VXLAN looks them up. */
function sentTo(destinations: readonly Destination[], to: MacAddress): IpAddress[] {
  const list = destinations.filter(({ mac }) => mac === to)
  return (list.length > 0 ? list : destinations.filter(({ mac }) => mac === EVERY_GROUP)).map(
    ({ address }) => address,
  )
}

test.each([
  ['239.1.2.3', '01:00:5e:01:02:03'],
  ['239.129.2.3', '01:00:5e:01:02:03'],
  ['224.0.0.251', '01:00:5e:00:00:fb'],
  ['ff02::fb', '33:33:00:00:00:fb'],
  ['ff05::1:2:fffe', '33:33:00:02:ff:fe'],
])('frames to %s go to %s', (group, to) => {
  expect(groupMac(groupOf(group))).toBe(hw(to))
})

test.each([
  ['224.0.0.251', true, false],
  ['224.0.1.0', false, true],
  ['239.1.2.3', false, true],
  ['ff02::fb', true, true],
  ['ff12::1', true, true],
  ['ff02::1', true, false],
  ['ff02::1:ff12:3456', true, false],
  ['ff02::1:fe12:3456', true, true],
  ['ff01::fb', false, false],
  ['ff11::fb', false, false],
  ['ff05::1', false, true],
])('%s is link-local: %s, and announced: %s', (group, ofLink, told) => {
  expect([isLinkLocal(groupOf(group)), isTold(groupOf(group))]).toEqual([ofLink, told])
})

test.each([
  ['239.0.0.5', true],
  ['239.128.0.255', true],
  ['239.0.1.0', false],
  ['ff05::1', true],
  ['ff05::2', false],
  ['ff05::ff00:1', true],
])('the MAC of %s is shared with a link-local group that is not announced: %s', (group, shared) => {
  expect(isSharedWithLink(groupMac(groupOf(group)))).toBe(shared)
})

test('a group goes to its members and to hosts that announce nothing, and to no other host', () => {
  const { destinations, families, groups } = plan([
    wants(FAMILIES, '239.1.2.3', 'ff05::77'),
    wants(FAMILIES),
    wants(['IPv6'], 'ff05::77'),
  ])
  expect(sentTo(destinations, hw('01:00:5e:01:02:03')).sort()).toEqual([host(0), host(2)])
  expect(sentTo(destinations, hw('33:33:00:00:00:77'))).toEqual([host(0), host(2)])
  expect(sentTo(destinations, hw('01:00:5e:01:02:04'))).toEqual([host(0), host(1), host(2)])
  expect(families).toEqual({
    IPv4: {
      mode: 'partly',
      why: '1 of 3 hosts do not announce the IPv4 groups that they want',
      wanted: 'all',
    },
    IPv6: { mode: 'selective', why: undefined, wanted: [ip6('ff05::77')] },
  })
  expect(groups).toBe(2)
})

test('if no host announces a group, only link-local groups leave', () => {
  const { families } = plan([wants(FAMILIES)])
  expect(families.IPv4).toEqual({ mode: 'selective', why: undefined, wanted: [] })
})

test('a group that shares its MAC with a link-local group goes to all hosts', () => {
  const { destinations, families } = plan([
    wants(FAMILIES, '239.0.0.251', 'ff05::fb'),
    wants(FAMILIES, 'ff02::fb'),
  ])
  for (const to of ['01:00:5e:00:00:fb', '33:33:00:00:00:fb'])
    expect(sentTo(destinations, hw(to))).toEqual([host(0), host(1)])
  expect(families.IPv4.wanted).toEqual([ip('239.0.0.251')])
  expect(families.IPv6.wanted).toEqual([ip6('ff05::fb')])
})

test('a family with too many groups is flooded, and the other family is not', () => {
  const bounds = { ...GROUP_BOUNDS, macs: 1 }
  const { destinations, families } = plan(
    [wants(FAMILIES, '239.1.2.3', '239.1.2.4', 'ff05::77'), wants(FAMILIES)],
    undefined,
    bounds,
  )
  expect(families.IPv4).toMatchObject({ mode: 'flooding', wanted: 'all' })
  expect(families.IPv4.why).toBe('hosts want more groups than can be told apart: 2 MAC addresses, at most 1')
  expect(families.IPv6.mode).toBe('selective')
  expect(sentTo(destinations, hw('01:00:5e:01:02:03'))).toHaveLength(2)
  expect(sentTo(destinations, hw('33:33:00:00:00:77'))).toEqual([host(0)])
})

test('distrusted entries are ignored: everything is flooded', () => {
  const { destinations, families } = plan([wants(FAMILIES, '239.1.2.3'), wants(FAMILIES)], 'etcd is away')
  expect(destinations).toEqual([host(0), host(1)].map((address) => ({ mac: EVERY_GROUP, address, via: 0 })))
  expect(families.IPv6).toEqual({ mode: 'flooding', why: 'etcd is away', wanted: 'all' })
})

test('the hosts are those with our VNI, each address once, with the groups of all its leases', () => {
  const peer = (key: string, publicIp: IpAddress, multicast?: number) => ({
    key,
    publicIp,
    ...(multicast !== undefined && { multicast }),
  })
  const announced = new Map([
    ['a', wants(FAMILIES, '239.1.2.3')],
    ['b', wants(['IPv4'], '239.1.2.4')],
    ['c', { ...wants(FAMILIES), vni: 7 }],
  ])
  const peers = [
    peer('a', host(0), VNI),
    peer('b', host(0), VNI),
    peer('c', host(1), VNI),
    peer('d', host(2), VNI),
    peer('a', host(3)),
    peer('a', host(4), 7),
  ]
  expect([...hostsOf(peers, VNI, (key) => announced.get(key))]).toEqual([
    [host(0), { ...wants(['IPv4'], '239.1.2.3', '239.1.2.4'), via: 0 }],
    [host(1), { ...wants([]), via: 0 }],
    [host(2), { ...wants([]), via: 0 }],
  ])
})

test('frames for a host go its way, all of them; a host without a way gets none', () => {
  const lease = (key: string, n: number) => ({ key, publicIp: host(n), multicast: VNI })
  const tunnel = (n: number): Way => ({ kind: 'tunnel', link: 9, destination: host(n) })
  const ways = new Map<string, Way>([
    ['inside', tunnel(50)],
    ['twin', tunnel(2)],
    ['gone', { kind: 'none' }],
  ])
  const leases = [
    lease('plain', 0),
    lease('inside', 1),
    lease('first', 2),
    lease('twin', 2),
    lease('gone', 3),
  ]
  const hosts = hostsOf(
    leases,
    VNI,
    () => wants(FAMILIES, '239.1.2.3'),
    ({ key }) => ways.get(key) ?? { kind: 'clear' },
  )
  const to = (mac: MacAddress) => [
    { mac, address: host(0), via: 0 },
    { mac, address: host(50), via: 9 },
    { mac, address: host(2), via: 9 },
  ]
  const { destinations } = planGroups(hosts, undefined)
  expect(destinations).toEqual([...to(EVERY_GROUP), ...to(groupMac(ip('239.1.2.3')))])
})

describe('for any announcements', () => {
  const group = fc.oneof(
    fc.integer({ min: 0, max: 600 }).map((n) => ipv4(0xef000000 + n)),
    fc.integer({ min: 0, max: 15 }).map((n) => ipv4(0xe0000000 + n * 2 ** 23 + 0x10203)),
    fc.constantFrom(...['ff02::fb', 'ff05::fb', 'ff05::77', 'ff0e::77', 'ff05::1', 'ff05::ff00:7'].map(ip6)),
  )
  const some = fc
    .array(fc.record({ tells: fc.subarray([...FAMILIES]), groups: fc.array(group, { maxLength: 8 }) }), {
      maxLength: 6,
    })
    .map((hosts) => hosts.map((each): HostGroups => ({ vni: VNI, ...each })))
  const others = (found: readonly HostGroups[], family: Family) =>
    found.flatMap(({ tells }, n) => (tells.includes(family) ? [] : [host(n)]))

  test('members get each packet once, link-local goes to all hosts, and no host gets too much', () => {
    fc.assert(
      fc.property(some, group, (hosts, sent) => {
        const { destinations, families } = plan(hosts)
        const family = familyOf(sent)
        const { wanted } = families[family]
        const leaves = wanted === 'all' || isLinkLocal(sent) || wanted.includes(sent)
        const got = leaves ? sentTo(destinations, groupMac(sent)) : []
        expect(new Set(got).size).toBe(got.length)
        const said = hosts.map((each) => each.groups.filter((one) => each.tells.includes(familyOf(one))))
        const members = said.flatMap((groups, n) => (groups.includes(sent) ? [host(n)] : []))
        for (const each of [...members, ...others(hosts, family)]) expect(got).toContain(each)
        // IPv6 groups only if somebody has joined them: nobody receives packets of the others.
        const isInUse = typeof sent === 'number' || members.length > 0
        if (isLinkLocal(sent) && isInUse) expect(got).toHaveLength(hosts.length)
        const sharing = said.map((groups) => groups.filter((one) => groupMac(one) === groupMac(sent)))
        const hasToFlood =
          isLinkLocal(sent) || isSharedWithLink(groupMac(sent)) || sharing.flat().some(isLinkLocal)
        if (others(hosts, family).length === 0 && !hasToFlood) {
          const due = sharing.flatMap((groups, n) =>
            groups.length > 0 && members.length > 0 ? [host(n)] : [],
          )
          expect([...got].sort()).toEqual(due)
        }
      }),
    )
  })

  test('during a change no host misses a group that it got before and gets after it', () => {
    fc.assert(
      fc.property(some, some, group, (before, after, sent) => {
        const [from, to] = [plan(before).destinations, plan(after).destinations]
        const frames = groupMac(sent)
        const both = sentTo(from, frames).filter((each) => sentTo(to, frames).includes(each))
        const { additions, removals } = diffDestinations(7, to, from, false)
        let there = [...from]
        // A new list is made host by host, and counts once it is complete.
        const isNew = !from.some(({ mac }) => mac === frames)
        for (const operation of [...additions, ...removals]) {
          if (operation.kind === 'add-destination') there.push(operation.destination)
          else if (operation.kind === 'delete-destinations')
            there = there.filter(({ mac }) => mac !== operation.mac)
          else if (operation.kind === 'delete-destination')
            there = there.filter(
              ({ mac, address }) =>
                mac !== operation.destination.mac || address !== operation.destination.address,
            )
          const isListing =
            isNew && operation.kind === 'add-destination' && operation.destination.mac === frames
          if (!isListing) for (const each of both) expect(sentTo(there, frames)).toContain(each)
        }
        const word = ({ mac, address }: Destination): string => `${mac} ${address}`
        expect(there.map(word).sort()).toEqual(to.map(word).sort())
      }),
    )
  })
})
