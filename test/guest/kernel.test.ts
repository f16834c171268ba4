/** The guest's kernel can do what the tests of this folder need, and other machines' kernels may not. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Capture } from '../lab/capture'
import { DatagramCounter } from '../lab/datagrams'
import { execOk, ipBatch } from '../lab/namespace'
import { patient } from '../lab/patience'
import { ping } from '../lab/ping'
import { runOk } from '../lab/process'

jest.setTimeout(patient(20_000))

/** The kinds of all links of a namespace that have one. */
async function kindsIn(namespace: string): Promise<readonly string[]> {
  const links = JSON.parse(await execOk(namespace, ['ip', '-json', '-details', 'link', 'show'])) as readonly {
    readonly linkinfo?: { readonly info_kind?: string }
  }[]
  return links.flatMap(({ linkinfo }) => linkinfo?.info_kind ?? [])
}

describe('a namespace', () => {
  beforeAll(() => ipBatch(undefined, ['netns add kinds']))
  afterAll(() => ipBatch(undefined, ['netns delete kinds']))

  test('takes links of all kinds that overlayd makes, and dummies', async () => {
    await ipBatch('kinds', [
      'link add made1 type wireguard',
      'link add made2 type vxlan id 1 dstport 8472 nolearning local 192.0.2.1',
      'link add made3 type bridge',
      'link add made4 type veth peer name made5',
      'link add made6 type dummy',
    ])
    const made = ['wireguard', 'vxlan', 'bridge', 'veth', 'veth', 'dummy']
    expect((await kindsIn('kinds')).toSorted()).toEqual(made.toSorted())
  })

  test('takes tables of nftables at all hooks that the firewall and the witnesses use', async () => {
    const rules = `
      table inet made {
        chain in { type filter hook input priority -300; udp dport 8472 counter drop; }
      }
      table netdev made {
        chain in { type filter hook ingress device "lo" priority 0; udp dport 8472 counter; }
        chain out { type filter hook egress device "lo" priority 0; udp dport 8472 counter; }
      }
      table ip made {
        chain post { type nat hook postrouting priority srcnat; ip saddr 10.5.0.0/16 masquerade; }
      }`
    await execOk('kinds', ['nft', '-f', '-'], { input: rules })
    const tables = await execOk('kinds', ['nft', 'list', 'tables'])
    expect(tables.trim().split('\n').toSorted()).toEqual([
      'table inet made',
      'table ip made',
      'table netdev made',
    ])
  })
})

describe('two namespaces with WireGuard between them', () => {
  const WIREGUARD_PORT = 51820
  const NAMES = ['left', 'right'] as const
  const directory = mkdtempSync('/run/wireguard-')

  beforeAll(async () => {
    await ipBatch(
      undefined,
      NAMES.map((name) => `netns add ${name}`),
    )
    await ipBatch('left', ['link add eth0 type veth peer name eth0 netns right'])
    const keys = await Promise.all(
      NAMES.map(async () => {
        const key = (await runOk(['wg', 'genkey'])).trim()
        return { key, pub: (await runOk(['wg', 'pubkey'], { input: key })).trim() }
      }),
    )
    for (const [index, name] of NAMES.entries()) {
      const other = 1 - index
      await ipBatch(name, [
        `address add 192.0.2.${index + 1}/24 dev eth0`,
        'link set eth0 up',
        'link add wg0 type wireguard',
        `address add 198.51.100.${index + 1}/24 dev wg0`,
      ])
      const file = join(directory, name)
      writeFileSync(
        file,
        `[Interface]
        PrivateKey = ${keys[index]?.key}
        ListenPort = ${WIREGUARD_PORT}
        [Peer]
        PublicKey = ${keys[other]?.pub}
        Endpoint = 192.0.2.${other + 1}:${WIREGUARD_PORT}
        AllowedIPs = 198.51.100.${other + 1}/32`,
      )
      await execOk(name, ['wg', 'setconf', 'wg0', file])
      await ipBatch(name, ['link set wg0 up'])
    }
  })
  afterAll(async () => {
    rmSync(directory, { recursive: true })
    await ipBatch(
      undefined,
      NAMES.map((name) => `netns delete ${name}`),
    )
  })

  test('reach each other by datagrams to its port, which are counted both ways', async () => {
    const counter = await DatagramCounter.start('left', 'eth0', [WIREGUARD_PORT, 9])
    expect(await ping('left', '198.51.100.2', { count: 10 })).toMatchObject({ received: 10 })
    const { in: received, out: sent } = await counter.read(WIREGUARD_PORT)
    // Each ping, and one message of the handshake in each direction, at least.
    expect(sent).toBeGreaterThanOrEqual(11)
    expect(received).toBeGreaterThanOrEqual(11)
    expect(await counter.read(9)).toEqual({ in: 0, out: 0 })
    await expect(counter.read(10)).rejects.toThrow('datagrams to port 10 are not counted on eth0')

    await counter.reset()
    expect(await counter.read(WIREGUARD_PORT)).toEqual({ in: 0, out: 0 })
    await counter.stop()
    expect(await execOk('left', ['nft', 'list', 'tables'])).toBe('')
    expect(await execOk('left', ['wg', 'show', 'wg0', 'latest-handshakes'])).toMatch(/\t[1-9]\d*$/m)
  })

  test('show what they send on the inner interface, and not on the wire', async () => {
    const [inside, wire] = [await Capture.start('left', 'wg0'), await Capture.start('left', 'eth0', 'udp')]
    // The pattern fills each ping's payload.
    await execOk('left', ['ping', '-c', '5', '-i', '0.1', '-p', 'c0ffee', '198.51.100.2'])
    const frames = { inside: await inside.stop(), wire: await wire.stop() }
    const marked = (frame: Buffer) => frame.includes(Buffer.from('c0ffeec0ffee', 'hex'))
    // Five pings and their answers.
    expect(frames.inside.filter(marked)).toHaveLength(10)
    expect(frames.wire.length).toBeGreaterThanOrEqual(10)
    expect(frames.wire.filter(marked)).toEqual([])
  })
})
