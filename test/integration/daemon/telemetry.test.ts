/** What a running daemon exposes: past and live events, and metrics, over its socket and over TCP. */
import { type EventKind, eventSchema, type OverlayEvent } from '../../../src/api/events'
import { CertificateAuthority } from '../../lab/certificates'
import { Host, Lab, NETWORK_CONFIG } from '../../lab/lab'
import { fakePeer, leaseKey, leaseValue } from '../../lab/leases'
import { inNamespace } from '../../lab/namespace'
import { patient } from '../../lab/patience'
import { LongProcess, runOk } from '../../lab/process'
import { Pending, waitFor } from '../../lab/wait'
import { alertQueries, dashboardQueries, missing, promtool, readExposition } from '../../support/prometheus'

jest.setTimeout(patient(60_000))

const PASSWORD = 'never-to-be-shown'
const PORT = '9471'
/** Control characters, except the end of a line. */
const CONTROL = /[^\P{Cc}\n]/u

/** Series that a kernel without WireGuard does not have: metrics.test.ts looks for them. */
const NEEDS_WIREGUARD = /overlayd_encryption_(?!info|peers)/

let lab: Lab
let host: Host
/** `overlayctl events --follow`, for programs and for people. */
let live: LongProcess
let shown: LongProcess

const follow = (...args: string[]): LongProcess =>
  new LongProcess('overlayctl events', host.overlayctlCommand('events', '--follow', ...args))

/** The text of overlayctl on standard error when the daemon ends. */
const END = 'overlayctl: overlayd has ended'

/** The events in an output. An incomplete last line is left out. */
const parseLines = (output: string): OverlayEvent[] =>
  output
    .split('\n')
    .slice(0, -1)
    .filter((line) => line !== END)
    .map((line) => eventSchema.parse(JSON.parse(line)))

/** Waits until the follower has the event. */
const told = (kind: EventKind, about?: string): Promise<OverlayEvent> =>
  waitFor(
    `an event ${kind} ${about ?? ''}`,
    () =>
      parseLines(live.output).findLast(
        (event) => event.kind === kind && (about === undefined || event.about.includes(about)),
      ) ??
      new Pending(
        parseLines(live.output)
          .map((event) => event.kind)
          .join(' '),
      ),
    { timeoutMs: 20_000, context: () => host.daemon.tail() },
  )

async function metrics(): Promise<string> {
  const text = await host.metrics()
  if (text instanceof Pending) throw new Error(text.seen)
  return text
}

/** The exposed value of a series; 0 if the series has none yet. */
async function metric(series: string): Promise<number> {
  const line = (await metrics()).split('\n').find((each) => each.startsWith(`${series} `))
  return Number(line?.slice(series.length + 1) ?? 0)
}

beforeAll(async () => {
  lab = await Lab.create({ hosts: 1 })
  host = lab.host(1)
  // The daemon reads the certificate for the series of its end, although this etcd speaks without TLS.
  const { caFile } = new CertificateAuthority(lab.directory)
  host.start({
    flags: { v: '0', probe: 'on', 'metrics-port': PORT, 'etcd-cafile': caFile },
    env: { FLANNELD_ETCD_USERNAME: 'host1', FLANNELD_ETCD_PASSWORD: PASSWORD },
  })
  await host.waitConverged(0)
  live = follow('-o', 'json')
  shown = follow()
  await Promise.all([
    told('ready'),
    waitFor('lines', () => shown.output.includes('ready') || new Pending('')),
  ])
})
afterAll(async () => {
  await live?.stop()
  await shown?.stop()
  await lab?.close()
})

const PEER = fakePeer(1)
const SUBNET = '10.5.151.0/24'

test('what went before comes first, in order', () => {
  const events = parseLines(live.output)
  expect(events.map(({ kind }) => kind)).toEqual(
    expect.arrayContaining(['started', 'etcd-connected', 'lease-taken', 'firewall-change', 'ready']),
  )
  expect(events.map(({ seq }) => seq)).toEqual(events.map((_, place) => place + 1))
})

test('a peer joins, changes and leaves', async () => {
  await lab.putPeers(PEER)
  expect(await told('peer-joined', SUBNET)).toMatchObject({ about: [SUBNET, PEER.publicIp] })
  await lab.putPeers({ ...PEER, mac: '02:fa:4e:00:01:01' })
  await told('peer-changed', PEER.publicIp)
  await lab.deletePeer(PEER)
  await told('peer-left', SUBNET)
  // From etcd's event to the kernel's answer: at least one measurement for each of the three changes.
  expect(await metric('overlayd_convergence_lag_seconds_count')).toBeGreaterThanOrEqual(3)
  expect(await metric('overlayd_kernel_operations_total{operation="set-route"}')).toBe(1)
  expect(await metric('overlayd_events_total{kind="peer-changed"}')).toBe(1)
  const drops = 'overlayd_device_losses_total{family="IPv4",direction="in",kind="drops"}'
  expect(await metric(drops)).toBeGreaterThanOrEqual(0)
})

test('a lease that is not believed, and then is; its control characters reach no terminal', async () => {
  const key = leaseKey('/coreos.com/network', PEER.subnet)
  await lab.client.put(key).value(leaseValue({ ...PEER, mac: '\u001b[2J\u0007\r\nerror faked' }))
  const { text } = await told('peer-rejected', SUBNET)
  expect(text).toContain(key)
  // A key with control characters in its name, C1 too.
  const odd = `${leaseKey('/coreos.com/network', '10.5.199.0-24')}\u001b[2J\u009b31m`
  await lab.client.put(odd).value('{}')
  await told('peer-rejected', '10.5.199.0-24\\u{1b}[2J\\u{9b}31m')
  expect(await metric('overlayd_peers{family="IPv4",state="rejected"}')).toBe(2)
  await lab.client.delete().key(odd)
  await lab.client.put(key).value(leaseValue(PEER))
  await told('peer-accepted', SUBNET)
  expect(await metric('overlayd_peers{family="IPv4",state="ok"}')).toBe(1)
  await waitFor(
    'the accepted peer',
    () => shown.output.includes('peer accepted') || new Pending(shown.output),
  )
  for (const output of [shown.output, live.output, host.daemon.output, await metrics()])
    expect(output).not.toMatch(CONTROL)
})

test('what another program takes away is put right, and counted by kind', async () => {
  await host.exec('ip', 'route', 'delete', SUBNET)
  expect((await told('kernel-repair', SUBNET)).text).toContain(`the route to ${SUBNET}`)
  expect(await metric('overlayd_repairs_total{object="route"}')).toBe(1)
  await host.exec('ip', 'neighbour', 'delete', '10.5.151.0', 'dev', Host.device)
  await told('kernel-repair', 'the neighbour 10.5.151.0')
  expect(await metric('overlayd_repairs_total{object="neighbour"}')).toBe(1)
})

test('a change that the kernel refuses, with the name of its refusal', async () => {
  // A route of another program in the place of our route.
  await lab.deletePeer(PEER)
  await host.waitForKernel('no route', ({ routes }) => routes.length === 0)
  await host.exec('ip', 'route', 'add', SUBNET, 'dev', 'eth0')
  await lab.putPeers(PEER)
  expect(await told('kernel-refusal', SUBNET)).toMatchObject({ errno: 'EEXIST' })
  expect((await told('kernel-retry', SUBNET)).text).toMatch(/refused [2-9] times, again in \d/)
  expect(await metric('overlayd_peers{family="IPv4",state="failing"}')).toBe(1)
  expect(
    await metric('overlayd_kernel_errors_total{operation="set-route",errno="EEXIST"}'),
  ).toBeGreaterThanOrEqual(2)
  await host.exec('ip', 'route', 'delete', SUBNET, 'dev', 'eth0')
  await host.waitConverged(1)
})

test('etcd goes and comes back', async () => {
  const before = await metric('overlayd_etcd_reconnects_total')
  await lab.etcd.stop()
  await told('etcd-lost')
  expect(await metric('overlayd_part_in_order{part="etcd"}')).toBe(0)
  expect(await metric('overlayd_ready')).toBe(1)
  await lab.etcd.start()
  await waitFor('etcd again', async () =>
    (await metric('overlayd_etcd_reconnects_total')) > before ? true : new Pending('not yet'),
  )
  expect(await metric('overlayd_part_in_order{part="etcd"}')).toBe(1)
  await waitFor('the event after the loss', () => {
    const kinds = parseLines(live.output).map(({ kind }) => kind)
    return (
      kinds.lastIndexOf('etcd-connected') > kinds.lastIndexOf('etcd-lost') || new Pending(kinds.join(' '))
    )
  })
})

test('what is asked for, and no more', async () => {
  const answer = await host.overlayctl(
    'events',
    '-o',
    'json',
    `--peer=${PEER.publicIp}`,
    '--kind=peer-joined',
  )
  expect(answer.code).toBe(0)
  const events = parseLines(answer.stdout)
  expect(events.length).toBeGreaterThanOrEqual(2)
  expect(new Set(events.map(({ kind }) => kind))).toEqual(new Set(['peer-joined']))
  expect(await host.overlayctl('events', '--since=10m', '--kind=lease-conflict')).toMatchObject({
    code: 0,
    stdout: '',
  })
  expect(await host.overlayctl('events', '--kind=nonsense')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('peer-rejected'),
  })
})

test('the same metrics over TCP, where a flag asks', async () => {
  const script = `fetch('http://127.0.0.1:${PORT}/metrics').then(async (r) => console.log(r.status, r.headers.get('content-type'), await r.text()))`
  const answer = await runOk(inNamespace(host.namespace, [process.execPath, '-e', script]))
  expect(answer).toMatch(/^200 text\/plain; version=0\.0\.4/)
  expect(answer).toContain('overlayd_ready 1')
  const names = (text: string) => [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name)
  expect(names(answer)).toEqual(names((await host.overlayctl('metrics')).stdout))
})

test('all that the dashboard and the alert rules ask for is there', async () => {
  await lab.putConfig(NETWORK_CONFIG.replace('"vxlan"', '"vxlan","Multicast":true,"Encryption":"prefer"'))
  await host.waitForStatus('multicast', ({ multicast }) => multicast?.families?.length === 2)
  const text = await metrics()
  expect(await promtool(['check', 'metrics'], text)).toMatchObject({ code: 0, stderr: '' })
  const exposed = readExposition(text)
  const queries = [...dashboardQueries(), ...alertQueries()]
  expect(
    missing(
      queries.filter((query) => !NEEDS_WIREGUARD.test(query)),
      exposed,
    ),
  ).toEqual([])
  // The reverse: every exposed series is used.
  const unseen = [...exposed.keys()].filter(
    (name) => !/_(sum|count)$/.test(name) && !queries.some((query) => query.includes(name)),
  )
  expect(unseen).toEqual(['overlayd_converged_revision'])
})

test('no password in any of it', async () => {
  for (const output of [live.output, shown.output, await metrics(), host.daemon.output])
    expect(output).not.toContain(PASSWORD)
})

test('a daemon that ends says so to who follows; one that is down to who asks', async () => {
  await host.stop()
  await told('stopping')
  expect((await live.exited).code).toBe(1)
  expect(live.output).toContain(END)
  expect(await host.overlayctl('events')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('overlayd does not run'),
  })
  expect((await host.overlayctl('metrics')).code).toBe(2)
})
