/**
 * netavark's nftables backend, with the table that netavark 1.14 makes for a network of Podman, loaded by
 * hand. netavark masquerades all that leaves the network. Our rule against that stands in a table of ours.
 */
import { patient } from '../../lab/patience'
import { ipv4Network, ipv6Network, prefix } from '../../support/firewall'
import { ADDRESSES, apply, keeper, nft, run, Site, seenFrom, until, whileRunning } from './site'

jest.setTimeout(patient(60_000))

let site: Site
beforeAll(async () => {
  site = await Site.create()
})
afterAll(() => site?.close())
beforeEach(async () => {
  site.replaceProgram('podman', 'exit 0')
  await site.flush()
})

const NEVER = 3_600_000
const NETAVARK = `
table inet netavark {
  chain FORWARD { type filter hook forward priority filter; policy accept; ct state invalid drop; ip daddr 10.5.1.0/24 ct state established,related accept; ip saddr 10.5.1.0/24 accept; }
  chain POSTROUTING { type nat hook postrouting priority srcnat; policy accept; meta mark & 0x00002000 == 0x00002000 masquerade; ip saddr 10.5.1.0/24 jump nv_b4b33d24_10_5_1_0_nm24; ip6 saddr fd00:5:0:1::/64 jump nv_b4b33d24_six; }
  chain nv_b4b33d24_10_5_1_0_nm24 { ip daddr 10.5.1.0/24 accept; ip daddr != 224.0.0.0/4 masquerade; }
  chain nv_b4b33d24_six { ip6 daddr fd00:5:0:1::/64 accept; ip6 daddr != ff00::/8 masquerade; }
}`
const has = async (table: string): Promise<boolean> =>
  (await run('nft', 'list', 'tables')).split('\n').includes(`table ${table}`)

test('without netavark’s table there is none of ours', async () => {
  await apply({})
  expect(await has('ip overlayd-source')).toBe(false)
})

test.each(['iptables', 'nftables'] as const)(
  'containers keep their addresses on the way to other hosts, and have that of the host outside (%s)',
  async (mode) => {
    await nft(NETAVARK)
    for (const version of ['ipv4', 'ipv6'] as const) {
      const { container, peer } = ADDRESSES[version]
      expect(await seenFrom('container', peer)).not.toBe(container)
    }
    await apply({ mode })
    for (const version of ['ipv4', 'ipv6'] as const) {
      const { container, peer, outside, host } = ADDRESSES[version]
      expect(await seenFrom('container', peer)).toBe(container)
      expect(await seenFrom('container', outside)).toBe(host)
      expect(await seenFrom('peer', container)).toBe(peer)
    }
    const before = await run('nft', '-a', 'list', 'table', 'ip', 'overlayd-source')
    await apply({ mode })
    expect(await run('nft', '-a', 'list', 'table', 'ip', 'overlayd-source')).toBe(before)
  },
)

test('containers keep their addresses on the way to an announced network behind the host', async () => {
  await nft(NETAVARK)
  const outside = { ipv4: prefix('192.0.2.0/24'), ipv6: prefix('2001:db8::/64') }
  await apply({
    networks: [
      { ...ipv4Network, allowed: [outside.ipv4] },
      { ...ipv6Network, allowed: [outside.ipv6] },
    ],
  })
  for (const version of ['ipv4', 'ipv6'] as const) {
    const each = ADDRESSES[version]
    expect(await seenFrom('container', each.outside)).toBe(each.container)
    expect(await seenFrom('outside', each.container)).toBe(each.outside)
  }
})

test('the rule comes as soon as Podman makes the table, and goes where overlayd does not masquerade', async () => {
  const made = keeper({}, { period: NEVER })
  await whileRunning(made, async () => {
    // The event may come before the monitor listens, so Podman makes its table again until it is heard.
    await until('the rule is there', async () => {
      if (await has('ip overlayd-source')) return true
      await nft('table inet netavark {}', 'delete table inet netavark', NETAVARK)
      return false
    })
    await until('the rule of IPv6 is there', () => has('ip6 overlayd-source'))
  })
  await apply({ ipMasq: false })
  expect(await has('ip overlayd-source')).toBe(false)
  expect(await has('ip6 overlayd-source')).toBe(false)
})
