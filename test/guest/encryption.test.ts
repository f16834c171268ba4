/**
 * Encryption by WireGuard under VXLAN: switched on host by host, through faults, a change of keys, a theft, a
 * flannel in the place of a host, and off again. Counters on the underlay show that no packet goes in clear
 * after the switch.
 */
import { encodeLeaseValue, unsignedText } from '../../src/etcd/codec/lease-codec'
import { readStateFile, writeStateFile } from '../../src/host/state-file'
import { ipv4, mac, parseIpv4 } from '../../src/model/address'
import { IdentitySecret } from '../../src/model/identity-secret'
import type { LeaseValue } from '../../src/model/lease'
import { PrivateKey } from '../../src/model/wireguard-secret'
import { DatagramCounter, VXLAN_PORT } from '../lab/datagrams'
import { type Container, Host } from '../lab/host'
import { ETCD_PREFIX, Lab, NETWORK_CONFIG } from '../lab/lab'
import { leaseKey } from '../lab/leases'
import { execOk, ipBatch } from '../lab/namespace'
import { patient } from '../lab/patience'
import { Pending, waitFor } from '../lab/wait'
import { FlannelHost } from '../support/flannel-host'
import { NEVER, tunnelPeers, viaTo, waitVia } from '../support/tunnels'

jest.setTimeout(patient(240_000))

/** UDP ports of the two WireGuard devices. */
const PORTS = [51_820, 51_821]
/**
 * Milliseconds for a change of keys, or a handshake that is tried again; a guest gets twenty times as many.
 */
const LONG = 10_000

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

const waitWay = (from: Host, to: Host, wanted: string | undefined): Promise<void> =>
  waitVia(from, to, wanted, LONG)

async function waitBoth(wanted: string): Promise<void> {
  await waitWay(host(1), host(2), wanted)
  await waitWay(host(2), host(1), wanted)
}

/** Runs overlayctl, which has to succeed. @returns what it printed */
async function command(on: Host, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await on.overlayctl(...args)
  if (code !== 0) throw new Error(`overlayctl ${args.join(' ')}: ${stderr}`)
  return stdout
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

/** A busy guest may have lost its way to etcd for a moment, where a change is refused. */
const withdraw = (on: Host, prefix: string): Promise<true> =>
  on.waitUntil(
    `it announces ${prefix} no more`,
    async () => {
      const { code, stderr } = await on.overlayctl('withdraw', prefix)
      return code === 0 || stderr.includes('does not announce')
    },
    LONG,
  )

/** Counts the packets that a host gets for a prefix. */
const countOf = (prefix: string): string =>
  `table inet shared { counter got {}; chain in { type filter hook input priority 0; ip daddr ${prefix} counter name got; }; }`

test('hosts that share a prefix get its packets each in its own way, and one gets all without a loss', async () => {
  const shared = '198.51.100.0/24'
  const gateways = [host(2), host(3)]
  await lab.putConfig(JSON.stringify({ ...JSON.parse(config('prefer')), Prefixes: { Allowed: [shared] } }))
  for (const each of gateways) {
    // Stands for a network behind the host: all of its addresses answer.
    await each.exec('ip', 'route', 'add', 'local', shared, 'dev', 'lo')
    await each.waitUntil(
      'it may announce the prefix',
      async () => (await each.overlayctl('announce', shared, '--share')).code === 0,
      LONG,
    )
  }
  const ways = (): Promise<string> => host(1).exec('ip', 'route', 'show', shared)
  await host(1).waitUntil(
    'two gateways',
    async () => (await ways()).match(/nexthop/g)?.length === gateways.length,
    LONG,
  )
  for (const each of gateways) await execOk(each.namespace, ['nft', countOf(shared)])
  const got = async (each: Host): Promise<number> =>
    Number(/packets (\d+)/.exec(await each.exec('nft', 'list', 'counter', 'inet', 'shared', 'got'))?.[1])
  await wire.reset()
  // The kernel chooses the gateway by the addresses.
  let last = 0
  await waitFor(
    'packets at both gateways',
    async () => {
      last = (last % 200) + 1
      const answer = await lab.ping(container(1), { address: `198.51.100.${last}` }, { count: 1 })
      if (answer.received === 0) return new Pending(answer.output)
      const counts = [await got(host(2)), await got(host(3))]
      return counts.every((count) => count > 0) || new Pending(counts.join())
    },
    { timeoutMs: LONG },
  )
  expect(await wire.read(VXLAN_PORT)).toEqual({ in: 0, out: 0 })
  expect((await wire.read(51_820)).in).toBeGreaterThanOrEqual(await got(host(2)))
  const running = await Promise.all(
    [1, last].map((end) => lab.startPing(container(1), { address: `198.51.100.${end}` }, 20)),
  )
  await withdraw(host(3), shared)
  await host(1).waitUntil('one gateway', async () => !(await ways()).includes('nexthop '), LONG)
  const before = await got(host(3))
  expect(await lab.ping(container(1), { address: '198.51.100.9' }, { count: 3 })).toMatchObject({
    received: 3,
  })
  const results = await Promise.all(running.map((each) => each.stop()))
  expect(results.map(({ lost }) => lost)).toEqual([0, 0])
  expect(await got(host(3))).toBe(before)
  expect(await wire.read(VXLAN_PORT)).toEqual({ in: 0, out: 0 })
  await withdraw(host(2), shared)
  for (const each of gateways) {
    await each.exec('ip', 'route', 'delete', 'local', shared, 'dev', 'lo')
    await each.exec('nft', 'delete', 'table', 'inet', 'shared')
  }
  await lab.putConfig(config('prefer'))
  await allAllowNoPrefix()
})

/** The next test counts what a kill costs: no change of the config may be under way then. */
async function allAllowNoPrefix(): Promise<void> {
  for (const each of lab.hosts) {
    await each.waitUntil(
      'no prefix is allowed any more',
      async () => {
        const { stdout } = await each.overlayctl('prefixes', '-o', 'json')
        return stdout !== '' && JSON.parse(stdout).allowed.length === 0
      },
      LONG,
    )
  }
}

/** Makes a device as if the network had had another VNI before. */
async function leaveTunnelDevice(on: Host): Promise<void> {
  const { subnet } = await on.subnetEnv()
  await ipBatch(on.namespace, [
    'link add fl-wg.9 type wireguard',
    `address add ${subnet.replace(/\.1\/.*/, '.0/32')} dev fl-wg.9`,
  ])
}

const waitRemoved = (on: Host) =>
  on.waitUntil(
    'the device of another VNI is removed',
    async () => !(await on.exec('ip', '-o', 'link')).includes('fl-wg.9'),
    LONG,
  )

test('a daemon that is killed and started again costs no packet, and sends none in clear', async () => {
  await wire.reset()
  expect(
    await lossOf(async () => {
      await host(1).stop('SIGKILL')
      await leaveTunnelDevice(host(1))
      host(1).start()
      await lab.waitConverged(0, LONG)
    }),
  ).toBe(0)
  expect(await wire.read(VXLAN_PORT)).toEqual({ in: 0, out: 0 })
  await waitRemoved(host(1))
})

/**
 * Writes the state file as it was before the other hosts had keys, and before the last change of the config.
 */
async function forgetKeys({ stateDirectory }: Host): Promise<void> {
  const { state } = await readStateFile(stateDirectory)
  if (state === undefined) throw new Error('there is no state file')
  const peers = state.peers.map(([key, text]): [string, string] => {
    const value = JSON.parse(text)
    delete value.BackendData?.WireGuard
    return [key, JSON.stringify(value)]
  })
  await writeStateFile(stateDirectory, { ...state, peers })
}

test('a state file that is older than the keys of other hosts costs no packet when etcd answers', async () => {
  const withPrefixes = { ...JSON.parse(config('prefer')), Prefixes: { Allowed: ['198.51.100.0/24'] } }
  await wire.reset()
  const loss = await lossOf(async () => {
    await host(1).stop('SIGKILL')
    await forgetKeys(host(1))
    await leaveTunnelDevice(host(1))
    // What the reconciler and the encryption do then, they do at once.
    await lab.putConfig(JSON.stringify(withPrefixes))
    lab.etcd.pause()
    try {
      host(1).start()
      await host(1).waitUntil(
        'a start from the state file',
        async () => host(1).daemon.output.includes('ready: '),
        LONG,
      )
    } finally {
      lab.etcd.resume()
    }
    await host(1).waitUntil(
      'the config of etcd',
      async () => host(1).daemon.output.includes('allowed prefixes 198.51.100.0/24 instead of none'),
      LONG,
    )
    await lab.waitConverged(0, LONG)
    await waitBoth('fl-wg.1')
    await waitRemoved(host(1))
  })
  expect(host(1).daemon.output).toContain('coming up from what was known')
  expect(loss).toBe(0)
  expect(await wire.read(VXLAN_PORT)).toEqual({ in: 0, out: 0 })
  await lab.putConfig(config('prefer'))
  await allAllowNoPrefix()
})

describe('what another program changes is repaired, and no packet goes in clear meanwhile', () => {
  const faults: readonly (readonly [string, () => Promise<unknown>, () => Promise<boolean>])[] = [
    [
      'a peer is removed',
      async () =>
        host(1).exec('wg', 'set', 'fl-wg.1', 'peer', (await tunnelPeers(host(1)))[0]?.key ?? '', 'remove'),
      async () => (await tunnelPeers(host(1))).some(({ handshake }) => handshake !== NEVER),
    ],
    [
      'its allowed-ips are taken',
      async () =>
        host(1).exec(
          'wg',
          'set',
          'fl-wg.1',
          'peer',
          (await tunnelPeers(host(1)))[0]?.key ?? '',
          'allowed-ips',
          '',
        ),
      async () =>
        (await tunnelPeers(host(1))).some(({ allowedIps }) => allowedIps === `${host(2).address}/32`),
    ],
    [
      'the device is deleted',
      () => host(1).exec('ip', 'link', 'delete', 'fl-wg.1'),
      async () => {
        const isThere = (await host(1).exec('ip', '-o', 'link')).includes('fl-wg.1')
        return isThere && (await tunnelPeers(host(1))).some(({ handshake }) => handshake !== NEVER)
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

test('a host that is pinned while it encrypts is not left for a moment', async () => {
  await wire.reset()
  const loss = await lossOf(async () => {
    const identity = (await command(host(1), 'identity')).trim()
    // A busy guest may have lost its way to etcd for a moment.
    await host(3).waitUntil(
      'the pin is accepted',
      async () => {
        const words = [`--public-ip=${host(1).address}`, `--key=${identity}`, '--certificate']
        const { code, stderr } = await host(3).overlayctl('enroll', ...words)
        return code === 0 || stderr.includes('is enrolled already')
      },
      LONG,
    )
    await host(1).waitForStatus('its pin', (status) => status.identity?.pin === 'own', LONG)
    await host(2).waitForStatus('the pin', (status) => status.identity?.pinned === 1, LONG)
  })
  expect(loss).toBe(0)
  expect(await wire.read(VXLAN_PORT)).toEqual({ in: 0, out: 0 })
})

test('a change of keys of a pinned host moves all packets to the other device, without a lost one', async () => {
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

describe('keys that an etcd writer without the identity announces for a pinned host', () => {
  /** A lease of the first host's subnet, as a thief writes it: with keys of its own. */
  async function theft(address: string): Promise<string> {
    const { mac: own } = await host(1).link()
    const keys = [PrivateKey.generate().publicKey(), PrivateKey.generate().publicKey()] as const
    // The turn is above those of the others, so that they would follow at once.
    const vtep = { vni: 1, mac: mac(Number.parseInt(own.replaceAll(':', ''), 16)) }
    const value: LeaseValue = {
      publicIp: parseIpv4(address) ?? ipv4(0),
      publicIpv6: undefined,
      backendType: 'vxlan',
      vtep: { ...vtep, wireguard: { turn: 1000, port: 51_820, keys } },
      vtep6: undefined,
    }
    const signature = IdentitySecret.generate().sign(unsignedText(value))
    return encodeLeaseValue({ ...value, signature })
  }
  const put = async (value: string): Promise<void> => {
    const { subnet } = await host(1).subnetEnv()
    const name = subnet.replace(/\.1\/(\d+)$/, '.0-$1')
    await lab.client.put(leaseKey(ETCD_PREFIX, name)).value(value)
  }

  test('and another address: refused, and packets to the host go on encrypted', async () => {
    await wire.reset()
    const loss = await lossOf(async () => {
      await put(await theft(host(3).address))
      await host(2).waitForStatus('a refusal', (status) => status.identity?.refused === 1, LONG)
      await host(2).daemon.waitForOutput(/its host has not proven the identity that is pinned/)
      expect(await viaTo(host(2), host(1))).toBe('fl-wgb.1')
      expect(await viaTo(host(2), host(3))).toBe('none')
    })
    expect(loss).toBe(0)
    expect(await wire.read(VXLAN_PORT)).toEqual({ in: 0, out: 0 })
  })

  test('and its own address: refused, and the host writes its lease again', async () => {
    await wire.reset()
    const loss = await lossOf(async () => {
      await put(await theft(host(1).address))
      await host(2).waitForStatus('no refusal', (status) => status.identity?.refused === 0, LONG)
      expect(await viaTo(host(2), host(1))).toBe('fl-wgb.1')
    })
    expect(loss).toBe(0)
    expect(await wire.read(VXLAN_PORT)).toEqual({ in: 0, out: 0 })
    await host(1).waitForStatus('its lease', ({ lease }) => lease?.state === 'held', LONG)
  })
})

test('prefer: a flannel that takes a host over gets packets in clear, which is told; and back', async () => {
  const seen = host(1).daemon.output.length
  expect(
    await lossOf(async () => {
      await host(2).stop('SIGKILL')
      const flannel = await FlannelHost.start(lab, host(2))
      expect(flannel.adopted).toBe(true)
      await waitWay(host(1), host(2), 'none')
    }),
  ).toBe(0)
  await host(1).daemon.waitForOutput(/gets packets in clear: it announces no key/, { from: seen })
  await host(1).waitForStatus(
    'two hosts without keys',
    ({ encryption }) => encryption?.withoutKey === 2 && encryption.peers.clear === 2,
    LONG,
  )
  await wire.reset()
  expect(await lab.ping(container(1), container(2), { count: 10 })).toMatchObject({ received: 10 })
  expect(await wire.read(VXLAN_PORT)).toEqual({ in: 10, out: 10 })
  expect(
    await lossOf(async () => {
      host(2).start()
      await waitBoth('fl-wgb.1')
    }),
  ).toBe(0)
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
  await waitWay(host(1), host(3), undefined)
  await wire.reset()
  // As another program would: the entry of the other host in clear, which the guard drops until it is
  // repaired.
  const [mac = ''] = (await host(1).exec('bridge', 'fdb', 'show', 'dev', Host.device)).split(' ')
  await host(1).exec('bridge', 'fdb', 'replace', mac, 'dev', Host.device, 'dst', host(2).address)
  await lab.ping(container(1), container(2), { count: 3 })
  await waitBoth('fl-wgb.1')
  // Flushes the counters on that host, too: those of the other end stay. All goes through the tunnel without
  // the guard, because no entry leads past it.
  const otherEnd = await DatagramCounter.start(host(1).namespace, 'eth0', [VXLAN_PORT])
  expect(
    await lossOf(async () => {
      await host(2).exec('nft', 'flush', 'ruleset')
      await host(2).waitUntil(
        'the guard is back',
        async () => (await host(2).exec('nft', 'list', 'tables')).includes('inet fl-wg.1'),
        LONG,
      )
    }),
  ).toBe(0)
  expect(await otherEnd.read(VXLAN_PORT)).toEqual({ in: 0, out: 0 })
  await otherEnd.stop()
  wire = await DatagramCounter.start(host(2).namespace, 'eth0', [VXLAN_PORT, ...PORTS])
  expect(await lab.ping(container(1), container(2), { count: 10 })).toMatchObject({ received: 10 })
  expect(await wire.read(VXLAN_PORT)).toEqual({ in: 0, out: 0 })
})

test('required: a flannel that takes a host over is cut off, which is told loudly; and back', async () => {
  const seen = host(1).daemon.output.length
  await host(2).stop('SIGKILL')
  await FlannelHost.start(lab, host(2))
  await waitWay(host(1), host(2), undefined)
  await host(1).daemon.waitForOutput(/NO PACKETS: encryption is required, and no key is announced/, {
    from: seen,
  })
  const { subnet } = await host(2).subnetEnv()
  await host(1).waitForStatus(
    'its problem',
    ({ state, problems }) =>
      state === 'degraded' &&
      problems.some((problem) => problem.includes(`${subnet.replace(/\.1\//, '.0/')} (it announces no key)`)),
    LONG,
  )
  await wire.reset()
  expect(await lab.ping(container(1), container(2), { count: 3 })).toMatchObject({ received: 0 })
  expect(await lab.ping(container(2), container(1), { count: 3 })).toMatchObject({ received: 0 })
  // WireGuard's own packets may pass: its devices stay in the kernel of that host.
  expect(await wire.read(VXLAN_PORT)).toEqual({ in: 0, out: 0 })
  host(2).start()
  await waitBoth('fl-wgb.1')
  // The first packets may meet the session of before, which the first host has dropped.
  await host(1).waitUntil(
    'an answer',
    async () => (await lab.ping(container(1), container(2), { count: 1 })).received === 1,
    LONG,
  )
  expect(await lab.ping(container(1), container(2), { count: 10 })).toMatchObject({ received: 10 })
})

test('switched off by the config, without a lost packet; devices and guard go', async () => {
  expect(
    await lossOf(async () => {
      await lab.putConfig(NETWORK_CONFIG)
      await waitBoth('none')
      await waitWay(host(1), host(3), 'none')
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
