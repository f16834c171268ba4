import fc from 'fast-check'
import {
  formatPrefix,
  ipv4,
  networkOf,
  type Prefix,
  parseIpPrefix,
  prefixContains,
  prefixesOverlap,
} from '../../../../src/model/address'
import {
  cniList,
  type EngineNetworkRequest,
  planEngineNetwork,
  podmanNetwork,
  readHostSubnets,
} from '../../../../src/plan/host/engine-network'
import type { TakenPart } from '../../../../src/plan/host/free-part'

const ENV = { FLANNEL_SUBNET: '10.5.7.1/24', FLANNEL_MTU: '1450', FLANNEL_IPMASQ: 'true' }
const SIX = { ...ENV, FLANNEL_IPV6_SUBNET: 'fd00:5:0:7::1/64' }

function prefix(text: string): Prefix {
  const found = parseIpPrefix(text)
  if (found === undefined) throw new Error(text)
  return found
}
const taken = (...texts: readonly string[]): TakenPart[] =>
  texts.map((text) => ({ name: `the network of ${text}`, prefix: prefix(text), room: 'make room' }))
const request: EngineNetworkRequest = {
  engine: 'cni',
  name: 'overlay',
  parts: [],
  length: undefined,
  former: [],
}

function plan(
  changes: Partial<EngineNetworkRequest> = {},
  others: readonly TakenPart[] = [],
  env: Readonly<Record<string, string>> = ENV,
) {
  const host = readHostSubnets(env, 'cni')
  if (!host.ok) throw new Error(host.problem.text)
  return planEngineNetwork({ ...request, ...changes }, host.value, others)
}
const partsOf = (...args: Parameters<typeof plan>) =>
  plan(...args)
    .value?.parts.map(formatPrefix)
    .join(' ')

test.each<[string, Parameters<typeof plan>, string]>([
  ['a host without Docker', [], '10.5.7.0/24'],
  ['a host without Docker, with IPv6', [{}, [], SIX], '10.5.7.0/24 fd00:5:0:7::/64'],
  ['Docker elsewhere', [{}, taken('172.17.0.0/16')], '10.5.7.0/24'],
  ['docker0 on a part', [{}, taken('10.5.7.0/27')], '10.5.7.224/27'],
  ['the last part taken', [{}, taken('10.5.7.0/27', '10.5.7.240/28')], '10.5.7.192/27'],
  ['a part of a wanted length', [{ length: 28 }, taken('10.5.7.0/27')], '10.5.7.240/28'],
  ['a part of IPv6 too', [{}, taken('10.5.7.0/27'), SIX], '10.5.7.224/27 fd00:5:0:7:e000::/67'],
  ['a wanted part', [{ parts: [prefix('10.5.7.64/28')] }, taken('10.5.7.0/27')], '10.5.7.64/28'],
  ['the former part', [{ former: [prefix('10.5.7.96/27')] }, taken('10.5.7.0/27')], '10.5.7.96/27'],
  [
    'a former part that Docker took',
    [{ former: [prefix('10.5.7.0/27')] }, taken('10.5.7.0/27')],
    '10.5.7.224/27',
  ],
  ['a former part of another lease', [{ former: [prefix('10.5.9.96/27')] }], '10.5.7.224/27'],
  ['another length than before', [{ former: [prefix('10.5.7.0/24')], length: 27 }], '10.5.7.224/27'],
])('%s', (_, args, parts) => {
  expect(partsOf(...args)).toBe(parts)
})

describe('of a host with further subnets', () => {
  const planOn = (changes: Partial<EngineNetworkRequest>, others: readonly TakenPart[] = [], env = ENV) => {
    const host = readHostSubnets(env, 'cni')
    if (!host.ok) throw new Error(host.problem.text)
    const further = ['10.5.250.0/26', '10.5.244.0/22', 'fd00:5:0:f000::/64', 'fd00:5:0:e000::/60'].map(prefix)
    return planEngineNetwork({ ...request, ...changes }, { ...host.value, further }, others)
  }
  const part = (...texts: readonly string[]) => ({ parts: texts.map(prefix) })
  const former = (...texts: readonly string[]) => ({ former: texts.map(prefix) })

  test.each<[string, Parameters<typeof planOn>, string]>([
    ['the leased one, unless another one is asked for', [{}], '10.5.7.0/24'],
    ['a whole further one', [part('10.5.250.0/26')], '10.5.250.0/26'],
    ['a part of a further one', [part('10.5.250.32/27')], '10.5.250.32/27'],
    [
      'one that is larger than the leased one',
      [part('10.5.244.0/22'), [], SIX],
      '10.5.244.0/22 fd00:5:0:7::/64',
    ],
    ['a former part of a further one', [former('10.5.250.32/27')], '10.5.250.32/27'],
    [
      'a former part of a further one that Docker took',
      [former('10.5.250.32/27'), taken('10.5.250.32/27')],
      '10.5.250.0/27',
    ],
    [
      'further ones of both families',
      [part('fd00:5:0:f000::/64', '10.5.250.0/26'), [], SIX],
      '10.5.250.0/26 fd00:5:0:f000::/64',
    ],
    [
      'a part of a further one of IPv6 alone',
      [part('fd00:5:0:e008::/64'), [], SIX],
      '10.5.7.0/24 fd00:5:0:e008::/64',
    ],
    [
      'former parts of further ones of both families',
      [former('10.5.250.0/26', 'fd00:5:0:e008::/64'), [], SIX],
      '10.5.250.0/26 fd00:5:0:e008::/64',
    ],
    [
      'a former part of IPv6, and another one of IPv4',
      [{ ...former('10.5.7.0/24', 'fd00:5:0:e008::/64'), ...part('10.5.250.0/26') }, [], SIX],
      '10.5.250.0/26 fd00:5:0:e008::/64',
    ],
    [
      'a former part of IPv6 that is the host’s no more',
      [former('10.5.250.0/26', 'fd00:5:0:d000::/64'), [], SIX],
      '10.5.250.0/26 fd00:5:0:7:c000::/66',
    ],
    [
      'another size on a further one of IPv6',
      [{ ...former('10.5.7.0/24', 'fd00:5:0:e008::/64'), length: 25 }, [], SIX],
      '10.5.7.128/25 fd00:5:0:e008::/61',
    ],
    ['a former part of one that is the host’s no more', [former('10.5.249.0/26')], '10.5.7.192/26'],
  ])('%s', (_, args, parts) => {
    expect(
      planOn(...args)
        .value?.parts.map(formatPrefix)
        .join(' '),
    ).toBe(parts)
  })

  test.each<[Parameters<typeof planOn>, RegExp]>([
    [[part('10.5.251.0/27')], /10.5.251.0\/27 is not in this host's subnet 10.5.7.0\/24/],
    [[part('10.5.250.0/25')], /from \/26 to \/30/],
    [[part('10.5.251.0/27')], /nor in a further one: 10.5.250.0\/26, 10.5.244.0\/22$/],
    [
      [part('fd00:5:0:d000::/64'), [], SIX],
      /fd00:5:0:d000::\/64 is not in .* fd00:5:0:7::\/64, nor .*: fd00:5:0:f000::\/64, fd00:5:0:e000::\/60$/,
    ],
    [[part('fd00:5:0:f000::/60'), [], SIX], /fd00:5:0:f000::\/64 has parts from \/64 to \/126/],
    [[part('fd00:5:0:f000::/127'), [], SIX], /from \/64 to \/126/],
    [
      [part('fd00:5:0:f000::/65'), taken('fd00:5:0:f000::/64'), SIX],
      /overlaps fd00:5:0:f000::\/64 of the network/,
    ],
    [[part('10.5.250.32/27'), taken('10.5.250.0/26')], /overlaps 10.5.250.0\/26/],
  ])('%j: refused', (args, words) => {
    expect(planOn(...args).problem?.text).toMatch(words)
  })
})

test.each<[string, Parameters<typeof plan>, RegExp]>([
  [
    'a subnet that is all docker0’s',
    [{}, taken('10.5.7.0/24')],
    /taken by the network of 10.5.7.0\/24; make room/,
  ],
  ['a taken part', [{ parts: [prefix('10.5.7.16/28')] }, taken('10.5.7.0/27')], /overlaps 10.5.7.0\/27/],
  ['a part elsewhere', [{ parts: [prefix('10.5.8.0/27')] }], /not in this host's subnet/],
  [
    'a part of IPv6 on a host without it',
    [{ parts: [prefix('fd00:5:0:7::/66')] }],
    /fd00:5:0:7::\/66 is IPv6, and this host has no IPv6 subnet/,
  ],
  ['too small a part', [{ length: 31 }], /from \/24 to \/30/],
  ['too large a part', [{ length: 16 }], /from \/24 to \/30/],
  ['no room for IPv6', [{ length: 30 }, [], { ...SIX, FLANNEL_IPV6_SUBNET: 'fd00::1/124' }], /no room/],
  ['a name that is a path', [{ name: '../x' }], /no name/],
])('%s: refused', (_, args, words) => {
  expect(plan(...args).problem?.text).toMatch(words)
})

test.each([
  [{ ...ENV, FLANNEL_SUBNET: '10.5.7.1' }, /FLANNEL_SUBNET is "10.5.7.1"/],
  [{ FLANNEL_MTU: '1450' }, /no FLANNEL_SUBNET/],
  [{ ...ENV, FLANNEL_MTU: '66000' }, /FLANNEL_MTU is "66000"/],
  [{ ...ENV, FLANNEL_IPMASQ: 'maybe' }, /FLANNEL_IPMASQ is "maybe"/],
  [{ ...ENV, FLANNEL_IPV6_SUBNET: 'x' }, /FLANNEL_IPV6_SUBNET is "x"/],
])('subnet.env with %j: refused', (env, words) => {
  expect(readHostSubnets(env, 'podman').problem).toMatchObject({
    code: 'podman-network',
    text: expect.stringMatching(words),
  })
})

test('the list of CNI plugins', () => {
  const { value } = plan({}, taken('10.5.7.0/27'), SIX)
  expect(value && cniList(value)).toEqual({
    cniVersion: '1.0.0',
    name: 'overlay',
    overlayd: 'overlayctl cni',
    plugins: [
      {
        type: 'bridge',
        bridge: 'cni-0a0507e0',
        isGateway: true,
        ipMasq: false,
        hairpinMode: true,
        mtu: 1450,
        ipam: {
          type: 'host-local',
          ranges: [
            [{ subnet: '10.5.7.224/27', gateway: '10.5.7.225' }],
            [{ subnet: 'fd00:5:0:7:e000::/67', gateway: 'fd00:5:0:7:e000::1' }],
          ],
          routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
        },
      },
      { type: 'portmap', capabilities: { portMappings: true } },
    ],
  })
})

test('the network of Podman', () => {
  const { value } = plan({ engine: 'podman', name: 'web' })
  expect(value && podmanNetwork(value)).toMatchObject({
    name: 'web',
    id: expect.stringMatching(/^[0-9a-f]{64}$/),
    driver: 'bridge',
    network_interface: 'pod-0a050700',
    subnets: [{ subnet: '10.5.7.0/24', gateway: '10.5.7.1' }],
    ipv6_enabled: false,
    options: { mtu: '1450' },
  })
})

test('for any networks the parts are free ones in the lease, and none is only said where none is', () => {
  const base = ipv4((10 << 24) + (5 << 16) + (7 << 8))
  const part = fc
    .tuple(fc.nat(255), fc.integer({ min: 25, max: 30 }))
    .map(([offset, length]) => networkOf(ipv4(base + offset), length))
  fc.assert(
    fc.property(
      fc.array(part, { maxLength: 12 }),
      fc.array(part, { maxLength: 1 }),
      fc.integer({ min: 25, max: 30 }),
      (parts, former, length) => {
        const blocks = Array.from({ length: 1 << (length - 24) }, (_, index) =>
          networkOf(ipv4(base + (index << (32 - length))), length),
        )
        const free = blocks.filter((block) => !parts.some((each) => prefixesOverlap(each, block)))
        const { ok, value } = plan({ length, former }, taken(...parts.map(formatPrefix)))
        expect(ok).toBe(free.length > 0)
        if (value === undefined) return
        const [chosen] = value.parts
        const kept = free.find((each) => former.some((had) => formatPrefix(had) === formatPrefix(each)))
        expect(chosen && formatPrefix(chosen)).toBe(formatPrefix(kept ?? free.at(-1) ?? prefix('0.0.0.0/0')))
        expect(chosen && prefixContains(prefix('10.5.7.0/24'), chosen.address)).toBe(true)
      },
    ),
  )
})
