/**
 * A network of a thousand hosts that encrypt, set up by the daemon: one host of the lab, and a WireGuard
 * device for each of the others. Those are in the namespace of the test, where the routes of the lab's hosts
 * lead.
 */
import { randomBytes } from 'node:crypto'
import { encodeLeaseValue } from '../../src/etcd/codec/lease-codec'
import type { Kernel } from '../../src/kernel/kernel'
import { WireguardDevices } from '../../src/kernel/wireguard/devices'
import { ipv4, mac, parseIpv4 } from '../../src/model/address'
import { parseWireguardKey, type WireguardKey } from '../../src/model/kernel/wireguard'
import { PrivateKey } from '../../src/model/wireguard-secret'
import { openKernel, reported } from '../integration/kernel/network'
import { Host } from '../lab/host'
import { ETCD_PREFIX, Lab } from '../lab/lab'
import { leaseKey, manyPeers } from '../lab/leases'
import { execOk, ipBatch } from '../lab/namespace'
import { patient } from '../lab/patience'
import { run } from '../lab/process'
import { Pending, waitFor } from '../lab/wait'
import { NEVER, tunnelPeers } from '../support/tunnels'

jest.setTimeout(patient(240_000))

const COUNT = 1000
/** Most handshakes in flight (plan/encryption/tunnels.ts, MOST_TRIALS). */
const MOST_TRIALS = 500
/** UDP port of the first of the hosts; each has two. */
const FIRST_PORT = 20_000
/** The addresses of the hosts. */
const RANGE = '172.16.0.0/16'
const CONFIG = JSON.stringify({
  Network: '10.0.0.0/8',
  SubnetLen: 24,
  SubnetMax: '10.5.99.0',
  Backend: { Type: 'vxlan', Encryption: 'prefer' },
})
/** Puts in one transaction: etcd's default of `--max-txn-ops`. */
const PUTS = 128
/** Milliseconds for all handshakes; a guest gets twenty times as many. */
const LONG = 10_000
/** Milliseconds between two looks at a thousand peers, each of which takes the guest half a second. */
const INTERVAL = 1000

/** A key that nobody has the private half of: of the device that is not in use. Cheap, unlike a pair. */
function randomKey(): WireguardKey {
  const key = parseWireguardKey(randomBytes(32).toString('base64'))
  if (key === undefined) throw new Error('32 bytes are no key')
  return key
}

const others = manyPeers(COUNT).map((peer, index) => {
  const key = PrivateKey.generate()
  return {
    ...peer,
    link: `other${index}`,
    port: FIRST_PORT + 2 * index,
    key,
    // Once: it takes a guest 10 ms.
    publicKey: key.publicKey(),
    next: randomKey(),
  }
})

let lab: Lab
let host: Host
let kernel: Kernel
let wireguard: WireguardDevices

beforeAll(async () => {
  lab = await Lab.create({ hosts: 1, config: CONFIG })
  host = lab.host(1)
  // Before there is anybody who would have to be told of each device.
  await ipBatch(undefined, [
    `route add local ${RANGE} dev lo`,
    ...others.map(({ link }) => `link add ${link} type wireguard`),
  ])
  host.start()
  kernel = await openKernel()
  const opened = await WireguardDevices.open(kernel, (error) => reported.push(error))
  if (opened === undefined) throw new Error('this kernel has no WireGuard')
  wireguard = opened
  await lab.waitConverged(0, LONG)
})
afterAll(async () => {
  wireguard?.close()
  kernel?.close()
  await run(['ip', 'route', 'delete', 'local', RANGE, 'dev', 'lo'])
  try {
    // The kernel removes the devices of a namespace together: one by one they take it a minute.
    await lab?.addNamespace('others')
    await ipBatch(
      undefined,
      others.map(({ link }) => `link set ${link} netns others`),
    )
  } finally {
    await lab?.close()
  }
  expect(reported).toEqual([])
})

/**
 * Gives the other hosts their keys, and the lab's host as their peer. Their ports are closed until they are
 * up.
 */
async function configureOthers(): Promise<void> {
  const [, first] = /"Keys":\["([^"]+)"/.exec(await ownLease()) ?? []
  const publicKey = first === undefined ? undefined : parseWireguardKey(first)
  const address = parseIpv4(host.address)
  if (publicKey === undefined || address === undefined) throw new Error('the host announces no key')
  const links = new Map((await kernel.links()).map(({ name, index }) => [name, index]))
  for (const { link, port, key } of others) {
    const index = links.get(link)
    if (index === undefined) throw new Error(`there is no ${link}`)
    await wireguard.configure(index, { privateKey: key, port })
    const allowedIps = [{ address, length: 32 }]
    expect(await wireguard.apply(index, [{ kind: 'set-peer', publicKey, allowedIps }])).toEqual([])
  }
}

/** The value of the only lease. */
async function ownLease(): Promise<string> {
  const [value = ''] = Object.values(await lab.client.getAll().prefix(leaseKey(ETCD_PREFIX, '')).strings())
  return value
}

async function announceOthers(): Promise<void> {
  const puts = others.map(({ subnet, publicIp, mac: text, port, publicKey, next }) => {
    const keys = [publicKey, next] as const
    const wireguard = { turn: 0, port, keys }
    const value = encodeLeaseValue({
      publicIp: parseIpv4(publicIp) ?? ipv4(0),
      publicIpv6: undefined,
      backendType: 'vxlan',
      vtep: { vni: 1, mac: mac(Number.parseInt(text.replaceAll(':', ''), 16)), wireguard },
      vtep6: undefined,
    })
    return {
      request_put: { key: Buffer.from(leaseKey(ETCD_PREFIX, subnet)), value: Buffer.from(value) },
    }
  })
  for (let from = 0; from < puts.length; from += PUTS)
    await lab.client.kv.txn({ success: puts.slice(from, from + PUTS) })
}

/** Peers that a handshake is tried with: those with keepalive that have had none. */
async function inFlight(): Promise<{ readonly all: number; readonly trying: number }> {
  const peers = await tunnelPeers(host)
  const trying = peers.filter(({ handshake, keepalive }) => handshake === NEVER && keepalive > 0).length
  expect(trying).toBeLessThanOrEqual(MOST_TRIALS)
  return { all: peers.length, trying }
}

/** Forwarding entries: how many there are, and how many lead through the tunnel. */
async function entries(): Promise<{ readonly all: number; readonly tunnel: number }> {
  const shown = await host.exec('bridge', 'fdb', 'show', 'dev', Host.device)
  const lines = shown.split('\n').filter((line) => line.includes(' dst 172.16.'))
  return { all: lines.length, tunnel: lines.filter((line) => line.includes(' via fl-wg.1 ')).length }
}

test('a thousand hosts that answer no handshake get packets in clear, and 500 are tried at once', async () => {
  await configureOthers()
  await announceOthers()
  await waitFor(
    'all forwarding entries, and 500 handshakes in flight',
    async () => {
      const [{ all, tunnel }, { trying }] = [await entries(), await inFlight()]
      expect(tunnel).toBe(0)
      return (all === COUNT && trying === MOST_TRIALS) || new Pending(`${all} entries, ${trying} handshakes`)
    },
    { timeoutMs: LONG, intervalMs: INTERVAL, context: () => host.daemon.tail() },
  )
})

test('when they answer, each has its key in the kernel, and gets its packets encrypted', async () => {
  await ipBatch(
    undefined,
    others.map(({ link }) => `link set ${link} up`),
  )
  await waitFor(
    'all forwarding entries through the tunnel',
    async () => {
      const [{ tunnel }, { all, trying }] = [await entries(), await inFlight()]
      return tunnel === COUNT || new Pending(`${tunnel} of ${COUNT}; ${all} peers, ${trying} in flight`)
    },
    { timeoutMs: LONG, intervalMs: INTERVAL, context: () => host.daemon.tail() },
  )
  const expected = new Map<WireguardKey, string>(
    others.map(({ publicKey, publicIp }) => [publicKey, `${publicIp}/32`]),
  )
  const found = await tunnelPeers(host)
  expect(new Map(found.map(({ key, allowedIps }) => [key, allowedIps]))).toEqual(expected)
  expect(found.every(({ handshake }) => handshake !== NEVER)).toBe(true)
  const neighbours = await execOk(host.namespace, ['ip', 'neigh', 'show', 'dev', Host.device])
  expect(neighbours.match(/ lladdr .* PERMANENT/g)).toHaveLength(COUNT)
  const { encryption } = await host.waitForStatus(
    'all peers encrypted',
    (status) => status.encryption?.peers.encrypted === COUNT && status.convergence.converged,
    LONG,
  )
  expect(encryption).toMatchObject({ peers: { encrypted: COUNT, clear: 0, none: 0 }, silent: 0 })
})
