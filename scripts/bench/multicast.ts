/** What it costs a container that sends by multicast when other hosts get copies. */
import { type Container, ETCD_PREFIX, type Host } from '../../test/support/lab'
import { execOk, ipBatch } from '../../test/support/namespace'
import type { Case, Sample, Stage } from './case'
import { freshHost, launch, removeHost } from './daemon'
import type { Measure } from './dataplane-load'
import { type Pairing, ratiosOf, waysMetrics } from './ways'

const GROUP = '239.1.2.3'
const PORT = 11_111
const BYTES = 1000
/** Packets in a second, where it is only shown that they get through. */
const FEW = 200
/** What sockperf may take besides its load, on a busy machine. */
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
    'A container sends 1000 B to a group as fast as it can (sockperf); another one of its host, and one on each host that gets copies, has joined. The same sender in turn while the network has no multicast between hosts, with one other host that takes part, and with two. CPU is that of the sender, in whose system calls the kernel does nearly all work here: also what a real network leaves to the hosts that receive. Packets are counted by the IP stacks of the containers.',
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

/** Waits until each of them sends to all the others. */
async function waitForHosts(hosts: readonly Host[]): Promise<void> {
  for (const host of hosts) {
    await host.waitForStatus('multicast', ({ multicast: now, problems }) => {
      return now?.hosts === hosts.length - 1 && now.bridges.length === 1 && problems.length === 0
    })
  }
}

/** Has a container be in the group, with nobody who reads what comes. */
async function joined(container: Container): Promise<Container> {
  await ipBatch(container.namespace, [`address add ${GROUP}/32 dev eth0 autojoin`])
  return container
}

/**
 * Sends.
 * @param receivers who hears each packet once
 * @param strangers who hears none
 * @throws {Error} when someone hears what is not for him, or hears it twice
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
  const sockperf = `sockperf throughput -i ${GROUP} -p ${PORT} -m ${BYTES} -t ${time}${pace} --mc-tx-if ${address}`
  // The shell tells what its children took: of two lines the last, user and system.
  const output = await execOk(namespace, ['bash', '-c', `${sockperf} && times`], {
    timeoutMs: PATIENCE_MS + time * 1000,
  })
  const rate = Number(/Message Rate is (\d+)/.exec(output)?.[1])
  const cpu = [...(output.trimEnd().split('\n').at(-1) ?? '').matchAll(/(\d+)m([\d.]+)s/g)]
    .map(([, minutes, rest]) => Number(minutes) * 60 + Number(rest))
    .reduce((sum, each) => sum + each, 0)
  const sent = (await multicastPackets({ namespace }, 'Out')) - outBefore
  const heard = (await counts()).map((count, index) => count - (inBefore[index] ?? 0))
  const shares = heard.map((count) => count / sent)
  if (
    !(sent > 0) ||
    shares.slice(receivers.length).some((share) => share > 0) ||
    shares.some((share) => share > 1)
  )
    throw new Error(`${sent} packets were sent, and heard ${heard.join(', ')} times`)
  return {
    sent: rate / 1000,
    cpu: (cpu * 1e6) / sent,
    received: Math.min(...shares.slice(0, receivers.length)),
  }
}

/** Packets to groups that a container's IP stack has taken or sent so far. */
async function multicastPackets(
  { namespace }: Pick<Container, 'namespace'>,
  way: 'In' | 'Out',
): Promise<number> {
  const [names = '', values = ''] = (await execOk(namespace, ['cat', '/proc/net/netstat']))
    .split('\n')
    .filter((line) => line.startsWith('IpExt:'))
  return Number(values.split(' ')[names.split(' ').indexOf(`${way}McastPkts`)])
}
