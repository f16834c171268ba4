import fc from 'fast-check'
import { type IpAddress, type Prefix, parseIp } from '../../../../src/model/address'
import type { AddressSet, Condition, Rule, RuleChain } from '../../../../src/model/kernel/tables'
import { EVERY_GROUP } from '../../../../src/model/multicast'
import { bridgesOf, diffDestinations, multicastLink } from '../../../../src/plan/multicast/multicast'
import { bridgesInChains, frameTable, readOutChainName } from '../../../../src/plan/multicast/rules'
import { multicastLinkName } from '../../../../src/plan/reconcile/desired'
import { hw, ip, ip6, net, net6 } from '../support'

const bytesOf = (text: string): number[] =>
  text.includes(':')
    ? (ip6(text).toString(16).padStart(32, '0').match(/../g) ?? []).map((byte) => Number.parseInt(byte, 16))
    : text.split('.').map(Number)

interface Frame {
  readonly mac?: string
  readonly from: string
  readonly to: string
  readonly protocol: number
  readonly payload?: readonly number[]
}

/** The bytes of a frame's headers. */
function headers({ mac = '01:00:5e:01:02:03', from, to, protocol, payload = [] }: Frame) {
  const link = mac.split(':').map((byte) => Number.parseInt(byte, 16))
  const network = to.includes(':')
    ? [0x60, 0, 0, 0, 0, payload.length, protocol, 1, ...bytesOf(from), ...bytesOf(to), ...payload]
    : [0x45, 0, 0, 20, 0, 0, 0, 0, 1, protocol, 0, 0, ...bytesOf(from), ...bytesOf(to), ...payload]
  return { link, network }
}

/** The number of rules whose conditions a frame meets. */
function meets(rules: readonly Rule[], frame: Frame, sets: readonly AddressSet[] = []): number {
  const bytes = headers(frame)
  const holds = (condition: Condition): boolean => {
    if ('fact' in condition || !(condition.header === 'link' || condition.header === 'network'))
      throw new Error('a condition that no rule for frames has')
    const { header, at, value, mask, not } = condition
    const same = value.every((byte, i) => ((bytes[header][at + i] ?? -1) & (mask?.[i] ?? 0xff)) === byte)
    return same !== (not === true)
  }
  const family = frame.to.includes(':') ? 'IPv6' : 'IPv4'
  const to = parseIp(frame.to)
  const isIn = (name: string | undefined): boolean =>
    name === undefined || sets.some((set) => set.name === name && set.addresses.some((each) => each === to))
  return rules.filter((rule) => rule.family === family && rule.conditions.every(holds) && isIn(rule.to))
    .length
}

const networks: Prefix[] = [net('10.5.0.0/16'), net6('fd00:5::/48')]
const bridges = [
  { name: 'docker0', index: 4, routerBefore: 1 },
  { name: 'br-1.2', index: 9, routerBefore: undefined },
]
const table = frameTable({ name: 'fl-mc.1', index: 7 }, networks, bridges)
const rulesOf = (link: string): readonly Rule[] =>
  table.chains.find((chain) => chain.link === link)?.rules ?? []

const UDP = 17
const passing: Frame[] = [
  { from: '10.5.7.2', to: '239.1.2.3', protocol: UDP },
  { from: '10.5.7.2', to: '224.0.0.251', protocol: UDP },
  { from: '10.5.7.2', to: '224.0.0.18', protocol: 112 },
  { from: '10.5.7.2', to: '239.1.2.3', protocol: 1, payload: [8] },
  { from: 'fe80::1', to: 'ff02::fb', protocol: UDP },
  { from: 'fd00:5:0:7::2', to: 'ff05::77', protocol: UDP },
  { from: 'fd00:5:0:7::2', to: 'ff05::77', protocol: 44 },
  { from: 'fd00:5:0:7::2', to: 'ff02::1', protocol: 58, payload: [128] },
  { from: 'fd00:5:0:7::2', to: 'ff02::1', protocol: 58, payload: [129] },
]
const local: Frame[] = [
  { from: '10.5.7.2', to: '224.0.0.22', protocol: 2 },
  { from: '10.5.7.2', to: '10.5.9.2', protocol: UDP },
  { from: '10.5.7.2', to: '255.255.255.255', protocol: UDP, mac: 'ff:ff:ff:ff:ff:ff' },
  { from: '10.5.7.2', to: '239.1.2.3', protocol: UDP, mac: '02:00:00:00:00:01' },
  { from: 'fe80::1', to: 'ff02::16', protocol: 0, payload: [58, 0, 5, 2, 0, 0, 1, 0, 143] },
  ...[130, 131, 132, 133, 134, 135, 136, 137, 143, 141, 142].map((type) => {
    return { from: 'fe80::1', to: 'ff02::1', protocol: 58, payload: [type] }
  }),
  { from: 'fe80::1', to: 'ff02::1', protocol: 60, payload: [58] },
  { from: 'fe80::1', to: 'ff01::fb', protocol: UDP },
  { from: 'fe80::1', to: 'ff11::fb', protocol: UDP },
  { from: 'fe80::1', to: 'ff02::1', protocol: 43, payload: [58] },
]

test.each(passing)('%j is sent to other hosts and accepted from them, by one rule each', (frame) => {
  expect([meets(rulesOf('docker0'), frame), meets(rulesOf('fl-mc.1'), frame)]).toEqual([1, 1])
})

test.each(local)('%j stays on its host, and is not accepted from others', (frame) => {
  expect([meets(rulesOf('docker0'), frame), meets(rulesOf('fl-mc.1'), frame)]).toEqual([0, 0])
})

test.each(['10.6.7.2', '192.168.77.1', '0.0.0.0'])('a frame from %s is not accepted', (from) => {
  expect(meets(rulesOf('fl-mc.1'), { from, to: '239.1.2.3', protocol: UDP })).toBe(0)
})

test.each(['fd00:6::1', '::', '2001:db8::1'])('a frame from the IPv6 address %s is not accepted', (from) => {
  expect(meets(rulesOf('fl-mc.1'), { from, to: 'ff05::77', protocol: UDP })).toBe(0)
})

test('a source is matched by its network, for any prefix length', () => {
  const frame = fc.record({
    length: fc.integer({ min: 0, max: 32 }),
    network: fc.integer({ min: 0, max: 0xffffffff }),
    source: fc.integer({ min: 0, max: 0xffffffff }),
  })
  fc.assert(
    fc.property(frame, ({ length, network, source }) => {
      const mask = length === 0 ? 0 : (0xffffffff << (32 - length)) >>> 0
      const dotted = (bits: number) => [24, 16, 8, 0].map((shift) => (bits >>> shift) & 255).join('.')
      const prefix = net(`${dotted((network & mask) >>> 0)}/${length}`)
      const { chains } = frameTable({ name: 'fl-mc.1', index: 7 }, [prefix], bridges)
      const rules = chains.find(({ link }) => link === 'fl-mc.1')?.rules ?? []
      const inside = (source & mask) >>> 0 === (network & mask) >>> 0
      const sent = { from: dotted(source), to: '239.1.2.3', protocol: UDP }
      expect(meets(rules, sent)).toBe(inside ? 1 : 0)
    }),
  )
})

test('frames from bridges are copied and go on; those from other hosts go to each bridge once', () => {
  for (const { copyTo, moveTo } of rulesOf('docker0')) expect([copyTo, moveTo]).toEqual([[7], undefined])
  for (const { copyTo, moveTo } of rulesOf('fl-mc.1')) expect([copyTo, moveTo]).toEqual([[9], 4])
  expect(table.chains.map(({ link, policy }) => [link, policy])).toEqual([
    ['docker0', 'accept'],
    ['br-1.2', 'accept'],
    ['fl-mc.1', 'drop'],
  ])
  const idle = frameTable({ name: 'fl-mc.1', index: 7 }, networks, [])
  expect(idle.chains).toEqual([{ name: 'in', link: 'fl-mc.1', policy: 'drop', rules: [] }])
})

test('a limit is one chain for all bridges; frames above it are counted and stay on this host', () => {
  const limited = frameTable({ name: 'fl-mc.1', index: 7 }, networks, bridges, 50)
  const [limit, ...others] = limited.chains
  expect(limit).toEqual({
    name: 'limit',
    policy: 'return',
    rules: [
      { conditions: [], limit: 50, copyTo: [7], verdict: 'return' },
      { conditions: [], counted: true, copyTo: [] },
    ],
  })
  const toLimit = (chain: RuleChain): RuleChain => ({
    ...chain,
    rules: chain.rules.map((rule) => ({ ...rule, copyTo: [], verdict: { jump: 'limit' } })),
  })
  expect(others).toEqual(
    table.chains.map((chain) => (chain.name.startsWith('out-') ? toLimit(chain) : chain)),
  )
  expect(bridgesInChains(limited.chains.map(({ name }) => name))).toHaveLength(2)
})

test("a chain's name contains its bridge and the former mcast_router", () => {
  const names = table.chains.map(({ name }) => readOutChainName(name))
  expect(names).toEqual([
    { bridge: 'docker0', routerBefore: 1 },
    { bridge: 'br-1.2', routerBefore: undefined },
    undefined,
  ])
  expect(readOutChainName('out-3-docker0')).toBeUndefined()
})

test('the multicast device has a name, a MAC and a VNI of its own', () => {
  const link = {
    name: 'flannel.1',
    mac: hw('02:00:00:00:00:01'),
    mtu: 1450,
    vni: 1,
    port: undefined,
    local: ip('192.168.77.11'),
    parent: 2,
    learning: true,
    gbp: false,
  }
  expect(multicastLink(link, 8388609)).toEqual({
    ...link,
    name: 'fl-mc.1',
    mac: hw('02:00:00:00:00:00'),
    vni: 8388609,
    learning: false,
  })
  expect(multicastLinkName(0xffffff).length).toBeLessThanOrEqual(15)
})

test('a bridge is recognised by an address in our subnets', () => {
  const address = (linkIndex: number, text: string) => ({
    linkIndex,
    address: { address: parseIp(text) ?? ip('0.0.0.0'), length: 24 },
    scope: 'global' as const,
  })
  const there = [{ index: 9 }, { index: 4 }, { index: 5 }]
  const addresses = [
    address(4, '10.5.7.1'),
    address(5, '10.5.8.1'),
    address(6, '10.5.7.9'),
    address(9, 'fd00:5:0:7::1'),
  ]
  expect(bridgesOf(there, addresses, [net('10.5.7.0/24')])).toEqual([{ index: 4 }])
  expect(bridgesOf(there, addresses, [net('10.5.7.0/24'), net6('fd00:5:0:7::/64')])).toEqual([
    { index: 4 },
    { index: 9 },
  ])
})

test('destinations are added before others are removed, and kept while knowledge may be old', () => {
  const [one, two] = [ip('192.0.2.1'), ip('192.0.2.2')]
  const toAll = (...addresses: readonly IpAddress[]) =>
    addresses.map((address) => ({ mac: EVERY_GROUP, address, via: 0 }))
  const change = (keep: boolean) => diffDestinations(7, toAll(one), toAll(two), keep)
  const additions = [
    { kind: 'add-destination', link: 7, destination: { mac: EVERY_GROUP, address: one, via: 0 } },
  ]
  expect(change(false)).toEqual({
    additions,
    removals: [
      { kind: 'delete-destination', link: 7, destination: { mac: EVERY_GROUP, address: two, via: 0 } },
    ],
  })
  expect(change(true)).toEqual({ additions, removals: [] })
  expect(diffDestinations(7, toAll(one, two), toAll(two, one), false)).toEqual({
    additions: [],
    removals: [],
  })
})

test.each([true, false])(
  'a host that is sent to in another way is added before the old way goes (keep: %s)',
  (keep) => {
    const by = (via: number) => ({ mac: EVERY_GROUP, address: ip('192.0.2.1'), via })
    expect(diffDestinations(7, [by(9)], [by(0)], keep)).toEqual({
      additions: [{ kind: 'add-destination', link: 7, destination: by(9) }],
      removals: [{ kind: 'delete-destination', link: 7, destination: by(0) }],
    })
  },
)

test('the list of a MAC that is flooded from now on is removed at once, not host by host', () => {
  const group = hw('01:00:5e:01:02:03')
  const [one, two] = [ip('192.0.2.1'), ip('192.0.2.2')]
  const observed = [one, two].map((address) => ({ mac: group, address, via: 0 }))
  const everyone = [one, two].map((address) => ({ mac: EVERY_GROUP, address, via: 0 }))
  for (const keep of [true, false]) {
    const { additions, removals } = diffDestinations(7, everyone, observed, keep)
    expect(additions.map(({ kind }) => kind)).toEqual(['add-destination', 'add-destination'])
    expect(removals).toEqual([{ kind: 'delete-destinations', link: 7, mac: group }])
  }
  // A list that stays loses one host.
  const fewer = diffDestinations(7, [{ mac: group, address: one, via: 0 }], observed, false)
  expect(fewer.removals).toEqual([
    { kind: 'delete-destination', link: 7, destination: { mac: group, address: two, via: 0 } },
  ])
})

describe('if all hosts announce their groups', () => {
  const plans = { IPv4: { wanted: [ip('239.1.2.3')] }, IPv6: { wanted: [ip6('ff05::77')] } }
  const selective = frameTable({ name: 'fl-mc.1', index: 7 }, networks, bridges, undefined, plans)
  const out = selective.chains.find(({ link }) => link === 'docker0')?.rules ?? []

  test.each(passing)('%j is sent by one rule if its group is wanted or link-local, else by none', (frame) => {
    const isOfLink = frame.to.startsWith('224.0.0.') || frame.to.startsWith('ff02:')
    const isWanted = ['239.1.2.3', 'ff05::77'].includes(frame.to)
    expect(meets(out, frame, selective.sets)).toBe(isOfLink || isWanted ? 1 : 0)
    expect(
      meets(out, { ...frame, to: frame.to.includes(':') ? 'ff05::78' : '239.1.2.4' }, selective.sets),
    ).toBe(0)
  })

  test.each(local)('%j stays on its host', (frame) => {
    expect(meets(out, frame, selective.sets)).toBe(0)
  })
})
