import fc from 'fast-check'
import {
  formatPrefix,
  ipv4,
  networkOf,
  type Prefix,
  parseIpv4Prefix,
  parseIpv6Prefix,
  prefixContains,
  prefixesOverlap,
} from '../../../../src/model/address'
import { type DockerNetwork, networkOptions } from '../../../../src/model/docker'
import { createCommand, createRequest, planNetwork } from '../../../../src/plan/host/docker-network'

const four = (text: string) => parseIpv4Prefix(text) ?? networkOf(ipv4(0), 0)
const network = (name: string, ...subnets: readonly Prefix[]): DockerNetwork => ({
  name,
  bridge: `br-${name}`,
  subnets,
  mtu: 1450,
  masquerades: false,
  isInternal: false,
})
const request = {
  name: 'web',
  subnet: four('10.5.7.1/24'),
  subnet6: undefined,
  options: networkOptions(1450, true),
}
const ELSEWHERE = network('bridge', four('172.17.0.0/16'))
const DOCKER0 = network('bridge', four('10.5.7.0/27'))

const OPTIONS =
  '-o com.docker.network.driver.mtu=1450 -o com.docker.network.bridge.enable_ip_masquerade=false web'

test.each([
  ['docker0 elsewhere', request, [ELSEWHERE], '10.5.7.0/24', '10.5.7.1'],
  ['docker0 on a part', request, [DOCKER0], '10.5.7.32/27', '10.5.7.33'],
  ['parts in between', request, [DOCKER0, network('a', four('10.5.7.64/26'))], '10.5.7.32/27', '10.5.7.33'],
  [
    'parts of another length',
    { ...request, length: 26 },
    [DOCKER0, network('a', four('10.5.7.80/28'))],
    '10.5.7.128/26',
    '10.5.7.129',
  ],
  ['the wanted part', { ...request, part: four('10.5.7.200/29') }, [DOCKER0], '10.5.7.200/29', '10.5.7.201'],
])('%s', (_, wanted, present, subnet, gateway) => {
  const { value } = planNetwork(wanted, present)
  expect(value && createCommand(value).join(' ')).toBe(
    `docker network create --driver=bridge --subnet=${subnet} --gateway=${gateway} ${OPTIONS}`,
  )
})

describe('of a host with further subnets', () => {
  const more = { ...request, further: [four('10.5.243.0/26'), four('10.5.244.0/22')] }
  const FULL = network('bridge', four('10.5.7.0/24'))
  const subnetOf = (wanted: Parameters<typeof planNetwork>[0], ...present: readonly DockerNetwork[]) => {
    const { value, problem } = planNetwork(wanted, present)
    return value === undefined ? problem?.text : value.parts.map(formatPrefix).join()
  }

  test('they have the network where the subnet has no part left', () => {
    expect(subnetOf({ ...more, length: 27 }, DOCKER0)).toBe('10.5.7.32/27')
    expect(subnetOf({ ...more, length: 27 }, FULL)).toBe('10.5.243.0/27')
    expect(subnetOf(more, FULL)).toBe('10.5.244.0/24')
    expect(subnetOf(more, FULL, network('a', four('10.5.244.0/22')))).toMatch(
      /^all of 10\.5\.7\.0\/24 is taken/,
    )
  })

  test('they have the part that is asked for, also a larger one than the subnet', () => {
    expect(subnetOf({ ...more, length: 22 }, DOCKER0)).toBe('10.5.244.0/22')
    expect(subnetOf({ ...more, part: four('10.5.243.32/28') }, DOCKER0)).toBe('10.5.243.32/28')
    expect(
      subnetOf({ ...more, part: four('10.5.243.32/28') }, DOCKER0, network('a', four('10.5.243.0/26'))),
    ).toBe('10.5.243.32/28 overlaps 10.5.243.0/26 of the network a')
    expect(subnetOf({ ...more, part: four('10.5.242.0/24') })).toMatch(/is not in this host's subnet/)
    expect(subnetOf({ ...more, length: 21 })).toMatch(/^a part of \/21 does not fit/)
  })

  test('IPv6 has its own', () => {
    const six = parseIpv6Prefix('fd00:5:0:7::1/64')
    const further = [four('10.5.243.0/24'), parseIpv6Prefix('fd00:5:0:8007::/64') ?? four('0.0.0.0/0')]
    const full6 = network('bridge', four('10.5.7.0/24'), six ?? four('0.0.0.0/0'))
    expect(subnetOf({ ...request, subnet6: six, further }, full6)).toBe('10.5.243.0/24,fd00:5:0:8007::/64')
  })
})

test('with IPv6 the network has a part of both', () => {
  const present = network(
    'bridge',
    four('10.5.7.0/27'),
    parseIpv6Prefix('fd00:5:0:7::/67') ?? four('0.0.0.0/0'),
  )
  const { value } = planNetwork({ ...request, subnet6: parseIpv6Prefix('fd00:5:0:7::1/64') }, [present])
  if (value === undefined) throw new Error('there is room')
  expect(createCommand(value).join(' ')).toContain(
    '--ipv6 --subnet=10.5.7.32/27 --gateway=10.5.7.33 ' +
      '--subnet=fd00:5:0:7:2000::/67 --gateway=fd00:5:0:7:2000::1 -o',
  )
  expect(createRequest(value)).toMatchObject({
    Name: 'web',
    EnableIPv6: true,
    IPAM: {
      Config: [
        { Subnet: '10.5.7.32/27', Gateway: '10.5.7.33' },
        { Subnet: 'fd00:5:0:7:2000::/67', Gateway: 'fd00:5:0:7:2000::1' },
      ],
    },
    Options: { 'com.docker.network.driver.mtu': '1450' },
  })
})

test.each([
  ['a subnet that is all docker0’s', request, [network('bridge', four('10.5.7.0/24'))], /DOCKER_NETWORKS/],
  [
    'a subnet below a larger network',
    request,
    [network('big', four('10.5.0.0/16'))],
    /taken by the network big/,
  ],
  [
    'no free part',
    { ...request, length: 25 },
    [DOCKER0, network('a', four('10.5.7.128/28'))],
    /no part of \/25/,
  ],
  [
    'a taken part',
    { ...request, part: four('10.5.7.16/28') },
    [DOCKER0],
    /overlaps 10.5.7.0\/27 of the network/,
  ],
  ['a part elsewhere', { ...request, part: four('10.5.8.0/27') }, [DOCKER0], /not in this host's subnet/],
  ['too large a part', { ...request, length: 20 }, [DOCKER0], /from \/24 to \/30/],
  ['too small a part', { ...request, length: 31 }, [DOCKER0], /from \/24 to \/30/],
  ['a name with a shell’s signs', { ...request, name: 'a;id' }, [DOCKER0], /no name/],
])('%s: refused', (_, wanted, present, words) => {
  expect(planNetwork(wanted, present).problem?.text).toMatch(words)
})

test('for any networks the part is a free one, and none is only said where none is', () => {
  const part = fc
    .tuple(fc.nat(255), fc.integer({ min: 25, max: 30 }))
    .map(([offset, length]) => networkOf(ipv4(four('10.5.7.0/24').address + offset), length))
  fc.assert(
    fc.property(fc.array(part, { maxLength: 12 }), fc.integer({ min: 25, max: 30 }), (parts, length) => {
      const present = parts.map((each, index) => network(`n${index}`, each))
      const { ok, value } = planNetwork({ ...request, length }, present)
      const blocks = Array.from({ length: 1 << (length - 24) }, (_, index) =>
        networkOf(ipv4(four('10.5.7.0/24').address + (index << (32 - length))), length),
      )
      const free = blocks.find((block) => !parts.some((each) => prefixesOverlap(each, block)))
      expect(ok).toBe(free !== undefined)
      expect(value?.parts.map(formatPrefix)).toEqual(free && [formatPrefix(free)])
      if (value !== undefined)
        for (const each of value.parts) expect(prefixContains(request.subnet, each.address)).toBe(true)
    }),
  )
})
