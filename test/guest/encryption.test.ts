/**
 * Encryption by WireGuard under VXLAN: switched on host by host, through faults, a change of keys, and off
 * again. Counters on the underlay show that no packet goes in clear after the switch.
 */
import { DatagramCounter, VXLAN_PORT } from '../lab/datagrams'
import { type Container, Host } from '../lab/host'
import { Lab, NETWORK_CONFIG } from '../lab/lab'
import { patient } from '../lab/patience'
import { Pending, waitFor } from '../lab/wait'

jest.setTimeout(patient(240_000))

/** UDP ports of the two WireGuard devices. */
const PORTS = [51_820, 51_821]
/**
 * Milliseconds for a change of keys, or a handshake that is tried again; a guest gets twenty times as many.
 */
const LONG = 10_000
/** The kernel's way of saying that a peer has had no handshake, in `wg show DEVICE dump`. */
const NEVER = '0'

const config = (encryption: string): string =>
  NETWORK_CONFIG.replace('"vxlan"', `"vxlan","Encryption":"${encryption}"`)

let lab: Lab
let [one, two, three]: Host[] = []
let containers: readonly Container[] = []
/** Counts on the underlay of the second host, which has no traffic but with the first one. */
let wire: DatagramCounter

beforeAll(async () => {
  lab = await Lab.create({ hosts: 3 })
  ;[one, two, three] = lab.hosts
  host(1).start()
  host(2).start()
  // Stands for every host that does not encrypt: flannel's, an older overlayd's, one without WireGuard.
  host(3).start({ flags: { encryption: 'off' } })
  await lab.waitConverged(0, LONG)
  containers = await Promise.all(lab.hosts.map((each) => each.addContainer()))
  wire = await DatagramCounter.start(host(2).namespace, 'eth0', [VXLAN_PORT, ...PORTS])
})
afterAll(() => lab?.close())

function host(number: 1 | 2 | 3): Host {
  const found = { 1: one, 2: two, 3: three }[number]
  if (found === undefined) throw new Error(`no host ${number}`)
  return found
}

function container(number: 1 | 2 | 3): Container {
  const found = containers[number - 1]
  if (found === undefined) throw new Error(`no container on host ${number}`)
  return found
}

/** The link that a forwarding entry has to use; `none` without one, and undefined without an entry. */
async function viaTo(from: Host, to: Host): Promise<string | undefined> {
  const shown = await from.exec('bridge', 'fdb', 'show', 'dev', Host.device)
  const entry = shown.split('\n').find((line) => line.includes(` dst ${to.address} `))
  return entry === undefined ? undefined : (/ via (\S+) /.exec(entry)?.[1] ?? 'none')
}

async function waitVia(from: Host, to: Host, wanted: string | undefined): Promise<void> {
  await waitFor(
    `packets from ${from.name} to ${to.name} leave by ${wanted}`,
    async () => {
      const via = await viaTo(from, to)
      return via === wanted ? true : new Pending(`by ${via}`)
    },
    { timeoutMs: LONG, context: () => from.daemon.tail() },
  )
}

async function waitBoth(wanted: string): Promise<void> {
  await waitVia(host(1), host(2), wanted)
  await waitVia(host(2), host(1), wanted)
}

/** The peers of a device: public key, allowed-ips, time of the last handshake. */
async function peersOf(at: Host, link = 'fl-wg.1') {
  const lines = (await at.exec('wg', 'show', link, 'dump')).trim().split('\n').slice(1)
  return lines.map((line) => {
    const [key = '', , , allowedIps = '', handshake = NEVER] = line.split('\t')
    return { key, allowedIps, handshake }
  })
}

/** Pings both ways between the first two hosts while an action runs. @returns how many were lost */
async function lossOf(action: () => Promise<unknown>): Promise<number> {
  const running = [
    await lab.startPing(container(1), container(2), 20),
    await lab.startPing(container(2), container(1), 20),
  ]
  await action()
  const results = await Promise.all(running.map((each) => each.stop()))
  return results.reduce((sum, { lost }) => sum + lost, 0)
}

test('switched on by the config, without a lost packet; a host that does not encrypt gets them in clear', async () => {
  expect(
    await lossOf(async () => {
      await lab.putConfig(config('prefer'))
      await waitBoth('fl-wg.1')
    }),
  ).toBe(0)
  expect(await viaTo(host(1), host(3))).toBe('none')
  expect(await lab.ping(container(1), container(3), { count: 10 })).toMatchObject({ received: 10 })
  await wire.reset()
  expect(await lab.ping(container(1), container(2), { count: 10 })).toMatchObject({ received: 10 })
  expect(await wire.read(VXLAN_PORT)).toEqual({ in: 0, out: 0 })
  expect((await wire.read(51_820)).in).toBeGreaterThanOrEqual(10)
})

test('a daemon that is killed and started again costs no packet, and sends none in clear', async () => {
  await wire.reset()
  expect(
    await lossOf(async () => {
      await host(1).restart('SIGKILL')
      await lab.waitConverged(0, LONG)
    }),
  ).toBe(0)
  expect(await wire.read(VXLAN_PORT)).toEqual({ in: 0, out: 0 })
})

describe('what another program changes is repaired, and no packet goes in clear meanwhile', () => {
  const faults: readonly (readonly [string, () => Promise<unknown>, () => Promise<boolean>])[] = [
    [
      'a peer is removed',
      async () =>
        host(1).exec('wg', 'set', 'fl-wg.1', 'peer', (await peersOf(host(1)))[0]?.key ?? '', 'remove'),
      async () => (await peersOf(host(1))).some(({ handshake }) => handshake !== NEVER),
    ],
    [
      'its allowed-ips are taken',
      async () =>
        host(1).exec(
          'wg',
          'set',
          'fl-wg.1',
          'peer',
          (await peersOf(host(1)))[0]?.key ?? '',
          'allowed-ips',
          '',
        ),
      async () => (await peersOf(host(1))).some(({ allowedIps }) => allowedIps === `${host(2).address}/32`),
    ],
    [
      'the device is deleted',
      () => host(1).exec('ip', 'link', 'delete', 'fl-wg.1'),
      async () => {
        const isThere = (await host(1).exec('ip', '-o', 'link')).includes('fl-wg.1')
        return isThere && (await peersOf(host(1))).some(({ handshake }) => handshake !== NEVER)
      },
    ],
  ]
  test.each(faults)('%s', async (_, damage, isRepaired) => {
    await wire.reset()
    await damage()
    await host(1).waitUntil('the tunnel is back', isRepaired, LONG)
    await waitBoth('fl-wg.1')
    expect(await lab.ping(container(1), container(2), { count: 10 })).toMatchObject({ received: 10 })
    expect(await wire.read(VXLAN_PORT)).toEqual({ in: 0, out: 0 })
  })
})

test('a change of keys moves all packets to the other device, without a lost one', async () => {
  await wire.reset()
  expect(
    await lossOf(async () => {
      // A busy guest may have lost its way to etcd for a moment, where a change is refused.
      await waitFor(
        'a change of keys that is accepted',
        async () => {
          const { code, stderr } = await host(1).overlayctl('rotate-key')
          return code === 0 ? true : new Pending(stderr)
        },
        { timeoutMs: LONG, context: () => host(1).daemon.tail() },
      )
      await waitBoth('fl-wgb.1')
    }),
  ).toBe(0)
  expect(await wire.read(VXLAN_PORT)).toEqual({ in: 0, out: 0 })
  expect((await wire.read(51_821)).in).toBeGreaterThan(0)
})

test('required: nothing leaves or enters in clear, not even by a wrong entry; others are cut off', async () => {
  expect(
    await lossOf(async () => {
      await lab.putConfig(config('required'))
      for (const each of [host(1), host(2)])
        await each.waitUntil(
          'the guard is there',
          async () => (await each.exec('nft', 'list', 'tables')).includes('inet fl-wg.1'),
          LONG,
        )
    }),
  ).toBe(0)
  await waitVia(host(1), host(3), undefined)
  await wire.reset()
  // As another program would: the entry of the other host in clear, which the guard drops until it is
  // repaired.
  const [mac = ''] = (await host(1).exec('bridge', 'fdb', 'show', 'dev', Host.device)).split(' ')
  await host(1).exec('bridge', 'fdb', 'replace', mac, 'dev', Host.device, 'dst', host(2).address)
  await lab.ping(container(1), container(2), { count: 3 })
  await waitBoth('fl-wgb.1')
  await host(2).exec('nft', 'flush', 'ruleset')
  await host(2).waitUntil(
    'the guard is back',
    async () => (await host(2).exec('nft', 'list', 'tables')).includes('inet fl-wg.1'),
    LONG,
  )
  wire = await DatagramCounter.start(host(2).namespace, 'eth0', [VXLAN_PORT, ...PORTS])
  expect(await lab.ping(container(1), container(2), { count: 10 })).toMatchObject({ received: 10 })
  expect(await wire.read(VXLAN_PORT)).toEqual({ in: 0, out: 0 })
})

test('switched off by the config, without a lost packet; devices and guard go', async () => {
  expect(
    await lossOf(async () => {
      await lab.putConfig(NETWORK_CONFIG)
      await waitBoth('none')
      await waitVia(host(1), host(3), 'none')
    }),
  ).toBe(0)
  for (const each of [host(1), host(2)])
    await each.waitUntil(
      'nothing of it is left',
      async () => {
        const left = (await each.exec('ip', '-o', 'link')) + (await each.exec('nft', 'list', 'tables'))
        return !left.includes('fl-wg')
      },
      LONG,
    )
})
