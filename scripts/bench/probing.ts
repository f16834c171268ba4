/** The case of probing: what it costs a host that peers are asked whether packets get through. */
import { readdirSync, readFileSync } from 'node:fs'
import { Host } from '../../test/lab/lab'
import { run, runOk } from '../../test/lab/process'
import { Pending, sleep, waitFor } from '../../test/lab/wait'
import type { Case, Sample, Stage } from './case'
import { freshHost, launch, removeHost } from './daemon'
import { rssMb, wakeups } from './proc'

/** `answered`: all peers answer. `silent`: none does, as at a host that is cut off. */
const WAYS = ['off', 'answered', 'silent'] as const
type Way = (typeof WAYS)[number]

const MEASURES = [
  { key: 'cpuPercent', label: 'CPU, % of one', digits: 3 },
  { key: 'packetsPerSecond', label: 'small packets a second', digits: 1 },
  { key: 'answeredPart', label: 'part with an answer', digits: 3 },
  { key: 'wakeupsPerSecond', label: 'wakeups a second', digits: 1 },
  { key: 'rssMb', label: 'RSS, MB', digits: 0 },
] as const

/** Of `--settle`, after the start: its late work would be measured otherwise. */
const REST = 5

export const probing: Case = {
  name: 'probing',
  ownOnly: true,
  about:
    'Nothing changes but for the probes, and the firewall is not checked. All peers are one responder: it has their PublicIPs and overlay ' +
    'addresses, and a VXLAN device. CPU: the time of all threads on a processor ' +
    '(/proc/PID/task/*/schedstat), which includes what the kernel does for a packet that is sent.',
  skips: (peers) => peers === 0,
  metrics: WAYS.flatMap((way) =>
    MEASURES.map(({ key, label, digits }) => ({ key: `${way} ${key}`, label, digits, column: way })),
  ),
  async measure(stage) {
    const samples: Record<string, number> = {}
    for (const way of WAYS) {
      const sample = await measureWay(stage, way)
      for (const [key, value] of Object.entries(sample)) samples[`${way} ${key}`] = value
    }
    return samples
  },
}

async function measureWay(stage: Stage, way: Way): Promise<Sample> {
  const host = await freshHost(stage)
  // Each check of the firewall starts a program, which costs far more than probing.
  const flags = { probe: way === 'off' ? 'off' : 'on', 'iptables-resync': '86400' }
  const { pid, ready } = launch(stage, host, { flags })
  await ready()
  const close = way === 'answered' ? await answerFor(host) : async () => undefined
  try {
    await sleep(REST * stage.effort.settleMs)
    const seconds = stage.effort.idleSeconds
    const [sent, lost] = [await packets(host, 'packets'), await packets(host, 'lost')]
    const [cpu, woken, began] = [cpuNanoseconds(pid), wakeups(pid), performance.now()]
    await sleep(seconds * 1000)
    const passed = (performance.now() - began) / 1000
    const [used, wokenNow] = [cpuNanoseconds(pid) - cpu, wakeups(pid) - woken]
    const [newlySent, newlyLost] = [
      (await packets(host, 'packets')) - sent,
      (await packets(host, 'lost')) - lost,
    ]
    return {
      cpuPercent: used / passed / 1e7,
      packetsPerSecond: newlySent / passed,
      ...(newlySent > 0 && { answeredPart: 1 - newlyLost / newlySent }),
      wakeupsPerSecond: wokenNow / passed,
      rssMb: rssMb(pid),
    }
  } finally {
    await close()
    await removeHost(stage, host)
  }
}

/** The time of all threads on a processor, in nanoseconds. */
function cpuNanoseconds(pid: number): number {
  const times = readdirSync(`/proc/${pid}/task`).map((thread) =>
    Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]),
  )
  return times.reduce((sum, time) => sum + time, 0)
}

/** Small packets of both layers so far. */
async function packets(host: Host, what: 'packets' | 'lost'): Promise<number> {
  const text = await waitFor('metrics', () => host.metrics())
  const counts = [...text.matchAll(new RegExp(`^overlayd_probe_${what}_total\\{.*\\} (\\d+)$`, 'gm'))]
  return counts.reduce((sum, [, count]) => sum + Number(count), 0)
}

/**
 * Lets the machine of the test answer for all peers of a host: it is the host's default gateway.
 * @returns a function that ends it
 */
async function answerFor(host: Host): Promise<() => Promise<undefined>> {
  const subnet = await waitFor('a lease', async () => {
    const status = await host.status()
    if (status instanceof Pending) return status
    return status.lease?.subnet ?? new Pending('none')
  })
  const vtep = subnet.replace(/\/.*/, '')
  const link = JSON.parse(
    await runOk(['nsenter', `--net=/run/netns/${host.namespace}`, 'ip', '-j', 'link', 'show', Host.device]),
  ) as readonly { readonly address: string }[]
  const commands = [
    ['ip', 'link', 'add', 'answers', 'type', 'vxlan', 'id', '1', 'dstport', '8472', 'nolearning'],
    ['ip', 'link', 'set', 'answers', 'mtu', '1450', 'up'],
    // The peers' PublicIPs and subnets, and the hosts' subnets: see main.ts.
    ['ip', 'route', 'add', 'local', '172.16.0.0/12', 'dev', 'lo', 'table', 'main'],
    ['ip', 'route', 'add', 'local', '10.0.0.0/8', 'dev', 'lo', 'table', 'main'],
    ['ip', 'route', 'add', `${vtep}/32`, 'dev', 'answers', 'src', '10.255.0.0'],
    ['ip', 'neigh', 'add', vtep, 'lladdr', link[0]?.address ?? '', 'dev', 'answers'],
    ['bridge', 'fdb', 'append', '00:00:00:00:00:00', 'dev', 'answers', 'dst', host.address],
    // Packets are for the MACs of the peers.
    [
      'nft',
      'table netdev answers { chain in { type filter hook ingress device answers priority 0; ' +
        'meta pkttype set host; }; }',
    ],
  ] as const
  for (const command of commands) await runOk([...command])
  return async () => {
    for (const command of [
      ['nft', 'delete', 'table', 'netdev', 'answers'],
      ['ip', 'link', 'delete', 'answers'],
      ['ip', 'route', 'delete', 'local', '172.16.0.0/12', 'dev', 'lo', 'table', 'main'],
      ['ip', 'route', 'delete', 'local', '10.0.0.0/8', 'dev', 'lo', 'table', 'main'],
    ] as const)
      await run([...command])
    return undefined
  }
}
