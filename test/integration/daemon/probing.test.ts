/**
 * Probing of peers: what this host says when packets do not get through, and that it takes it back when they
 * do again. Nothing is taken out of the kernel for it.
 */

import { join } from 'node:path'
import { pingDocumentSchema } from '../../../src/api/documents'
import type { Status } from '../../../src/api/status'
import { type Host, Lab } from '../../lab/lab'
import { execOk, setSysctl } from '../../lab/namespace'
import { patient } from '../../lab/patience'
import { Pending, waitFor } from '../../lab/wait'
import { LOOKED_AT } from '../../support/way-in'

jest.setTimeout(patient(180_000))

/** Probing needs three lost packets, and a peer is asked once in a few seconds. */
const DETECTED = { timeoutMs: 40_000 }
const HEALTH_PORT = 8099

let lab: Lab

beforeAll(async () => {
  lab = await Lab.create({ hosts: 4 })
  for (const host of lab.hosts) {
    host.start({ flags: { probe: 'on', 'healthz-port': `${HEALTH_PORT}` } })
  }
  await lab.waitConverged()
})
afterAll(() => lab?.close())

/** Waits until the status of a host is as wanted. @param seen what is shown if it never is */
const statusOf = (
  host: Host,
  what: string,
  isSo: (status: Status) => boolean,
  deadline = DETECTED,
): Promise<Status> =>
  waitFor(
    `${what} at ${host.name}`,
    async () => {
      const status = await host.status()
      // A status for which etcd does not answer in time has one more problem.
      if (status instanceof Pending || (status.etcd.connected && isSo(status))) return status
      const { state, problems, warnings, mesh, peers } = status
      const probes = peers.map(({ publicIp, probe }) => [publicIp, probe])
      return new Pending(JSON.stringify({ state, problems, warnings, mesh, probes }))
    },
    deadline,
  )

const probeOf = (status: Status, peer: Host) =>
  status.peers.find(({ publicIp }) => publicIp === peer.address)?.probe

const isUnreachable = (peer: Host, layer: 'underlay' | 'overlay') => (status: Status) => {
  const probe = probeOf(status, peer)
  return probe?.reach === 'unreachable' && probe.layer === layer
}

const isWell = ({ state, mesh, warnings = [] }: Status): boolean =>
  state === 'healthy' && mesh?.peers.answering === 3 && warnings.length === 0

const allWell = (): Promise<unknown> =>
  Promise.all(lab.hosts.map((host) => statusOf(host, 'an answer of every peer', isWell)))

/**
 * Has rules in a table of their own, and removes them at the end. The host names its rules by then, and no
 * more afterwards: the daemon reads rules at its own pace.
 */
async function withRules(host: Host, rules: string, during: () => Promise<void>): Promise<void> {
  const isNamed = ({ problems, warnings = [] }: Status): boolean =>
    [...problems, ...warnings].some((text) => text.includes('table inet faults'))
  await execOk(host.namespace, ['nft', `table inet faults { ${rules} }`])
  try {
    await during()
    await statusOf(host, 'the host to name its rules', isNamed, { timeoutMs: LOOKED_AT })
  } finally {
    await execOk(host.namespace, ['nft', 'delete table inet faults'])
  }
  const isForgotten = (status: Status): boolean => !isNamed(status)
  await statusOf(host, 'the host to name its rules no more', isForgotten, { timeoutMs: LOOKED_AT })
}

async function metric(host: Host, sample: string): Promise<string | undefined> {
  const text = await host.metrics()
  if (text instanceof Pending) return undefined
  return text
    .split('\n')
    .find((line) => line.startsWith(`${sample} `))
    ?.slice(sample.length + 1)
}

async function readiness(host: Host): Promise<string> {
  const address = `http://127.0.0.1:${HEALTH_PORT}/readyz`
  const script = `fetch('${address}').then(async (r) => console.log(r.status, await r.text()))`
  return (await execOk(host.namespace, [process.execPath, '-e', script])).trim()
}

const eventsOf = async (host: Host, kind: string, about: Host): Promise<string[]> => {
  const { stdout } = await host.overlayctl(
    'events',
    `--kind=${kind}`,
    `--peer=${about.address}`,
    '-o',
    'json',
  )
  return stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => (JSON.parse(line) as { text: string }).text)
}

const routesOf = async (host: Host): Promise<string> =>
  execOk(host.namespace, ['ip', 'route', 'show', 'dev', 'flannel.1'])

test('every peer answers: round trip, no loss, packets of full size pass', async () => {
  await allWell()
  const [host, peer] = [lab.host(1), lab.host(2)]
  const status = await statusOf(
    host,
    'a packet of full size',
    (now) => probeOf(now, peer)?.fullSize === 'passes' && isWell(now),
  )
  const probe = probeOf(status, peer)
  expect(probe).toMatchObject({ reach: 'answering', loss: expect.any(Number), rttMs: expect.any(Number) })
  expect(probe?.rttMs).toBeGreaterThan(0)
  expect(status.mesh).toMatchObject({ state: 'on', watched: 3, unreachable: { underlay: 0, overlay: 0 } })
  await host.waitUntil('the metric of three that answer', async () => {
    return (await metric(host, 'overlayd_probe_peers{state="answering"}')) === '3'
  })
  expect(await metric(host, 'overlayd_probe_verdict{verdict="fine"}')).toBe('1')
  expect(Number(await metric(host, 'overlayd_probe_seconds_count'))).toBeGreaterThan(0)
  const { stdout, code } = await host.overlayctl('peers')
  expect(code).toBe(0)
  expect(stdout).toMatch(/REACH +RTT +LOSS/)
  expect(stdout).toMatch(/answering +[\d.]+ ms +\d+ %/)
  await host.waitUntil('the line of the mesh', async () => {
    return /^mesh +3 of 3 peers answer; 3 watched: RTT/m.test((await host.overlayctl('status')).stdout)
  })
})

test('VXLAN dropped at one host: it is cut off, and the others say that the overlay fails', async () => {
  const [broken, other] = [lab.host(1), lab.host(2)]
  const before = await routesOf(other)
  const [found, cured] = [
    await eventsOf(other, 'peer-unreachable', broken),
    await eventsOf(other, 'peer-reachable', broken),
  ]
  const rules = 'chain in { type filter hook input priority 0; udp dport 8472 drop; };'
  await withRules(broken, rules, async () => {
    const cut = await statusOf(broken, 'that it is cut off', ({ problemDetails }) =>
      Boolean(problemDetails?.some(({ code }) => code === 'mesh-cut-off')),
    )
    expect(cut).toMatchObject({ state: 'degraded', mesh: { unreachable: { underlay: 0, overlay: 3 } } })
    expect(await readiness(broken)).toMatch(/^503 .*no peer answers this host through the overlay/)
    expect((await broken.overlayctl('status')).code).toBe(1)
    expect(await metric(broken, 'overlayd_probe_verdict{verdict="cut-off"}')).toBe('1')

    const seen = await statusOf(other, 'the unreachable peer', isUnreachable(broken, 'overlay'))
    expect(seen.state).toBe('degraded')
    expect(seen.problemDetails?.map(({ code }) => code)).toEqual(['mesh-overlay'])
    expect(await readiness(other)).toMatch(/^200 /)
    expect(await metric(other, 'overlayd_probe_unreachable_peers{layer="overlay"}')).toBe('1')
    expect((await eventsOf(other, 'peer-unreachable', broken)).slice(found.length)).toEqual([
      expect.stringContaining('does not answer through the overlay, and its PublicIP answers'),
    ])
    const { stdout } = await other.overlayctl('peers')
    expect(stdout.split('\n')[1]).toMatch(/unreachable .*its PublicIP answers, its overlay address does not/)
    expect(await routesOf(other)).toBe(before)
    const ping = await other.overlayctl('ping', broken.address, '--count=2', '-o', 'json')
    expect(ping.code).toBe(1)
    expect(pingDocumentSchema.parse(JSON.parse(ping.stdout))).toMatchObject({
      fails: 'overlay',
      probes: [{ part: 'underlay', received: 2 }, { part: 'overlay', received: 0 }, { part: 'full-size' }],
    })
  })
  await allWell()
  expect((await other.overlayctl('ping', broken.address)).stdout).toContain('every packet was answered')
  expect(await readiness(broken)).toMatch(/^200 /)
  expect(await eventsOf(other, 'peer-reachable', broken)).toHaveLength(cured.length + 1)
})

test('a dead peer is told, and does not degrade the others', async () => {
  const [dead, other] = [lab.host(4), lab.host(3)]
  const before = await routesOf(other)
  await execOk(dead.namespace, ['ip', 'link', 'set', 'eth0', 'down'])
  try {
    const seen = await statusOf(other, 'the dead peer', isUnreachable(dead, 'underlay'))
    expect(seen).toMatchObject({ state: 'healthy', mesh: { unreachable: { underlay: 1, overlay: 0 } } })
    expect(seen.warnings).toEqual([expect.stringMatching(/^peers: 1 does not answer probes/)])
    expect(await metric(other, 'overlayd_probe_unreachable_peers{layer="underlay"}')).toBe('1')
    await other.waitUntil('exit code 0', async () => (await other.overlayctl('status')).code === 0)
    expect((await eventsOf(other, 'peer-unreachable', dead)).at(-1)).toMatch(/answers neither/)
    expect(await routesOf(other)).toBe(before)
  } finally {
    await execOk(dead.namespace, ['ip', 'link', 'set', 'eth0', 'up'])
    await execOk(dead.namespace, ['ip', 'route', 'replace', 'default', 'via', '192.168.77.1'])
  }
  await allWell()
})

test('one direction blocked between two hosts: both ends say so, and nobody else', async () => {
  const [from, to, third] = [lab.host(1), lab.host(2), lab.host(3)]
  const rules = `chain out { type filter hook output priority 0; ip daddr ${to.address} udp dport 8472 drop; };`
  await withRules(from, rules, async () => {
    await statusOf(from, 'the peer behind the fault', isUnreachable(to, 'overlay'))
    const seen = await statusOf(to, 'the peer before the fault', isUnreachable(from, 'overlay'))
    expect(seen.state).toBe('degraded')
    expect(await readiness(to)).toMatch(/^200 /)
    await statusOf(third, 'an answer of every peer', isWell)
  })
  await allWell()
})

test('an INPUT policy of DROP: that host is cut off, for the others it is silent on both layers', async () => {
  const [closed, other] = [lab.host(3), lab.host(1)]
  const rules =
    'chain in { type filter hook input priority 0; policy drop; ct state established accept; iif lo accept; };'
  await withRules(closed, rules, async () => {
    await statusOf(closed, 'that it is cut off', ({ problemDetails }) =>
      Boolean(problemDetails?.some(({ code }) => code === 'mesh-cut-off')),
    )
    const seen = await statusOf(other, 'the silent peer', isUnreachable(closed, 'underlay'))
    expect(seen.warnings).toHaveLength(1)
  })
  await allWell()
})

const RANGE = 'net/ipv4/ping_group_range'

test('the daemon allows its own group ping sockets, where nobody was allowed any', async () => {
  expect(await execOk(lab.host(1).namespace, ['cat', `/proc/sys/${RANGE}`])).toBe('0\t0\n')
  expect(lab.host(1).daemon.output).toMatch(/ping_group_range allowed ping sockets to nobody/)
})

test('where no ping socket can be had, the status says so, and all else goes on', async () => {
  const host = lab.host(2)
  await host.stop()
  await setSysctl(host.namespace, RANGE, '1 0')
  // The daemon writes to another file than the kernel's.
  const hide = 'cat /proc/sys/$1 > $2 && mount --bind $2 /proc/sys/$1 && shift 2 && exec "$@"'
  const place = join(lab.directory, 'range')
  const wrapper = ['unshare', '--mount', 'sh', '-c', hide, 'sh', RANGE, place]
  host.start({ wrapper, flags: { probe: 'on', 'healthz-port': `${HEALTH_PORT}` } })
  const status = await statusOf(
    host,
    'that probing is impossible',
    ({ mesh }) => mesh?.state === 'impossible',
  )
  expect(status.state).toBe('healthy')
  expect(status.mesh?.reason).toMatch(/this group no ping socket: .*; allow it: sysctl -w/)
  const { stdout } = await host.overlayctl('status')
  expect(stdout.replace(/\s+/g, ' ')).toContain(
    'mesh NOT probed: the kernel allows this group no ping socket',
  )
  await setSysctl(host.namespace, RANGE, '0 0')
  await allWell()
})
