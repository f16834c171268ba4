/** The requirements of a start, and the messages when one is missing. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { holdsPeer } from '../../lab/kernel-view'
import { type Host, Lab, NETWORK_CONFIG } from '../../lab/lab'
import { fakePeer } from '../../lab/leases'
import { inNamespace } from '../../lab/namespace'
import { NotifySocket } from '../../lab/notify-socket'
import { patient } from '../../lab/patience'
import { LongProcess } from '../../lab/process'

jest.setTimeout(patient(60_000))

let lab: Lab

beforeAll(async () => {
  lab = await Lab.create({ hosts: 2, config: null })
})
afterAll(() => lab?.close())

/** The lines of the log with an error. */
const errors = (output: string) => output.split('\n').filter((line) => /^\S+ error /.test(line))

describe('the network config', () => {
  test('is awaited while it is missing or wrong, with the reason; the first good one is taken', async () => {
    const host = lab.host(1)
    const daemon = host.start()
    const missing = await host.waitForStatus(
      'waiting',
      ({ daemon, etcd }) => daemon.phase === 'waiting-for-config' && etcd.connected,
    )
    expect(missing).toMatchObject({
      state: 'degraded',
      problems: [expect.stringContaining('/coreos.com/network/config')],
    })
    expect(daemon.output).toMatch(/config.*waiting/)

    for (const [config, reason] of [
      ['{"Network":', /JSON/],
      ['{"Backend":{"Type":"vxlan"}}', /Network is missing/],
      ['{"Network":"10.5.0.0/16","SubnetLen":31,"Backend":{"Type":"vxlan"}}', /SubnetLen 31/],
      ['{"Network":"10.5.0.0/16","Backend":{"Type":"udp"}}', /Backend.*udp.*vxlan/],
      // The config would cut the host off from all others.
      [
        '{"Network":"192.168.0.0/16","Backend":{"Type":"vxlan"}}',
        /192\.168\.0\.0\/16 contains 192\.168\.77\.11/,
      ],
    ] as const) {
      const from = daemon.output.length
      await lab.putConfig(config)
      await host.waitForStatus(`the problem with ${config}`, ({ problems }) =>
        problems.some((each) => reason.test(each)),
      )
      await daemon.waitForOutput(reason, { from })
      expect(daemon.running).toBe(true)
    }
    await lab.putConfig(NETWORK_CONFIG)
    await host.waitConverged(0)
    expect(errors(daemon.output)).toEqual([])
  })
})

describe('readiness', () => {
  beforeAll(() => lab.putConfig(NETWORK_CONFIG))

  test('is told to systemd once, when all peers are in the kernel and subnet.env is written', async () => {
    const host = lab.host(2)
    const fakes = [fakePeer(0), fakePeer(1), fakePeer(2)]
    await lab.putPeers(...fakes)
    const socket = new NotifySocket(join(lab.directory, 'notify'))
    try {
      host.start({ env: { NOTIFY_SOCKET: socket.path } })
      await socket.waitFor('READY=1', { intervalMs: 1, context: () => host.daemon.tail() })
      const [view, { subnet }] = await Promise.all([host.kernel(), host.subnetEnv()])
      expect(fakes.map((peer) => holdsPeer(view, peer))).toEqual([true, true, true])
      expect(subnet).toMatch(/^10\.5\.\d+\.1\/24$/)
      await host.waitConverged(fakes.length + 1)
      expect(socket.received().filter((assignment) => assignment === 'READY=1')).toHaveLength(1)
    } finally {
      socket.close()
    }
  })

  test('signs of life, the state in a line and the stop are told as well', async () => {
    const host = lab.host(2)
    await host.stop()
    const socket = new NotifySocket(join(lab.directory, 'watchdog'))
    const told = (assignment: RegExp) => socket.received().filter((each) => assignment.test(each))
    try {
      host.start({ env: { NOTIFY_SOCKET: socket.path, WATCHDOG_USEC: '300000' } })
      await host.waitUntil('ten signs of life', async () => told(/^WATCHDOG=1$/).length > 10)
      expect(told(/^STATUS=/).at(-1)).toMatch(/^STATUS=10\.5\.\d+\.0\/24 on flannel\.1, 4 peers, healthy$/)
      await lab.deletePeer(fakePeer(0))
      await host.waitUntil('the new number of peers', async () => told(/ 3 peers, healthy$/).length === 1)
      await host.stop()
      await socket.waitFor('STOPPING=1')
      // A watchdog of another process does not concern the daemon.
      host.start({ env: { NOTIFY_SOCKET: socket.path, WATCHDOG_USEC: '300000', WATCHDOG_PID: '1' } })
      const before = told(/^WATCHDOG=1$/).length
      await host.waitConverged(3)
      expect(told(/^WATCHDOG=1$/)).toHaveLength(before)
    } finally {
      socket.close()
    }
    await lab.putPeers(fakePeer(0))
  })
})

describe('a host that cannot take part ends with exit code 1 and one line that says why', () => {
  let host: Host
  beforeAll(async () => {
    await lab.putConfig(NETWORK_CONFIG)
    const [added] = await lab.addHosts(1)
    if (added === undefined) throw new Error('no host was added')
    host = added
  })

  // A daemon that should have ended must not spoil the next test.
  afterEach(async () => {
    if (host.running) await host.stop('SIGKILL')
  })

  async function expectFailure(reason: RegExp): Promise<void> {
    expect(await host.daemon.waitForExit(10_000)).toEqual({ code: 1, signal: null })
    expect(errors(host.daemon.output)).toEqual([expect.stringMatching(reason)])
    expect(host.daemon.output).not.toMatch(/^\s+at /m)
  }

  test('unknown interface', async () => {
    host.start({ flags: { iface: 'eth9' } })
    await expectFailure(/eth9.*eth0/)
  })

  test('an address that is not on this host', async () => {
    host.start({ flags: { iface: '192.168.77.99' } })
    await expectFailure(/192\.168\.77\.99/)
  })

  test('but not when the kernel refuses: what stands in the way is said, and waited for', async () => {
    const script = 'require("node:dgram").createSocket("udp4").bind(8472, () => console.log("bound"))'
    const thief = new LongProcess('thief', inNamespace(host.namespace, [process.execPath, '-e', script]))
    try {
      await thief.waitForOutput(/bound/)
      host.start()
      const { daemon } = await host.waitForStatus(
        'the port',
        (status) => status.daemon.waiting?.code === 'port-in-use',
      )
      expect(daemon.waiting).toMatchObject({
        reason: 'cannot set flannel.1 up: its UDP port 8472 is in use by another program',
      })
    } finally {
      await thief.stop('SIGKILL')
    }
    await host.waitForStatus('running', ({ state }) => state === 'healthy')
    await host.stop()
    await host.exec('ip', 'link', 'delete', 'flannel.1')
    await host.exec('ip', 'link', 'add', 'flannel.1', 'type', 'bridge')
    host.start()
    await host.waitForStatus('the name', (status) => status.daemon.waiting?.code === 'name-taken')
    await host.exec('ip', 'link', 'delete', 'flannel.1')
    await host.waitForStatus('running', ({ state }) => state === 'healthy')
  })

  test('the subnet file cannot be read', async () => {
    const file = join(lab.directory, 'a-file')
    writeFileSync(file, '')
    host.start({ flags: { 'subnet-file': join(file, 'subnet.env') } })
    await expectFailure(/a-file\/subnet\.env/)
  })

  test('the subnet file cannot be written, which shows only at the end of the start', async () => {
    host.start({ flags: { 'subnet-file': '/proc/subnet.env' } })
    await expectFailure(/\/proc\/subnet\.env/)
  })

  test('the run directory cannot be made', async () => {
    const file = join(lab.directory, 'another-file')
    writeFileSync(file, '')
    host.start({ flags: { 'run-dir': join(file, 'run') } })
    await expectFailure(/another-file\/run/)
  })

  test('without the capability to change the network', async () => {
    mkdirSync(host.runDirectory, { recursive: true })
    host.start({ wrapper: ['setpriv', '--bounding-set=-net_admin', '--inh-caps=-net_admin'] })
    await expectFailure(/CAP_NET_ADMIN/)
  })

  test('and is none the worse for it: started rightly, it joins', async () => {
    host.start()
    await lab.waitConverged(3)
  })
})

describe('a wrong command line ends with exit code 2', () => {
  test.each([
    ['an unknown flag', { bogus: '1' }, /bogus/],
    ['no number', { v: 'loud' }, /loud|whole number/],
    ['no address', { 'public-ip': '300.1.1.1' }, /public-ip/],
    ['no endpoint', { 'etcd-endpoints': 'http://' }, /etcd-endpoints/],
  ])('%s', async (_, flags, reason) => {
    const [host] = await lab.addHosts(1)
    if (host === undefined) throw new Error('no host was added')
    const daemon = host.start({ flags })
    expect(await daemon.waitForExit()).toEqual({ code: 2, signal: null })
    expect(daemon.output).toMatch(reason)
    expect(daemon.output).not.toMatch(/^\s+at /m)
  })
})
