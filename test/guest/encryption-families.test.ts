/**
 * Encryption of a network with IPv4 and IPv6, and of one with IPv6 alone: packets of both families and
 * multicast go through the tunnel, and none in clear.
 */
import { DatagramCounter, VXLAN_PORT } from '../lab/datagrams'
import type { Container } from '../lab/host'
import { IPV6_CONFIG, Lab } from '../lab/lab'
import { execOk } from '../lab/namespace'
import { patient } from '../lab/patience'
import { Pending, waitFor } from '../lab/wait'
import { Listener, multicastConfig, onceEach, sendTo, sourceOf } from '../support/multicast'

jest.setTimeout(patient(240_000))

const PORT = 51_820
/** Milliseconds for a handshake that is tried again; a guest gets twenty times as many. */
const LONG = 10_000
const GROUPS = ['239.1.2.3', 'ff05::77']
/** Bytes of the headers of a ping: those of IP, and eight of ICMP. */
const PING_HEADERS = { IPv4: 28, IPv6: 48 }

const encrypted = (config: string): string => {
  const { Backend, ...rest } = JSON.parse(config)
  return JSON.stringify({ ...rest, Backend: { ...Backend, Encryption: 'prefer' } })
}

let lab: Lab
let wire: DatagramCounter
let containers: readonly [Container, Container]
const listeners: Listener[] = []

async function start(config: string): Promise<void> {
  lab = await Lab.create({ hosts: 2, config })
  await lab.startAll(LONG)
  containers = [await lab.host(1).addContainer(), await lab.host(2).addContainer()]
  wire = await DatagramCounter.start(lab.host(2).namespace, 'eth0', [VXLAN_PORT, PORT])
}
afterEach(async () => {
  for (const listener of listeners.splice(0)) await listener.stop()
  await lab?.close()
})

/** Waits until the only forwarding entry of each device of each host leads through the tunnel. */
async function waitThroughTunnel(...devices: string[]): Promise<void> {
  for (const host of lab.hosts)
    for (const device of devices)
      await waitFor(
        `${device} of ${host.name} sends through the tunnel`,
        async () => {
          const shown = (await host.exec('bridge', 'fdb', 'show', 'dev', device)).trim()
          const entries = shown.split('\n').filter((line) => line.includes(' dst '))
          return (
            (entries.length > 0 && entries.every((entry) => entry.includes(' via fl-wg.1 '))) ||
            new Pending(shown)
          )
        },
        { timeoutMs: LONG, context: () => host.daemon.tail() },
      )
}

/** Pings both ways over the given addresses while an action runs. @returns how many were lost */
async function lossOf(addressOf: (of: Container) => string, action: () => Promise<unknown>): Promise<number> {
  const [one, two] = containers
  const running = [
    await lab.startPing(one, { address: addressOf(two) }, 20),
    await lab.startPing(two, { address: addressOf(one) }, 20),
  ]
  await action()
  const results = await Promise.all(running.map((each) => each.stop()))
  return results.reduce((sum, { lost }) => sum + lost, 0)
}

const four = ({ address }: Container): string => address
const six = ({ address6 = '' }: Container): string => address6

/** A ping of the largest size that the containers may send. */
async function fullPing(address: string): Promise<void> {
  const { mtu } = await lab.host(1).subnetEnv()
  const headers = PING_HEADERS[address.includes(':') ? 'IPv6' : 'IPv4']
  const { namespace } = containers[0]
  const size = `${mtu - headers}`
  await execOk(namespace, ['ping', '-n', '-c', '3', '-i', '0.1', '-M', 'do', '-s', size, address])
}

test('IPv4, IPv6 and multicast are switched on together, and none of them goes in clear', async () => {
  const config = encrypted(multicastConfig({ Multicast: true }))
  await start(multicastConfig({ Multicast: true }))
  // Docker's bridge keeps its MTU while it runs; the containers of this lab, too.
  expect(
    await lossOf(four, async () => {
      expect(
        await lossOf(six, async () => {
          await lab.putConfig(config)
          await waitThroughTunnel('flannel.1', 'flannel-v6.1', 'fl-mc.1')
        }),
      ).toBe(0)
    }),
  ).toBe(0)
  await wire.reset()
  for (const addressOf of [four, six])
    expect((await lab.ping(containers[0], { address: addressOf(containers[1]) })).lost).toBe(0)
  listeners.push(await Listener.start(containers[1], GROUPS))
  for (const group of GROUPS) {
    await sendTo(group, containers[0], 'word')
    await listeners[0]?.waitForEnd('word', LONG)
    const source = await sourceOf(containers[0], group)
    const counts = Object.entries(listeners[0]?.countOf('word') ?? {}).filter(([key]) =>
      key.startsWith(group),
    )
    expect(Object.fromEntries(counts)).toEqual(onceEach(group, source, 'word'))
  }
  expect(await wire.read(VXLAN_PORT)).toEqual({ in: 0, out: 0 })
  expect((await wire.read(PORT)).in).toBeGreaterThan(40)
})

test('an IPv6 network from its start: full packets, a restart, and nothing in clear', async () => {
  await start(encrypted(IPV6_CONFIG))
  await waitThroughTunnel('flannel-v6.1')
  await wire.reset()
  await fullPing(six(containers[1]))
  expect(
    await lossOf(six, async () => {
      await lab.host(1).restart('SIGKILL')
      await lab.waitConverged(0, LONG)
    }),
  ).toBe(0)
  expect(await wire.read(VXLAN_PORT)).toEqual({ in: 0, out: 0 })
})
