/** The case of multicast: what it costs a sending container that other hosts get copies. */
import { type Container, ETCD_PREFIX, type Host } from '../../test/lab/lab'
import { execOk, ipBatch } from '../../test/lab/namespace'
import type { Case, Sample, Stage } from './case'
import { freshHost, launch, removeHost } from './daemon'
import type { Measure } from './dataplane-load'
import { type Pairing, ratiosOf, waysMetrics } from './ways'

const GROUP = '239.1.2.3'
const PORT = 11_111
const BYTES = 1000
/** Packets a second, if it is only shown that they arrive. */
const FEW = 200
/** Milliseconds that sockperf may take in addition to its load, on a busy machine. */
const PATIENCE_MS = 30_000

const WAYS = ['no export', 'to 1 host', 'to 2 hosts'] as const
const PAIRINGS: readonly Pairing[] = WAYS.slice(1).map((way) => [way, 'no export'])

const MEASURES: readonly Measure[] = [
  { key: 'sent', label: 'sent, thousand a second', digits: 1, better: 'more' },
  { key: 'cpu', label: 'CPU of the sender, us a packet', digits: 2, better: 'less' },
  { key: 'received', label: 'received by each, of what was sent', digits: 3 },
]

export const multicast: Case = {
  name: 'multicast',
  about:
    'A container sends 1000 B to a group as fast as it can (sockperf). Another container of its host, and ' +
    'one on each host that gets copies, has joined the group. The same sender is measured without ' +
    'multicast between hosts, with one other host that takes part, and with two. CPU is that of the ' +
    'sender: the kernel does nearly all its work here in the system calls of the sender, also the work ' +
    'that a real network leaves to the receiving hosts. Packets are counted by the IP stacks of the ' +
    'containers.',
  ownOnly: true,
  skips: (peers) => peers === 0,
  metrics: waysMetrics(MEASURES, WAYS, PAIRINGS),
  async measure(stage) {
    const { lab } = stage
    const before = (await lab.client.get(`${ETCD_PREFIX}/config`).string()) ?? ''
    const { Backend, ...rest } = JSON.parse(before)
    try {
      return await measureWays(stage, JSON.stringify({ ...rest, Backend: { ...Backend, Multicast: true } }))
    } finally {
      await lab.putConfig(before)
    }
  },
}

async function measureWays(stage: Stage, withMulticast: string): Promise<Sample> {
  const { lab, quiet } = stage
  const one = await startHost(stage)
  const two = await startHost(stage)
  const sender = await one.addContainer()
  const near = await joined(await one.addContainer())
  const far = await joined(await two.addContainer())
  await quiet()
  const sample: Record<string, number> = {}
  const measureWay = async (
    way: (typeof WAYS)[number],
    receivers: readonly Container[],
    out: readonly Container[],
  ) => {
    const figures = await send(sender, receivers, out, stage.effort.loadSeconds)
    for (const [key, figure] of Object.entries(figures)) sample[`${way}/${key}`] = figure
  }
  await measureWay('no export', [near], [far])
  await lab.putConfig(withMulticast)
  await waitForHosts([one, two])
  await measureWay('to 1 host', [near, far], [])
  const three = await startHost(stage)
  const farther = await joined(await three.addContainer())
  await waitForHosts([one, two, three])
  await measureWay('to 2 hosts', [near, far, farther], [])
  for (const host of [one, two, three]) await removeHost(stage, host)
  return { ...sample, ...ratiosOf(sample, MEASURES, PAIRINGS) }
}

async function startHost(stage: Stage): Promise<Host> {
  const host = await freshHost(stage)
  await launch(stage, host).ready()
  return host
}

/** Waits until each host sends to all the others. */
async function waitForHosts(hosts: readonly Host[]): Promise<void> {
  for (const host of hosts) {
    await host.waitForStatus('multicast', ({ multicast: now, problems }) => {
      return now?.hosts === hosts.length - 1 && now.bridges.length === 1 && problems.length === 0
    })
  }
}

/** Joins a container to the group; no program in it reads the packets. */
async function joined(container: Container): Promise<Container> {
  await ipBatch(container.namespace, [`address add ${GROUP}/32 dev eth0 autojoin`])
  return container
}

/**
 * Sends, and counts the packets that arrive.
 * @param receivers containers that get each packet once
 * @param strangers containers that get no packet
 * @throws {Error} if a stranger gets a packet, or a receiver gets more packets than were sent
 */
async function send(
  { namespace, address }: Container,
  receivers: readonly Container[],
  strangers: readonly Container[],
  seconds: number,
): Promise<Record<string, number>> {
  const all = [...receivers, ...strangers]
  const counts = () => Promise.all(all.map((each) => multicastPackets(each, 'In')))
  const [outBefore, inBefore] = [await multicastPackets({ namespace }, 'Out'), await counts()]
  const pace = seconds === 0 ? ` --pps=${FEW}` : ''
  const time = Math.max(1, seconds)
  const options = `-i ${GROUP} -p ${PORT} -m ${BYTES} -t ${time}${pace} --mc-tx-if ${address}`
  // The shell prints the CPU time of its children on the last of two lines: user and system.
  const output = await execOk(namespace, ['bash', '-c', `sockperf throughput ${options} && times`], {
    timeoutMs: PATIENCE_MS + time * 1000,
  })
  const rate = Number(/Message Rate is (\d+)/.exec(output)?.[1])
  const cpu = [...(output.trimEnd().split('\n').at(-1) ?? '').matchAll(/(\d+)m([\d.]+)s/g)]
    .map(([, minutes, rest]) => Number(minutes) * 60 + Number(rest))
    .reduce((sum, each) => sum + each, 0)
  const sent = (await multicastPackets({ namespace }, 'Out')) - outBefore
  const arrived = (await counts()).map((count, index) => count - (inBefore[index] ?? 0))
  const shares = arrived.map((count) => count / sent)
  if (
    !(sent > 0) ||
    shares.slice(receivers.length).some((share) => share > 0) ||
    shares.some((share) => share > 1)
  )
    throw new Error(`${sent} packets were sent, and the containers received ${arrived.join(', ')}`)
  return {
    sent: rate / 1000,
    cpu: (cpu * 1e6) / sent,
    received: Math.min(...shares.slice(0, receivers.length)),
  }
}

/** Number of packets to groups that a container's IP stack has received or sent so far. */
async function multicastPackets(
  { namespace }: Pick<Container, 'namespace'>,
  way: 'In' | 'Out',
): Promise<number> {
  const [names = '', values = ''] = (await execOk(namespace, ['cat', '/proc/net/netstat']))
    .split('\n')
    .filter((line) => line.startsWith('IpExt:'))
  return Number(values.split(' ')[names.split(' ').indexOf(`${way}McastPkts`)])
}
