import {
  formatIp,
  type IpAddress,
  type Prefix,
  parseIp,
  parseIpv4,
  parseIpv6,
} from '../../../../src/model/address'
import type { HostAddress, HostNetwork, ObservedLink } from '../../../../src/model/kernel/link'
import type { DefaultRoute } from '../../../../src/model/kernel/route'
import {
  checkUnderlayOutside,
  choosePartly,
  chooseUnderlay,
  type Families,
  leadsNowhere,
  type RememberedUnderlay,
  type UnderlayOptions,
} from '../../../../src/plan/host/underlay'
import { hw } from '../support'

const link = (index: number, name: string, more: Partial<ObservedLink> = {}): ObservedLink => ({
  index,
  name,
  mac: hw('02:00:00:00:00:01'),
  mtu: 1500,
  up: true,
  kind: undefined,
  vxlan: undefined,
  ...more,
})

function prefix(text: string): Prefix {
  const [address = '', length] = text.split('/')
  const parsed = parseIp(address)
  if (parsed === undefined) throw new Error(`not an address: ${text}`)
  return { address: parsed, length: Number(length) }
}

const ip = (text: string): IpAddress => prefix(`${text}/0`).address

const address = (linkIndex: number, text: string, more: Partial<HostAddress> = {}): HostAddress => ({
  linkIndex,
  address: prefix(text),
  scope: 'global',
  permanent: true,
  temporary: false,
  deprecated: false,
  tentative: false,
  duplicate: false,
  ...more,
})

const route = (family: DefaultRoute['family'], linkIndex: number | undefined): DefaultRoute => ({
  family,
  linkIndex,
  gateway: undefined,
})

const host: HostNetwork = {
  links: [
    link(1, 'lo', { mtu: 65536 }),
    link(2, 'eth0'),
    link(3, 'eth1', { mtu: 9000 }),
    link(4, 'bare'),
    link(5, 'down', { mtu: 0 }),
    link(6, 'flannel.1', { kind: 'vxlan' }),
  ],
  addresses: [
    address(1, '127.0.0.1/8', { scope: 'host' }),
    address(2, '169.254.7.7/16', { scope: 'link' }),
    address(2, '192.168.77.11/24'),
    address(2, '192.168.77.12/24'),
    address(3, '198.51.100.3/24'),
    address(5, '198.51.100.5/24'),
    address(6, '10.5.1.0/32'),
    address(1, '::1/128', { scope: 'host' }),
    address(2, 'fe80::2/64', { scope: 'link' }),
    address(2, '2001:db8:77::11/64'),
    address(3, 'fd00:3::3/64'),
    address(4, 'fe80::4/64', { scope: 'link' }),
  ],
  defaultRoutes: [route('IPv4', 3), route('IPv4', 2), route('IPv6', 3)],
  reach: undefined,
}

interface Wanted {
  readonly iface?: readonly string[]
  readonly regex?: readonly RegExp[]
  readonly reach?: string
  readonly publicIp?: string
  readonly publicIpv6?: string
}

const optionsOf = ({ iface = [], regex = [], reach, publicIp, publicIpv6 }: Wanted): UnderlayOptions => ({
  iface,
  ifaceRegex: regex,
  ifaceCanReach: reach === undefined ? undefined : ip(reach),
  publicIp: parseIpv4(publicIp ?? ''),
  publicIpv6: parseIpv6(publicIpv6 ?? ''),
})

const V4: Families = { ipv4: true, ipv6: false }
const V6: Families = { ipv4: false, ipv6: true }
const DUAL: Families = { ipv4: true, ipv6: true }

/** `eth0 local>public ...`, IPv4 first. */
function choose(wanted: Wanted, families = V4, on = host): string {
  const { link: chosen, ipv4, ipv6 } = chooseUnderlay(on, optionsOf(wanted), families)
  const pairs = [ipv4, ipv6].flatMap((pair) =>
    pair === undefined ? [] : `${formatIp(pair.local)}>${formatIp(pair.public)}`,
  )
  return [chosen.name, ...pairs].join(' ')
}

/** The text that {@link choose} returns if local and public addresses are the same. */
const same = (name: string, ...addresses: string[]): string =>
  [name, ...addresses.map((each) => `${each}>${each}`)].join(' ')

describe('the order of the flags (IPv4)', () => {
  const reached = { ...host, reach: { linkIndex: 2, source: ip('192.168.77.12') } }

  test.each<[string, Wanted, string]>([
    ['nothing: the first default route', {}, same('eth1', '198.51.100.3')],
    ['a name', { iface: ['eth0'] }, same('eth0', '192.168.77.11')],
    ['an address, which is then kept', { iface: ['192.168.77.12'] }, same('eth0', '192.168.77.12')],
    [
      'an address of the other family finds the interface',
      { iface: ['2001:db8:77::11'] },
      same('eth0', '192.168.77.11'),
    ],
    [
      'the first usable of several',
      { iface: ['eth9', 'bare', 'down', '10.0.0.1', 'eth0', 'eth1'] },
      same('eth0', '192.168.77.11'),
    ],
    ['a pattern of addresses', { regex: [/^198\./] }, same('eth1', '198.51.100.3')],
    ['a pattern keeps the address that matches', { regex: [/77\.12$/] }, same('eth0', '192.168.77.12')],
    ['a pattern of names', { regex: [/^eth1$/] }, same('eth1', '198.51.100.3')],
    ['addresses before names', { regex: [/eth0|198\.51/] }, same('eth1', '198.51.100.3')],
    ['names without a usable address are skipped', { regex: [/bare|eth1/] }, same('eth1', '198.51.100.3')],
    ['patterns in order', { regex: [/^nothing/, /eth1/, /eth0/] }, same('eth1', '198.51.100.3')],
    ['iface before the patterns', { iface: ['eth0'], regex: [/eth1/] }, same('eth0', '192.168.77.11')],
    [
      'the patterns when iface finds none',
      { iface: ['eth9'], regex: [/eth1/] },
      same('eth1', '198.51.100.3'),
    ],
    ['the route, with its source address', { reach: '203.0.113.1' }, same('eth0', '192.168.77.12')],
    [
      'the route to an address comes last of the three',
      { regex: [/^nothing/], reach: '203.0.113.1' },
      same('eth0', '192.168.77.12'),
    ],
    ['an own address to reach', { reach: '198.51.100.3' }, same('eth1', '198.51.100.3')],
    ['the owner of the public address', { publicIp: '192.168.77.12' }, same('eth0', '192.168.77.12')],
    [
      'the owner of the public IPv6 address',
      { publicIpv6: '2001:db8:77::11' },
      same('eth0', '192.168.77.11'),
    ],
    [
      'a public address behind NAT',
      { iface: ['eth0'], publicIp: '203.0.113.9' },
      'eth0 192.168.77.11>203.0.113.9',
    ],
    [
      'a public address that is on the interface is the one to send from',
      { iface: ['eth0'], publicIp: '192.168.77.12' },
      same('eth0', '192.168.77.12'),
    ],
  ])('%s', (_, wanted, expected) => {
    expect(choose(wanted, V4, reached)).toBe(expected)
  })

  test('the overlay’s own device of an earlier run is never taken by a pattern', () => {
    expect(choose({ regex: [/^10\.|flannel|eth0/] })).toBe(same('eth0', '192.168.77.11'))
    expect(() => choose({ regex: [/^10\./] })).toThrow('matches the pattern ^10\\.')
  })
})

describe('IPv6 and both', () => {
  const routed = { ...host, defaultRoutes: [route('IPv4', 2), route('IPv6', 2), route('IPv6', 3)] }

  test.each<[string, Wanted, Families, HostNetwork, string]>([
    ['IPv6: its own default route', {}, V6, host, same('eth1', 'fd00:3::3')],
    ['IPv6: the first of its default routes', {}, V6, routed, same('eth0', '2001:db8:77::11')],
    ['IPv6: never a link-local address', { iface: ['bare', 'eth1'] }, V6, host, same('eth1', 'fd00:3::3')],
    [
      'IPv6: a link-local address finds the interface, no more',
      { iface: ['fe80::2'] },
      V6,
      host,
      same('eth0', '2001:db8:77::11'),
    ],
    [
      'IPv6: patterns look at its addresses only',
      { regex: [/^198|^fd00:3:/] },
      V6,
      host,
      same('eth1', 'fd00:3::3'),
    ],
    ['IPv6: the owner of public-ipv6', { publicIpv6: 'fd00:3::3' }, V6, host, same('eth1', 'fd00:3::3')],
    [
      'IPv6: behind a translation',
      { iface: ['eth1'], publicIpv6: '2001:db8::9' },
      V6,
      host,
      'eth1 fd00:3::3>2001:db8::9',
    ],
    ['both: one default route each', {}, DUAL, routed, same('eth0', '192.168.77.11', '2001:db8:77::11')],
    ['both: a name', { iface: ['eth1'] }, DUAL, host, same('eth1', '198.51.100.3', 'fd00:3::3')],
    [
      'both: an IPv4 address keeps, IPv6 takes the best',
      { iface: ['192.168.77.12'] },
      DUAL,
      host,
      same('eth0', '192.168.77.12', '2001:db8:77::11'),
    ],
    [
      'both: public-ipv6 beside an IPv4 address',
      { iface: ['192.168.77.12'], publicIpv6: '2001:db8::9' },
      DUAL,
      host,
      'eth0 192.168.77.12>192.168.77.12 2001:db8:77::11>2001:db8::9',
    ],
    [
      'both: an address of each must match a pattern',
      { regex: [/^192|^fd00:3|^198/] },
      DUAL,
      host,
      same('eth1', '198.51.100.3', 'fd00:3::3'),
    ],
    [
      'both: a pattern that matches the name',
      { regex: [/^192|eth1/] },
      DUAL,
      host,
      same('eth1', '198.51.100.3', 'fd00:3::3'),
    ],
    [
      'both: public-ip comes before public-ipv6',
      { publicIp: '192.168.77.12', publicIpv6: '2001:db8:77::11' },
      DUAL,
      host,
      same('eth0', '192.168.77.12', '2001:db8:77::11'),
    ],
  ])('%s', (_, wanted, families, on, expected) => {
    expect(choose(wanted, families, on)).toBe(expected)
  })
})

describe('which address of an interface', () => {
  const on = (...addresses: HostAddress[]): HostNetwork => ({ ...host, addresses })

  test.each<[string, Families, HostAddress[], string]>([
    [
      'global before link-local',
      V4,
      [address(2, '169.254.1.1/16', { scope: 'link' }), address(2, '192.0.2.2/24')],
      '192.0.2.2',
    ],
    ['link-local if there is no other', V4, [address(2, '169.254.1.1/16', { scope: 'link' })], '169.254.1.1'],
    [
      'permanent before dynamic',
      V4,
      [address(2, '192.0.2.1/24', { permanent: false }), address(2, '192.0.2.2/24')],
      '192.0.2.2',
    ],
    [
      'the kernel’s order among equals',
      V4,
      [address(2, '192.0.2.9/24'), address(2, '192.0.2.1/24')],
      '192.0.2.9',
    ],
    [
      'not deprecated',
      V6,
      [
        address(2, '2001:db8::1/64', { deprecated: true }),
        address(2, '2001:db8::2/64', { permanent: false }),
      ],
      '2001:db8::2',
    ],
    [
      'not temporary',
      V6,
      [
        address(2, '2001:db8::1/64', { permanent: false, temporary: true }),
        address(2, '2001:db8::2/64', { permanent: false }),
      ],
      '2001:db8::2',
    ],
    [
      'a temporary one if there is no other',
      V6,
      [address(2, '2001:db8::1/64', { permanent: false, temporary: true })],
      '2001:db8::1',
    ],
    [
      'permanent precedes not temporary',
      V6,
      [address(2, '2001:db8::1/64', { permanent: false }), address(2, '2001:db8::2/64', { temporary: true })],
      '2001:db8::2',
    ],
    [
      'not one that another host has',
      V6,
      [address(2, '2001:db8::1/64', { duplicate: true }), address(2, '2001:db8::2/64', { tentative: true })],
      '2001:db8::2',
    ],
    [
      'a tentative one only if there is no other',
      V6,
      [address(2, '2001:db8::1/64', { tentative: true }), address(2, '2001:db8::2/64', { permanent: false })],
      '2001:db8::2',
    ],
    [
      'one of scope host comes last',
      V4,
      [address(2, '192.0.2.1/32', { scope: 'host' }), address(2, '192.0.2.2/24', { permanent: false })],
      '192.0.2.2',
    ],
  ])('%s', (_, families, addresses, expected) => {
    expect(choose({ iface: ['eth0'] }, families, on(...addresses))).toBe(same('eth0', expected))
  })
})

describe('one family without an address does not stop the other', () => {
  const without = (family: 'IPv4' | 'IPv6'): HostNetwork => ({
    ...host,
    addresses: host.addresses.filter(
      (each) => (typeof each.address.address === 'number') !== (family === 'IPv4'),
    ),
    defaultRoutes: host.defaultRoutes.filter((each) => each.family !== family),
  })
  function part(wanted: Wanted, on: HostNetwork, remembered: RememberedUnderlay = {}): string | undefined {
    const found = choosePartly(on, optionsOf(wanted), remembered)
    if (found === undefined) return undefined
    const { link: chosen, ipv4, ipv6 } = found.underlay
    const pairs = [ipv4, ipv6].map((pair) => pair && `${formatIp(pair.local)}>${formatIp(pair.public)}`)
    return [chosen.name, ...pairs, `no ${found.missing}`].join(' ')
  }
  const four = (text: string) => ({ local: parseIpv4(text), public: parseIpv4(text) }) as never
  const six = (text: string) => ({ local: parseIpv6(text), public: parseIpv6(text) }) as never

  test('an unknown IPv6 address is replaced by one of the discard prefix, unique per host', () => {
    const placeholder = '100::c0a8:4d0b>100::c0a8:4d0b'
    const wanted = `eth0 192.168.77.11>192.168.77.11 ${placeholder} no IPv6`
    expect(part({ iface: ['eth0'] }, without('IPv6'))).toBe(wanted)
    expect(leadsNowhere(ip('100::c0a8:4d0b'))).toBe(true)
    expect([ip('100:0:0:1::1'), ip('2001:db8::1'), ip('1.0.0.1')].map(leadsNowhere)).toEqual([
      false,
      false,
      false,
    ])
    // A placeholder made from an earlier IPv4 address is not reused: another host may have that address by
    // now.
    expect(part({ iface: ['eth0'] }, without('IPv6'), { ipv6: six('100::c0a8:4d63') })).toBe(wanted)
  })

  test('an IPv6 address that is remembered, or given by a flag, is kept', () => {
    expect(part({ iface: ['eth0'] }, without('IPv6'), { ipv6: six('fd00::9') })).toBe(
      'eth0 192.168.77.11>192.168.77.11 fd00::9>fd00::9 no IPv6',
    )
    expect(part({ publicIpv6: '2001:db8::9' }, without('IPv6'))).toBe(
      'eth1 198.51.100.3>198.51.100.3 100::c633:6403>2001:db8::9 no IPv6',
    )
  })

  test('without IPv4 its address has to be remembered or given', () => {
    expect(part({}, without('IPv4'))).toBeUndefined()
    expect(part({}, without('IPv4'), { ipv4: four('192.0.2.9') })).toBe(
      'eth1 192.0.2.9>192.0.2.9 fd00:3::3>fd00:3::3 no IPv4',
    )
    expect(part({ publicIp: '192.0.2.9' }, without('IPv4'))).toBe(
      'eth1 192.0.2.9>192.0.2.9 fd00:3::3>fd00:3::3 no IPv4',
    )
  })

  test('without both families there is no underlay', () => {
    expect(
      part({}, { ...host, addresses: [], defaultRoutes: [] }, { ipv4: four('192.0.2.9') }),
    ).toBeUndefined()
  })
})

describe('an error says what was looked for and what the host has', () => {
  test.each<[Wanted, Families, string]>([
    [{ iface: ['eth9'] }, V4, 'there is no interface eth9'],
    [{ iface: ['bare'] }, V4, 'interface bare has no usable IPv4 address'],
    [{ iface: ['bare'] }, V6, 'interface bare has no usable IPv6 address'],
    [{ iface: ['lo', '127.0.0.1'] }, V4, 'interface lo has no usable IPv4 address'],
    [{ iface: ['down'] }, V4, 'interface down has MTU 0'],
    [{ iface: ['10.9.9.9'] }, V4, 'no interface has the address 10.9.9.9'],
    [
      { iface: ['eth9'], regex: [/^wl/] },
      V4,
      'there is no interface eth9; no address and no interface matches the pattern ^wl',
    ],
    [{ reach: '203.0.113.1' }, V4, 'no route leads to 203.0.113.1'],
    [
      { publicIp: '203.0.113.9' },
      V4,
      'public-ip 203.0.113.9 is not an address of this host (behind NAT, give iface as well)',
    ],
    [{ publicIpv6: '2001:db8::9' }, V6, 'public-ipv6 2001:db8::9 is not an address of this host'],
    [{}, DUAL, 'interface eth1 has no usable IPv6 address'],
  ])('%j', (wanted, families, message) => {
    const addresses = host.addresses.filter(
      (each) => families !== DUAL || each.linkIndex !== 3 || typeof each.address.address === 'number',
    )
    const act = () => choose(wanted, families, { ...host, addresses })
    expect(act).toThrow(message)
    expect(act).toThrow(
      expect.objectContaining({
        code: 'no-underlay',
        fix: expect.stringContaining('eth0 (169.254.7.7, 192.168.77.11'),
      }),
    )
  })

  test.each<[string, DefaultRoute[], Families, string]>([
    ['none', [], V4, 'there is no IPv4 default route'],
    ['none of IPv6', [route('IPv4', 2)], DUAL, 'there is no IPv6 default route'],
    ['multipath', [route('IPv4', undefined), route('IPv4', 2)], V4, 'the IPv4 default route is multipath'],
    [
      'two interfaces',
      [route('IPv4', 2), route('IPv6', 3)],
      DUAL,
      'the IPv4 default route uses eth0, the IPv6 one eth1',
    ],
  ])('default route: %s', (_, defaultRoutes, families, message) => {
    expect(() => choose({}, families, { ...host, defaultRoutes })).toThrow(message)
  })
})

describe('a network must not cover what the host needs', () => {
  const underlay = chooseUnderlay(host, optionsOf({ iface: ['eth0'], publicIp: '203.0.113.9' }), DUAL)
  const around = { etcd: [ip('192.0.2.5'), ip('fd00:9::5')], gateways: [ip('198.51.100.254'), ip('fe80::1')] }

  test.each([
    ['192.168.0.0/16', "Network 192.168.0.0/16 contains 192.168.77.11, this host's own address on eth0"],
    ['203.0.113.0/24', 'Network 203.0.113.0/24 contains 203.0.113.9, the address this host announces'],
    ['2001:db8::/32', "IPv6Network 2001:db8::/32 contains 2001:db8:77::11, this host's own address on eth0"],
    ['192.0.2.0/24', 'Network 192.0.2.0/24 contains 192.0.2.5, the address of etcd'],
    ['fd00:9::/48', 'IPv6Network fd00:9::/48 contains fd00:9::5, the address of etcd'],
    ['198.51.100.0/24', 'Network 198.51.100.0/24 contains 198.51.100.254, the gateway of the default route'],
  ])('%s', (network, message) => {
    const act = () => checkUnderlayOutside([prefix('10.5.0.0/16'), prefix(network)], underlay, around)
    expect(act).toThrow(
      expect.objectContaining({ code: 'config-invalid', message: expect.stringContaining(message) }),
    )
    expect(act).toThrow(expect.objectContaining({ fix: expect.stringContaining('--allow-network-overlap') }))
  })

  test('other networks are accepted', () => {
    expect(() =>
      checkUnderlayOutside([prefix('10.5.0.0/16'), prefix('fd00:5::/48')], underlay, around),
    ).not.toThrow()
  })
})
