/** The kernel's addresses and default routes, and the underlay that is chosen from both. */
import type { Kernel } from '../../../src/kernel/kernel'
import { formatIp, formatPrefix, type IpAddress, parseIp } from '../../../src/model/address'
import type { HostAddress } from '../../../src/model/kernel/link'
import { chooseUnderlay } from '../../../src/plan/host/underlay'
import { Pending, waitFor } from '../../lab/wait'
import { openKernel, requireSandbox, run } from './network'

/** The peer of `wan` is up. The peer of `lan` is down, so an IPv6 address of `lan` stays tentative. */
const LINKS = ['wan', 'lan']

let kernel: Kernel
beforeAll(async () => {
  requireSandbox()
  kernel = await openKernel()
})
afterAll(() => kernel?.close())

beforeEach(() => {
  for (const name of LINKS) {
    run(`ip link add ${name} type veth peer name ${name}-peer`)
    run(`ip link set ${name} up`)
  }
  run('ip link set wan-peer up')
})
afterEach(() => {
  for (const name of LINKS) run(`ip link delete ${name}`)
  run('ip route flush type unreachable')
  run('ip -6 route flush type unreachable')
})

const address = (text: string): IpAddress => {
  const parsed = parseIp(text)
  if (parsed === undefined) throw new Error(`not an address: ${text}`)
  return parsed
}

const indexOf = async (name: string): Promise<number | undefined> => (await kernel.link(name))?.index

/** The addresses of a link, in the kernel's order. */
async function addressesOf(name: string): Promise<HostAddress[]> {
  const index = await indexOf(name)
  return (await kernel.hostNetwork()).addresses.filter(({ linkIndex }) => linkIndex === index)
}

describe('addresses', () => {
  test('are told with their life times', async () => {
    run('ip address add 192.0.2.1/24 dev wan')
    run('ip address add 192.0.2.2/24 dev wan valid_lft 3600 preferred_lft 3600')
    run('ip address add 192.0.2.3/24 dev wan valid_lft 3600 preferred_lft 0')
    run('ip -6 address add 2001:db8::1/64 dev wan nodad')
    run('ip -6 address add 2001:db8::2/64 dev wan nodad valid_lft 3600 preferred_lft 0')
    // The kernel makes the address of the link a moment after the other end is up.
    const isOfLink = ({ address }: HostAddress): boolean => formatIp(address.address).startsWith('fe80:')
    const found = await waitFor('the address of the link', async () => {
      const addresses = await addressesOf('wan')
      return addresses.some(isOfLink) ? addresses : new Pending(`${addresses.length} addresses`)
    })
    const of = (text: string) => found.find(({ address }) => formatPrefix(address) === text)
    expect(of('192.0.2.1/24')).toMatchObject({ scope: 'global', permanent: true, deprecated: false })
    // The second address of an IPv4 network has the bit that means "temporary" for an IPv6 address.
    expect(of('192.0.2.2/24')).toMatchObject({ permanent: false, temporary: false, deprecated: false })
    expect(of('192.0.2.3/24')).toMatchObject({ permanent: false, deprecated: true })
    expect(of('2001:db8::1/64')).toMatchObject({
      scope: 'global',
      permanent: true,
      temporary: false,
      tentative: false,
      duplicate: false,
    })
    expect(of('2001:db8::2/64')).toMatchObject({ permanent: false, deprecated: true })
    expect(found.find(isOfLink)?.scope).toBe('link')
    expect(found.filter(({ address }) => typeof address.address === 'number')).toHaveLength(3)
  })

  test('one that is not settled yet is tentative', async () => {
    run('ip -6 address add 2001:db8:1::1/64 dev lan')
    expect((await addressesOf('lan')).at(0)).toMatchObject({ tentative: true, duplicate: false })
  })
})

describe('ways out', () => {
  beforeEach(() => {
    run('ip address add 192.0.2.1/24 dev wan')
    run('ip address add 198.51.100.1/24 dev lan')
    run('ip -6 address add 2001:db8::1/64 dev wan nodad')
  })

  test('default routes come by metric, with gateways; other tables do not count', async () => {
    run('ip route add default via 198.51.100.254 dev lan metric 200')
    run('ip route add default via 192.0.2.254 dev wan metric 100')
    run('ip route add default via 198.51.100.253 dev lan table 100')
    run('ip -6 route add default via fe80::1 dev wan')
    const [wan, lan] = [await indexOf('wan'), await indexOf('lan')]
    const { defaultRoutes } = await kernel.hostNetwork()
    expect(defaultRoutes).toEqual([
      { family: 'IPv4', linkIndex: wan, gateway: address('192.0.2.254') },
      { family: 'IPv4', linkIndex: lan, gateway: address('198.51.100.254') },
      { family: 'IPv6', linkIndex: wan, gateway: address('fe80::1') },
    ])
    run('ip route flush table 100')
  })

  test('one over several links names none', async () => {
    run('ip route add default nexthop via 192.0.2.254 dev wan nexthop via 198.51.100.254 dev lan')
    run('ip -6 route add default nexthop via fe80::1 dev wan nexthop via fe80::2 dev wan')
    const { defaultRoutes } = await kernel.hostNetwork()
    expect(defaultRoutes.map(({ family, linkIndex }) => [family, linkIndex])).toEqual([
      ['IPv4', undefined],
      ['IPv6', undefined],
    ])
  })

  test('the way to an address is looked up, with the address to send from', async () => {
    run('ip address add 192.0.2.7/24 dev wan')
    run('ip route add 203.0.113.0/24 via 192.0.2.254 dev wan src 192.0.2.7')
    run('ip -6 route add 2001:db8:9::/48 via 2001:db8::ff dev wan')
    const wan = await indexOf('wan')
    const reach = async (text: string) => (await kernel.hostNetwork({ reach: address(text) })).reach
    expect(await reach('203.0.113.9')).toEqual({ linkIndex: wan, source: address('192.0.2.7') })
    expect(await reach('2001:db8:9::9')).toEqual({ linkIndex: wan, source: address('2001:db8::1') })
    expect((await kernel.hostNetwork()).reach).toBeUndefined()
  })

  test.each([
    ['no route', []],
    ['unreachable', ['unreachable 203.0.113.0/24', 'unreachable 2001:db8:9::/48']],
    ['prohibit', ['prohibit 203.0.113.0/24', 'prohibit 2001:db8:9::/48']],
    ['blackhole', ['blackhole 203.0.113.0/24', 'blackhole 2001:db8:9::/48']],
  ])('%s is no way', async (_, routes) => {
    for (const route of routes) run(`ip route add ${route}`)
    try {
      for (const text of ['203.0.113.9', '2001:db8:9::9']) {
        expect((await kernel.hostNetwork({ reach: address(text) })).reach).toBeUndefined()
      }
    } finally {
      for (const route of routes) run(`ip route delete ${route}`)
    }
  })

  test('all of it together chooses the underlay', async () => {
    run('ip address add 192.0.2.7/24 dev wan')
    run('ip route add 203.0.113.0/24 via 192.0.2.254 dev wan src 192.0.2.7')
    run('ip route add default via 192.0.2.254 dev wan')
    run('ip -6 route add default via 2001:db8::ff dev wan')
    const choose = async (fields: {
      readonly reach?: string
      readonly regex?: RegExp
      readonly ipv6?: boolean
    }) => {
      const reach = fields.reach === undefined ? undefined : address(fields.reach)
      const { link, ipv4, ipv6 } = chooseUnderlay(
        await kernel.hostNetwork({ reach }),
        {
          iface: [],
          ifaceRegex: fields.regex === undefined ? [] : [fields.regex],
          ifaceCanReach: reach,
          publicIp: undefined,
          publicIpv6: undefined,
        },
        { ipv4: true, ipv6: fields.ipv6 === true },
      )
      return [link.name, ...[ipv4, ipv6].flatMap((pair) => (pair === undefined ? [] : formatIp(pair.local)))]
    }
    expect(await choose({})).toEqual(['wan', '192.0.2.1'])
    expect(await choose({ ipv6: true })).toEqual(['wan', '192.0.2.1', '2001:db8::1'])
    expect(await choose({ reach: '203.0.113.1' })).toEqual(['wan', '192.0.2.7'])
    expect(await choose({ reach: '198.51.100.1' })).toEqual(['lan', '198.51.100.1'])
    expect(await choose({ regex: /^198\.51/ })).toEqual(['lan', '198.51.100.1'])
    expect(await choose({ regex: /^lan$/ })).toEqual(['lan', '198.51.100.1'])
  })
})
