/**
 * A path that carries smaller packets than the device sends: found by probes, put on the route, told to
 * containers by the kernel, kept over a restart, and taken back when the path recovers.
 */
import type { Status } from '../../../src/api/status'
import { type Container, DUAL_STACK_CONFIG, Host, Lab } from '../../lab/lab'
import { execOk, inNamespace, setSysctl } from '../../lab/namespace'
import { patient } from '../../lab/patience'
import { run } from '../../lab/process'
import { Pending, waitFor } from '../../lab/wait'

jest.setTimeout(patient(240_000))

/** A full packet goes out each 10 s, and a search takes about 30 packets, one a second. */
const FOUND = 90_000
/** Bytes of the largest packet that gets through: of a UDP datagram, VXLAN and Ethernet take 30. */
const CARRIED = 1350
const RULES =
  `chain in { type filter hook prerouting priority -400; ` +
  `udp dport 8472 udp length > ${CARRIED + 30} drop; };`

let lab: Lab
let containers: readonly Container[] = []

beforeAll(async () => {
  lab = await Lab.create({ hosts: 2, config: DUAL_STACK_CONFIG })
  for (const host of lab.hosts) await setSysctl(host.namespace, 'net/ipv4/ping_group_range', '0 0')
  lab.host(1).start({ flags: { probe: 'on' } })
  lab.host(2).start({ flags: { probe: 'on', 'path-mtu': 'off' } })
  await lab.waitConverged()
  containers = await Promise.all(lab.hosts.map((host) => host.addContainer()))
})
afterAll(() => lab?.close())

const [one, two] = [() => lab.host(1), () => lab.host(2)]

const container = (number: 1 | 2): Container => {
  const found = containers[number - 1]
  if (found === undefined) throw new Error(`no container on host ${number}`)
  return found
}

const statusOf = (host: Host, what: string, isSo: (status: Status) => boolean): Promise<Status> =>
  waitFor(
    `${what} at ${host.name}`,
    async () => {
      const status = await host.status()
      // A status for which etcd does not answer in time has one more problem.
      if (status instanceof Pending || (status.etcd.connected && isSo(status))) return status
      const { state, problems, warnings, mesh, peers } = status
      return new Pending(JSON.stringify({ state, problems, warnings, mesh, peers }))
    },
    { timeoutMs: FOUND, context: () => host.daemon.tail() },
  )

const probesOf = ({ peers }: Status) => peers.map(({ probe }) => [probe?.fullSize, probe?.pathMtu])
const isWide = (status: Status): boolean =>
  probesOf(status).length === 2 && probesOf(status).every(([fullSize]) => fullSize === 'passes')
const isNarrow = (status: Status): boolean =>
  probesOf(status).length === 2 && probesOf(status).every(([, pathMtu]) => pathMtu === CARRIED)

/** The MTUs of a host's routes to its peer, IPv4 and IPv6. */
async function routeMtus(host: Host): Promise<(string | undefined)[]> {
  const shown = [
    await host.exec('ip', 'route', 'show', 'dev', Host.device, 'proto', '79'),
    await host.exec('ip', '-6', 'route', 'show', 'dev', Host.device6, 'proto', '79'),
  ]
  return shown.map((each) => /mtu (\d+)/.exec(each)?.[1])
}
const LIMITED = [`${CARRIED}`, `${CARRIED}`]
const NONE = [undefined, undefined]

const waitMtus = (host: Host, wanted: readonly (string | undefined)[]): Promise<true> =>
  host.waitUntil(
    `the MTUs ${wanted} of its routes`,
    async () => `${await routeMtus(host)}` === `${wanted}`,
    FOUND,
  )

/** What ping prints for packets of that many bytes, not to be fragmented. */
async function pingOf(bytes: number, address: string): Promise<string> {
  const size = `${bytes - (address.includes(':') ? 48 : 28)}`
  const command = ['ping', '-n', '-c', '2', '-i', '0.1', '-W', '1', '-M', 'do', '-s', size, address] as const
  const { stdout, stderr } = await run(inNamespace(container(1).namespace, command))
  return stdout + stderr
}

test('full packets pass, and no route has an MTU of its own', async () => {
  for (const host of lab.hosts) {
    await statusOf(host, 'packets of full size', isWide)
    expect(await routeMtus(host)).toEqual(NONE)
  }
})

test('where large packets vanish, the size is found, and containers learn it with their first packet', async () => {
  // Both ways: a host that knows the size answers larger packets in fragments, which get through.
  for (const host of lab.hosts) await execOk(host.namespace, ['nft', `table inet narrow { ${RULES} }`])
  const status = await statusOf(one(), 'the path MTU', isNarrow)
  expect(status).toMatchObject({ state: 'healthy', mesh: { smallerPathMtu: 2 } })
  expect(status.warnings?.join()).toContain('smaller packets')
  await waitMtus(one(), LIMITED)
  expect(await pingOf(1400, container(2).address)).toMatch(/Frag(mentation)? needed.*mtu ?= ?1350/i)
  expect(await pingOf(1400, container(2).address6 ?? '')).toMatch(/Packet too big.*mtu ?= ?1350/i)
  for (const address of [container(2).address, container(2).address6 ?? ''])
    expect(await pingOf(CARRIED, address)).toContain(' 2 received')
  const events = await one().overlayctl('events')
  expect(events.stdout).toMatch(/no packet of more than 1350 bytes gets through/)
  const peers = await one().overlayctl('peers')
  expect(peers.stdout).toContain('only packets of up to 1350 bytes get through')
  expect((await one().overlayctl('metrics')).stdout).toMatch(/^overlayd_probe_mtu_limited_peers 2$/m)
})

test('a host with --path-mtu=off tells it, and changes no route', async () => {
  await statusOf(two(), 'the path MTU', isNarrow)
  expect(await routeMtus(two())).toEqual(NONE)
})

test('an MTU that another program takes away comes back', async () => {
  const route = (await one().exec('ip', 'route', 'show', 'dev', Host.device, 'proto', '79')).trim()
  const [to = ''] = route.split(' ')
  await one().exec('ip', 'route', 'change', to, 'via', to.replace(/\/.*/, ''), 'dev', Host.device, 'onlink')
  await waitMtus(one(), LIMITED)
})

test('a restart keeps the MTU, and tries the full size at once: nothing changes while the path is narrow', async () => {
  const monitor = await lab.monitor(one())
  await one().restart('SIGKILL')
  await lab.waitConverged()
  // The first answer comes with the loss of a full packet.
  const isTried = ({ peers }: Status): boolean => peers.every(({ probe }) => probe?.reach === 'answering')
  await statusOf(one(), 'the path MTU', (status) => isNarrow(status) && isTried(status))
  expect(await monitor.changes()).toEqual([])
  expect(await routeMtus(one())).toEqual(LIMITED)
})

test('when the path carries full packets again, the route has no MTU any more', async () => {
  for (const host of lab.hosts) await execOk(host.namespace, ['nft', 'delete', 'table', 'inet', 'narrow'])
  // The full size would be tried after ten minutes. A restart tries it at once.
  await one().restart()
  await statusOf(one(), 'packets of full size', isWide)
  await waitMtus(one(), NONE)
  // The container itself would remember the former MTU for ten minutes.
  await execOk(container(1).namespace, ['ip', 'route', 'flush', 'cache'])
  expect(await pingOf(1430, container(2).address)).toContain(' 2 received')
})
