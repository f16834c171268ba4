/** Options as the daemon acts on them: exit codes, health checks, secrets, the choice of the underlay. */
import { request } from 'node:http'
import { type Host, Lab, NETWORK_CONFIG } from '../../lab/lab'
import { execOk } from '../../lab/namespace'
import { patient } from '../../lab/patience'
import { run } from '../../lab/process'
import { OVERLAYCTL, OVERLAYD } from '../../lab/programs'
import { Pending, waitFor } from '../../lab/wait'

jest.setTimeout(patient(60_000))

const HEALTH_PORT = 8081

let lab: Lab
beforeAll(async () => {
  lab = await Lab.create({ hosts: 1, config: null })
})
afterAll(() => lab?.close())
// A daemon that a failed test left must not spoil the next one.
afterEach(async () => {
  for (const host of lab.hosts) if (host.running) await host.stop('SIGKILL')
})

async function newHost(): Promise<Host> {
  const [host] = await lab.addHosts(1)
  if (host === undefined) throw new Error('no host was added')
  return host
}

interface Answer {
  readonly status: number
  readonly body: string
}

/** The answer of the health server of a host; pending while no server listens. */
function health(host: Host, path: string): Promise<Answer | Pending> {
  return new Promise((resolve) => {
    const asked = request(
      { host: host.address, port: HEALTH_PORT, path, agent: false, timeout: patient(2000) },
      (response) => {
        let body = ''
        response.setEncoding('utf8').on('data', (chunk) => {
          body += chunk
        })
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body }))
      },
    )
    asked.on('timeout', () => asked.destroy(new Error('no answer')))
    asked.on('error', (error) => resolve(new Pending(error.message)))
    asked.end()
  })
}

const waitForHealth = (host: Host, path: string, wanted: (answer: Answer) => boolean): Promise<Answer> =>
  waitFor(
    `an answer of ${path}`,
    async () => {
      const answer = await health(host, path)
      if (answer instanceof Pending) return answer
      return wanted(answer) ? answer : new Pending(JSON.stringify(answer))
    },
    { context: () => host.daemon.tail() },
  )

describe('the command line', () => {
  const overlayd = (...args: readonly string[]) => run([process.execPath, OVERLAYD, ...args])

  test.each([
    [['--help'], 0, /^overlayd: .*--etcd-cafile/s, /^$/],
    [['-h'], 0, /--healthz-port/, /^$/],
    [['--version'], 0, /^$/, /^\S+\n$/],
    [['--bogus'], 2, /^$/, /there is no flag --bogus/],
    [['--ip-masq', 'false'], 2, /^$/, /write --ip-masq=false/],
    [['--subnet-lease-renew-margin=1440'], 2, /^$/, /--subnet-lease-renew-margin is "1440".* from 1 to 1439/],
    [['--kube-subnet-mgr'], 2, /^$/, /--kube-subnet-mgr: overlayd keeps its network in etcd/],
    [['--etcd-certfile=/c'], 2, /^$/, /--etcd-certfile is given without --etcd-keyfile/],
    [
      ['--etcd-username=u'],
      2,
      /^$/,
      /--etcd-username is given without --etcd-password.*FLANNELD_ETCD_PASSWORD/,
    ],
  ] as const)('%j ends with %d', async (args, code, stdout, stderr) => {
    expect(await overlayd(...args)).toMatchObject({
      code,
      stdout: expect.stringMatching(stdout),
      stderr: expect.stringMatching(stderr),
    })
  })

  test('overlayctl takes the options of etcd too', async () => {
    const overlayctl = (...args: readonly string[]) => run([process.execPath, OVERLAYCTL, ...args])
    const flags = ['--etcd-cafile', '--etcd-username', '--etcd-discovery-srv']
    const { stdout } = await overlayctl('help', 'etcd')
    for (const flag of flags) expect(stdout).toContain(flag)
    const verbs = ['status', 'peers', 'lease', 'routes', 'teardown', 'config get', 'evict 10.5.1.0/24']
    for (const verb of verbs) {
      const help = await overlayctl(...verb.replace(/ 10.*/, '').split(' '), '--help')
      expect([verb, help.stdout]).toEqual([verb, expect.stringContaining('overlayctl help etcd')])
      // A verb that does not know the flag would report a usage error.
      const half = await overlayctl(...verb.split(' '), '--etcd-keyfile=/k')
      expect([verb, `${half.stdout}${half.stderr}`]).toEqual([
        verb,
        expect.stringContaining('without --etcd-certfile'),
      ])
    }
    const half = await overlayctl('config', 'get', '--etcd-keyfile=/k')
    expect(half).toMatchObject({ code: 2, stderr: expect.stringContaining('without --etcd-certfile') })
  })
})

describe('health checks', () => {
  test('follow the life of the host', async () => {
    const host = lab.host(1)
    const daemon = host.start({ flags: { 'healthz-port': String(HEALTH_PORT), 'healthz-ip': host.address } })
    // The host starts before a config exists.
    expect(await waitForHealth(host, '/healthz', () => true)).toEqual({
      status: 200,
      body: 'flanneld is running',
    })
    expect(await health(host, '/readyz')).toMatchObject({
      status: 503,
      body: expect.stringContaining('is not ready'),
    })
    expect(await health(host, '/')).toMatchObject({ status: 404 })

    await lab.putConfig(NETWORK_CONFIG)
    const isReady = ({ status }: Answer) => status === 200
    expect((await waitForHealth(host, '/readyz', isReady)).body).toBe('flanneld is ready')

    // Another host takes the subnet.
    const { lease } = await host.waitConverged(0)
    const key = `/coreos.com/network/subnets/${lease?.subnet?.replace('/', '-')}`
    const own = await lab.client.get(key).string()
    await lab.client
      .put(key)
      .value(own?.replace(host.address, '192.168.77.99') ?? '')
      .ignoreLease()
    const conflict = await waitForHealth(host, '/readyz', ({ status }) => status === 503)
    expect(conflict.body).toBe('flanneld is not ready: lease conflict')
    expect(await health(host, '/healthz')).toMatchObject({ status: 200 })
    await lab.client
      .put(key)
      .value(own ?? '')
      .ignoreLease()
    await waitForHealth(host, '/readyz', isReady)

    daemon.signal('SIGINT')
    expect(await daemon.waitForExit()).toEqual({ code: 0, signal: null })
    expect(await health(host, '/healthz')).toBeInstanceOf(Pending)
  })

  test('a port that is taken ends the daemon with 1, and nothing is left', async () => {
    const host = lab.host(1)
    const daemon = host.start({ flags: { 'healthz-port': String(HEALTH_PORT), 'healthz-ip': '192.0.2.77' } })
    expect(await daemon.waitForExit()).toEqual({ code: 1, signal: null })
    expect(daemon.output).toMatch(/cannot serve health checks on 192\.0\.2\.77 port 8081: .*EADDRNOTAVAIL/)
  })
})

describe('flags of flannel', () => {
  beforeAll(() => lab.putConfig(NETWORK_CONFIG))

  test('TLS files beside an http:// endpoint, and flags without effect', async () => {
    const host = await newHost()
    const daemon = host.start({
      flags: {
        'etcd-cafile': '/certs/ca.pem',
        'etcd-certfile': '/certs/client.pem',
        'etcd-keyfile': '/certs/client-key.pem',
        'kube-subnet-mgr': 'false',
        logtostderr: 'true',
        v: '10',
      },
    })
    await host.waitForStatus('ready', ({ daemon: { phase } }) => phase === 'running')
    expect(daemon.output).toMatch(/the connection to .* is plain text/)
    expect(daemon.output).toMatch(/without effect in overlayd: .*--kube-subnet-mgr, --logtostderr/)
  })

  test.each([
    ['a pattern of addresses', { 'iface-regex': '^192\\.168\\.77\\.' }],
    ['a pattern of names', { 'iface-regex': '(?i)ETH0$' }],
    ['the route to an address', { 'iface-can-reach': '192.168.77.1' }],
    ['the default route', {}],
  ])('the underlay is found by %s', async (_, flags) => {
    const host = await newHost()
    host.start({ flags: { iface: '', ...flags } })
    const { device } = await host.waitForStatus('ready', ({ daemon }) => daemon.phase === 'running')
    expect(device).toMatchObject({ local: host.address, underlay: 'eth0' })
  })

  test('forwarding is switched on, unless that is someone else’s business', async () => {
    const forwarding = async (flags: Readonly<Record<string, string>>) => {
      const host = await newHost()
      host.start({ flags })
      await host.waitForStatus('ready', ({ daemon }) => daemon.phase === 'running')
      return (await execOk(host.namespace, ['cat', '/proc/sys/net/ipv4/ip_forward'])).trim()
    }
    expect(await forwarding({})).toBe('1')
    expect(await forwarding({ 'ip-forward': 'false' })).toBe('0')
  })
})

describe('a network that covers what the host needs', () => {
  afterAll(() => lab.putConfig(NETWORK_CONFIG))

  test('is refused, be it etcd alone, unless the operator knows better', async () => {
    await lab.putConfig(
      '{"Network":"192.168.0.0/16","SubnetMin":"192.168.200.0","SubnetMax":"192.168.220.0","Backend":{"Type":"vxlan"}}',
    )
    const host = await newHost()
    const daemon = host.start()
    await daemon.waitForOutput(/contains 192\.168\.77\.\d+, this host's own address.*--allow-network-overlap/)
    await host.stop()
    host.start({ flags: { 'allow-network-overlap': 'true' } })
    await host.waitForStatus('ready', ({ daemon: { phase } }) => phase === 'running')
  })
})

test('the password is in no log and no status', async () => {
  const host = await newHost()
  const daemon = host.start({
    flags: { v: '2', 'etcd-username': 'flannel' },
    env: { FLANNELD_ETCD_PASSWORD: 'hunter2' },
  })
  await host.waitForStatus('ready', ({ daemon: { phase } }) => phase === 'running')
  expect(daemon.output).toContain('etcd-password=(not shown)')
  expect(daemon.output).not.toContain('hunter2')
  expect(JSON.stringify(await host.status())).not.toContain('hunter2')
})

/** The last test, because it locks all other users out. */
test('a login that etcd refuses is told, and taken as soon as it is right', async () => {
  const root = (...args: string[]) => lab.etcd.etcdctl('--user=root:hunter2', ...args)
  const host = await newHost()
  await lab.etcd.etcdctl('user', 'add', 'root:hunter2')
  await lab.etcd.etcdctl('user', 'grant-role', 'root', 'root')
  await lab.etcd.etcdctl('auth', 'enable')
  try {
    const daemon = host.start({
      flags: { 'etcd-username': 'host' },
      env: { FLANNELD_ETCD_PASSWORD: 'hunter3' },
    })
    await daemon.waitForOutput(/authentication failed, invalid user ID or password; check --etcd-username/)
    await root('user', 'add', 'host:hunter3')
    await root('user', 'grant-role', 'host', 'root')
    await host.waitForStatus('ready', ({ daemon: { phase } }) => phase === 'running', 30_000)
    expect(daemon.output).not.toContain('hunter')
  } finally {
    await root('auth', 'disable')
  }
})
