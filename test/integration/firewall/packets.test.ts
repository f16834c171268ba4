/** What the rules do to packets, in both modes and families. */
import type { FirewallMode } from '../../../src/model/firewall'
import { patient } from '../../lab/patience'
import {
  ADDRESSES,
  apply,
  MARKED_PORT,
  nft,
  OPERATOR,
  OVERLAY,
  run,
  Site,
  seenDuring,
  seenFrom,
} from './site'

jest.setTimeout(patient(60_000))

let site: Site
beforeAll(async () => {
  site = await Site.create()
})
afterAll(() => site?.close())

const MODES: readonly FirewallMode[] = ['iptables', 'nftables']

describe.each(MODES)('in %s mode', (mode) => {
  beforeAll(async () => {
    await site.flush()
    await nft(OPERATOR)
    await apply({ mode })
  })

  describe.each(['ipv4', 'ipv6'] as const)('%s', (version) => {
    const { host, container, peer, outside } = ADDRESSES[version]

    test('a container is seen outside as its host', async () => {
      expect(await seenFrom('container', outside)).toBe(host)
    })

    test('inside the overlay, and when it is called from outside, nobody is anyone else', async () => {
      expect(await seenFrom('container', peer)).toBe(container)
      expect(await seenFrom('peer', container)).toBe(peer)
      expect(await seenFrom('outside', container)).toBe(outside)
    })

    test('the host is seen in the overlay by its address there', async () => {
      expect(await seenFrom('host', peer, undefined, host)).toBe(OVERLAY[version])
    })

    test('what others marked so is not masqueraded, whatever other bits the mark has', async () => {
      expect(await seenFrom('container', outside, MARKED_PORT)).toBe(container)
    })

    test('no packet meets half of the rules while they are changed', async () => {
      const seen = await seenDuring('container', outside, async () => {
        for (let change = 0; change < 20; change += 1) await apply({ mode, fullyRandom: change % 2 === 0 })
      })
      expect(seen).toEqual(new Set([host]))
    })
  })

  test('without masquerading a container is seen outside as itself', async () => {
    await apply({ mode, ipMasq: false })
    expect(await seenFrom('container', ADDRESSES.ipv4.outside)).toBe(ADDRESSES.ipv4.container)
    await apply({ mode })
  })
})

test('nor while the mode changes', async () => {
  await site.flush()
  await apply({ mode: 'iptables' })
  const seen = await seenDuring('container', ADDRESSES.ipv4.outside, async () => {
    for (let change = 0; change < 20; change += 1) {
      await apply({ mode: change % 2 === 0 ? 'nftables' : 'iptables' })
    }
  })
  expect(seen).toEqual(new Set([ADDRESSES.ipv4.host]))
})

test('packets of the overlay pass a FORWARD chain that drops', async () => {
  await site.flush()
  await apply({ mode: 'iptables' })
  await nft('chain ip filter FORWARD { policy drop; }')
  expect(await seenFrom('peer', ADDRESSES.ipv4.container)).toBe(ADDRESSES.ipv4.peer)
})

describe.each(MODES)('in %s mode a catch-all of others that was there before', (mode) => {
  test.each(['ipv4', 'ipv6'] as const)(
    'does not stop packets of the overlay, nor hide who sent them: %s',
    async (version) => {
      await site.flush()
      const [program, reject] =
        version === 'ipv4' ? ['iptables', 'icmp-host-prohibited'] : ['ip6tables', 'icmp6-adm-prohibited']
      await run(program, '-A', 'FORWARD', '-j', 'REJECT', '--reject-with', reject)
      if (mode === 'iptables') await run(program, '-t', 'nat', '-A', 'POSTROUTING', '-j', 'MASQUERADE')
      await apply({ mode })
      expect(await seenFrom('peer', ADDRESSES[version].container)).toBe(ADDRESSES[version].peer)
      expect(await seenFrom('container', ADDRESSES[version].peer)).toBe(ADDRESSES[version].container)
    },
  )
})
