/** WireGuard devices and peers, in a kernel that has WireGuard. */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Kernel } from '../../src/kernel/kernel'
import { WireguardDevices } from '../../src/kernel/wireguard/devices'
import { ipv4, type Prefix } from '../../src/model/address'
import type { ObservedLink } from '../../src/model/kernel/link'
import type {
  ObservedWireguard,
  WireguardKey,
  WireguardOperation,
  WireguardPeer,
} from '../../src/model/kernel/wireguard'
import { PrivateKey } from '../../src/model/wireguard-secret'
import {
  existing,
  openKernel,
  removeDevice,
  reported,
  requireSandbox,
  run,
  show,
} from '../integration/kernel/network'
import { patient } from '../lab/patience'
import { Pending, waitFor } from '../lab/wait'
import { ip, ip6, net, net6 } from '../unit/plan/support'

jest.setTimeout(patient(60_000))

const NAME = 'fl-wg.1'
const OTHER = 'fl-wgb.1'
const PORT = 51_820
const NOBODY = 4711

let kernel: Kernel
let wireguard: WireguardDevices
let index: number
const key = PrivateKey.generate()

async function make(name: string): Promise<ObservedLink> {
  await kernel.applyLink({ kind: 'create-wireguard', link: { name, mtu: 1440 } })
  return existing(kernel, name)
}

const raise = (link: ObservedLink) =>
  kernel.applyLink({ kind: 'set-link-up', index: link.index, name: link.name })

beforeAll(async () => {
  requireSandbox()
  run('ip link set lo up')
  kernel = await openKernel()
  const opened = await WireguardDevices.open(kernel, (error) => reported.push(error))
  if (opened === undefined) throw new Error('this kernel has no WireGuard')
  wireguard = opened
})

beforeEach(async () => {
  const link = await make(NAME)
  index = link.index
  await wireguard.configure(index, { privateKey: key, port: PORT })
  await raise(link)
})

afterEach(async () => {
  for (const name of [NAME, OTHER]) await removeDevice(kernel, name)
  expect(reported).toEqual([])
})

afterAll(() => {
  wireguard.close()
  kernel.close()
})

const keys = Array.from({ length: 1000 }, () => PrivateKey.generate().publicKey())
const keyOf = (n: number): WireguardKey => keys[n] ?? key.publicKey()
const peerOf = (n: number): WireguardPeer => ({
  publicKey: keyOf(n),
  endpoint: { address: n % 2 === 0 ? ipv4(0xc0000200 + n) : ip6(`fd77::${n.toString(16)}`), port: PORT + n },
  allowedIps: [{ address: ipv4(0xc0000200 + n), length: 32 }, net6(`fd77::${n.toString(16)}/128`)],
  keepalive: n,
})
const set = (peer: WireguardPeer): WireguardOperation => ({ kind: 'set-peer', ...peer })
const THREE = [0, 1, 2].map(peerOf)

async function device(): Promise<ObservedWireguard> {
  const found = await wireguard.read(index)
  if (found === undefined) throw new Error(`there is no ${NAME}`)
  return found
}

/** The peers as they were set, without what the kernel counts. */
const peers = async (): Promise<Map<WireguardKey, WireguardPeer>> =>
  new Map(
    Array.from((await device()).peers.values(), ({ publicKey, endpoint, allowedIps, keepalive }) => {
      if (endpoint === undefined) throw new Error(`${publicKey} has no endpoint`)
      const sorted = allowedIps.toSorted((a, b) => (a.address < b.address ? -1 : 1))
      return [publicKey, { publicKey, endpoint, allowedIps: sorted, keepalive }]
    }),
  )
const mapOf = (some: readonly WireguardPeer[]) => new Map(some.map((each) => [each.publicKey, each]))

describe('a device', () => {
  test('has the key and the port that it was given, as wg sees them too', async () => {
    expect(await device()).toEqual({
      index,
      name: NAME,
      publicKey: key.publicKey(),
      port: PORT,
      peers: new Map(),
    })
    expect(run(`wg show ${NAME} public-key`).trim()).toBe(key.publicKey())
    expect(run(`wg show ${NAME} private-key`).trim()).toBe(key.text())
    expect(await kernel.link(NAME)).toMatchObject({
      kind: 'wireguard',
      mtu: 1440,
      up: true,
      vxlan: undefined,
    })
  })

  test('has neither when it was just made, and gets one without the other', async () => {
    const { index: other } = await make(OTHER)
    expect(await wireguard.read(other)).toMatchObject({ publicKey: undefined, port: 0 })
    await wireguard.configure(other, { port: PORT + 1 })
    expect(await wireguard.read(other)).toMatchObject({ publicKey: undefined, port: PORT + 1 })
    await wireguard.configure(other, { privateKey: key })
    expect(await wireguard.read(other)).toMatchObject({ publicKey: key.publicKey(), port: PORT + 1 })
  })

  test('is not made again under a name that is taken', async () => {
    await expect(make(NAME)).rejects.toMatchObject({
      code: 'name-taken',
      message: `cannot create ${NAME}: there is a device of kind wireguard of that name`,
    })
  })

  test('gets another MTU in place', async () => {
    await kernel.applyLink({ kind: 'change-link', index, name: NAME, mtu: 1380 })
    expect(await kernel.link(NAME)).toMatchObject({ index, mtu: 1380 })
  })

  test('is told apart from no device, and from a device of another kind', async () => {
    const [lo] = show('ip -j link show lo')
    expect(await wireguard.read(NOBODY)).toBeUndefined()
    expect(await wireguard.read(lo?.['ifindex'] as number)).toBeUndefined()
    await expect(wireguard.configure(NOBODY, { port: 1 })).rejects.toMatchObject({
      code: 'netlink-refused',
      errnoName: 'ENODEV',
    })
    const failures = await wireguard.apply(NOBODY, THREE.map(set))
    expect(failures.map(({ operation }) => operation)).toEqual(THREE.map(set))
    expect(failures[0]?.error).toMatchObject({ errnoName: 'ENODEV' })
  })
})

describe('a port that another program has', () => {
  const socket = createSocket('udp4')
  const TAKEN = PORT + 7

  beforeAll(async () => {
    socket.bind({ port: TAKEN, address: '0.0.0.0', exclusive: true })
    await once(socket, 'listening')
  })
  afterAll(() => void socket.close())

  test('is refused and named, and nothing is changed', async () => {
    await expect(
      wireguard.configure(index, { port: TAKEN, privateKey: PrivateKey.generate() }),
    ).rejects.toMatchObject({ code: 'port-in-use', message: expect.stringContaining(`UDP port ${TAKEN}`) })
    expect(await device()).toMatchObject({ port: PORT, publicKey: key.publicKey() })
  })

  test('is found when the device is set up, if it was down', async () => {
    const link = await make(OTHER)
    await wireguard.configure(link.index, { port: TAKEN })
    await expect(raise(link)).rejects.toMatchObject({
      code: 'port-in-use',
      message: `cannot set ${OTHER} up: its UDP port is in use by another program`,
    })
  })
})

describe('peers', () => {
  test('are read as they were set, as wg sees them too', async () => {
    expect(await wireguard.apply(index, THREE.map(set))).toEqual([])
    expect(await peers()).toEqual(mapOf(THREE))
    const lines = run(`wg show ${NAME} dump`).trim().split('\n').slice(1)
    expect(lines.map((line) => line.split('\t').slice(0, 4)).sort()).toEqual(
      [
        [keyOf(0), '(none)', '192.0.2.0:51820', '192.0.2.0/32,fd77::/128'],
        [keyOf(1), '(none)', '[fd77::1]:51821', '192.0.2.1/32,fd77::1/128'],
        [keyOf(2), '(none)', '192.0.2.2:51822', '192.0.2.2/32,fd77::2/128'],
      ].sort(),
    )
  })

  test('change alone, field by field, and stay when nothing changes', async () => {
    await wireguard.apply(index, THREE.map(set))
    await wireguard.apply(index, THREE.map(set))
    const [, second, third] = THREE
    const endpoint = { address: ip('192.0.2.77'), port: 7 }
    const allowedIps = [net('192.0.2.77/32')]
    expect(
      await wireguard.apply(index, [
        { kind: 'set-peer', publicKey: keyOf(0), keepalive: 9 },
        { kind: 'set-peer', publicKey: keyOf(1), endpoint },
        { kind: 'set-peer', publicKey: keyOf(2), allowedIps },
      ]),
    ).toEqual([])
    expect(await peers()).toEqual(
      mapOf([
        { ...peerOf(0), keepalive: 9 },
        { ...peerOf(1), ...second, endpoint },
        { ...peerOf(2), ...third, allowedIps },
      ]),
    )
  })

  test('are removed, also a second time; a peer that is only changed is not made', async () => {
    await wireguard.apply(index, THREE.map(set))
    const remove = { kind: 'remove-peer', publicKey: keyOf(1) } as const
    expect(
      await wireguard.apply(index, [
        remove,
        remove,
        { kind: 'set-peer', publicKey: keyOf(1), keepalive: 3, updateOnly: true },
        { kind: 'set-peer', publicKey: keyOf(2), keepalive: 3, updateOnly: true },
      ]),
    ).toEqual([])
    expect(await peers()).toEqual(mapOf([peerOf(0), { ...peerOf(2), keepalive: 3 }]))
  })

  test('lose an address that a later peer gets, which a dump shows', async () => {
    await wireguard.apply(index, THREE.map(set))
    const both = [...peerOf(0).allowedIps, ...peerOf(1).allowedIps]
    await wireguard.apply(index, [{ kind: 'set-peer', publicKey: keyOf(2), allowedIps: both }])
    const found = await peers()
    expect([0, 1, 2].map((n) => found.get(keyOf(n))?.allowedIps.length)).toEqual([0, 0, 4])
  })

  test('with the key of the device itself are ignored', async () => {
    expect(await wireguard.apply(index, [set({ ...peerOf(0), publicKey: key.publicKey() })])).toEqual([])
    expect(await peers()).toEqual(new Map())
  })

  test('that the kernel refuses keep no other from being made', async () => {
    const bad = (n: number): WireguardPeer => ({
      ...peerOf(n),
      allowedIps: [{ address: ipv4(n), length: 33 }],
    })
    const refused = new Set([0, 70, 127])
    const many = Array.from({ length: 130 }, (_, n) => (refused.has(n) ? bad(n) : peerOf(n)))
    const failures = await wireguard.apply(index, many.map(set))
    expect(failures.map(({ operation }) => operation.publicKey)).toEqual([...refused].map(keyOf))
    expect(failures.map(({ error }) => error.message)).toEqual(
      [...refused].map((n) => `cannot set the WireGuard peer ${keyOf(n)}: invalid argument (EINVAL)`),
    )
    const made = await peers()
    const good = many.filter((_, n) => !refused.has(n))
    expect(new Map([...made].filter(([, { allowedIps }]) => allowedIps.length > 0))).toEqual(mapOf(good))
  })

  test('and addresses in thousands are read in many parts, and joined', async () => {
    const allowedIps = Array.from(
      { length: 700 },
      (_, n): Prefix => ({ address: ipv4(0x0a000000 + n), length: 32 }),
    )
    const many = keys.map((_, n) => (n === 500 ? { ...peerOf(n), allowedIps } : peerOf(n)))
    expect(await wireguard.apply(index, many.map(set))).toEqual([])
    expect(await peers()).toEqual(mapOf(many))
    const gone = keys.slice(10).map((publicKey) => ({ kind: 'remove-peer', publicKey }) as const)
    expect(await wireguard.apply(index, gone)).toEqual([])
    expect(await peers()).toEqual(mapOf(many.slice(0, 10)))
  })

  test('that have shaken hands say when, and what they exchanged', async () => {
    const other = await make(OTHER)
    const otherKey = PrivateKey.generate()
    await wireguard.configure(other.index, { privateKey: otherKey, port: PORT + 1 })
    await raise(other)
    const before = Date.now()
    const towards = (publicKey: WireguardKey, port: number): WireguardPeer => {
      return { publicKey, endpoint: { address: ip('127.0.0.1'), port }, allowedIps: [], keepalive: 25 }
    }
    expect((await wireguard.apply(other.index, [set(towards(key.publicKey(), PORT))])).length).toBe(0)
    await wireguard.apply(index, [set(towards(otherKey.publicKey(), PORT + 1))])
    const peer = await waitFor('a handshake', async () => {
      const found = (await device()).peers.get(otherKey.publicKey())
      const isDone = found?.lastHandshake !== undefined && found.received > 0n
      return isDone ? found : new Pending(`${found?.lastHandshake} ${found?.received}`)
    })
    expect(peer.lastHandshake).toBeGreaterThan(before - 2000)
    expect(peer.lastHandshake).toBeLessThanOrEqual(Date.now())
    expect(peer.sent).toBeGreaterThan(0n)
  })

  test('are changed until the signal, and between two messages', async () => {
    const controller = new AbortController()
    const running = wireguard.apply(
      index,
      keys.map((_, n) => set(peerOf(n))),
      controller.signal,
    )
    await nextTurn()
    controller.abort(new Error('enough'))
    await expect(running).rejects.toThrow('enough')
    const { size } = await peers()
    expect(size).toBeGreaterThan(0)
    expect(size).toBeLessThan(keys.length)
  })
})

describe('IPv6 packets to the device', () => {
  const TABLE = 51_820
  const wayOf = () => run(`ip -6 route get fd99::1 from fd77::1 oif ${NAME}`)
  const link = () => ({ index, name: NAME })

  beforeEach(() => {
    run('ip link add under0 type dummy')
    run('ip link set under0 up')
    run('ip -6 address add fd77::1/64 dev under0 nodad')
    run('ip -6 route add default via fd77::2 dev under0')
  })
  afterEach(async () => {
    await wireguard.removeRule6(NAME, TABLE)
    run('ip link delete under0')
  })

  test('leave by another interface without the rule, and by the device with it', async () => {
    expect(wayOf()).toContain('dev under0')
    expect(await wireguard.isRule6Right(link(), TABLE)).toBe(false)
    expect(await wireguard.ensureRule6(link(), TABLE)).toBe(true)
    expect(wayOf()).toContain(`dev ${NAME}`)
    expect(await wireguard.ensureRule6(link(), TABLE)).toBe(false)
    expect(await wireguard.isRule6Right(link(), TABLE)).toBe(true)
  })

  test('are refused while the device is down', async () => {
    await wireguard.ensureRule6(link(), TABLE)
    run(`ip link set ${NAME} down`)
    expect(wayOf).toThrow('No route to host')
    expect(await wireguard.isRule6Right(link(), TABLE)).toBe(false)
    run(`ip link set ${NAME} up`)
    expect(await wireguard.ensureRule6(link(), TABLE)).toBe(true)
    expect(wayOf()).toContain(`dev ${NAME}`)
  })

  test('leave by a device that was made again', async () => {
    await wireguard.ensureRule6(link(), TABLE)
    await removeDevice(kernel, NAME)
    const again = await make(NAME)
    await raise(again)
    expect(await wireguard.ensureRule6({ index: again.index, name: NAME }, TABLE)).toBe(true)
    expect(wayOf()).toContain(`dev ${NAME}`)
  })
})
