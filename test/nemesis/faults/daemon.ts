/** Faults of the daemon's process, and of sockets and locks that local users can reach. */
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { cutFromEtcd, reconnectEtcd } from '../../lab/faults'
import { inNamespace } from '../../lab/namespace'
import { LongProcess, run } from '../../lab/process'
import { anyHost, fault, itsHost, of, someHosts } from '../fault'
import { HEALTH_PORT, type Site } from '../site'

const each = (hosts: readonly number[], action: (host: number) => Promise<unknown>): Promise<unknown> =>
  Promise.all(hosts.map(action))

/** Prefix that runs a command as an unprivileged user. */
const AS_NOBODY = [
  'setpriv',
  '--reuid=65534',
  '--regid=65534',
  '--clear-groups',
  // The caller's PATH may have directories that only root can read.
  'env',
  'PATH=/usr/bin:/bin',
] as const

/** Fails in a user namespace that does not map user 65534. */
function noUnprivilegedUser(): string | undefined {
  const [program, ...args] = AS_NOBODY
  const { status } = spawnSync(program, [...args, 'python3', '-c', ''])
  return status === 0 ? undefined : 'no unprivileged user can run python3 here'
}

/**
 * Binds the abstract socket names of the device lock, as far as an unprivileged process can, and holds them.
 * Node.js versions spell an abstract name with or without padding to 108 bytes (sun_path, unix(7)), so both
 * are bound. The process calls itself overlayd, and never answers a connection.
 */
const SQUAT = `
import socket, time
held = []
plain = '\\0overlayd/flannel.1'
for name in [plain, plain.ljust(108, '\\0'), '\\0overlayd-lock-flannel.1']:
    s = socket.socket(socket.AF_UNIX)
    try:
        s.bind(name)
        s.listen()
        held.append(s)
        print('bound', flush=True)
    except OSError as error:
        print('refused', error, flush=True)
print('done', flush=True)
while True: time.sleep(1000)`

/**
 * Opens `count` connections to `target` in one process. Each sends `text`, stays open and sends nothing more.
 * Prints `open` after the first has been established.
 */
const HOLD_CONNECTIONS = `
  const [target, count, text] = JSON.parse(process.argv[1])
  let open = 0
  for (let i = 0; i < count; i++) {
    const socket = require('node:net').connect(target)
    socket.on('error', () => {})
    socket.on('connect', () => { socket.write(text); if (++open === 1) console.log('open') })
  }
  setInterval(() => {}, 1000)`

/** Processes of faults that have not been undone yet, by name. */
const held = new Map<string, LongProcess>()

async function holdConnections(site: Site, host: number, target: object, count: number, text: string) {
  const { namespace } = site.host(host)
  const command = [process.execPath, '-e', HOLD_CONNECTIONS, JSON.stringify([target, count, text])]
  const name = `connections on host${host}`
  held.set(name, site.keep(new LongProcess(name, inNamespace(namespace, command))))
}

async function dropConnections(site: Site, host: number): Promise<void> {
  const name = `connections on host${host}`
  await site.drop(held.get(name))
  held.delete(name)
}

export const DAEMON_FAULTS = [
  fault({
    name: 'daemons killed',
    draw: (random, world) => ({ ...someHosts(random, world, 3), signal: 'SIGKILL' as const }),
    claims: of('daemon'),
    do: (site, { hosts, signal }) => each(hosts, (host) => site.daemon(host).hold(signal)),
    undo: async (site, { hosts }) => {
      for (const host of hosts) site.daemon(host).release()
    },
  }),
  fault({
    name: 'daemon killed again and again',
    draw: anyHost,
    claims: of('daemon'),
    every: () => 700,
    do: (site, { host }) => site.daemon(host).end('SIGKILL'),
  }),
  fault({
    name: 'daemons frozen',
    draw: (random, world) => someHosts(random, world, 2),
    longest: 12_000,
    claims: of('daemon'),
    do: async (site, { hosts }) => {
      for (const host of hosts) site.daemon(host).signal('SIGSTOP')
    },
    undo: async (site, { hosts }) => {
      for (const host of hosts) site.daemon(host).signal('SIGCONT')
    },
  }),
  fault({
    name: 'daemon stopped and started while cut off from etcd',
    draw: anyHost,
    claims: of('daemon', 'etcd'),
    do: async (site, { host }) => {
      await cutFromEtcd(site.host(host))
      await site.daemon(host).end('SIGTERM')
    },
    undo: (site, { host }) => reconnectEtcd(site.host(host)),
  }),
  fault({
    name: 'descriptors at the limit',
    draw: (random, world) => ({ ...anyHost(random, world), spare: random.integer(0, 3) }),
    claims: of('daemon'),
    do: async (site, { host, spare }) => {
      if (!site.host(host).running) return
      const { pid } = site.host(host).daemon
      const limit = readdirSync(`/proc/${pid}/fd`).length + spare
      await run(['prlimit', `--pid=${pid}`, `--nofile=${limit}:`])
    },
    undo: async (site, { host }) => {
      if (site.host(host).running)
        await run(['prlimit', `--pid=${site.host(host).daemon.pid}`, '--nofile=1024:'])
    },
  }),
  fault({
    name: 'teardown and start',
    draw: anyHost,
    touches: itsHost,
    claims: of('daemon', 'device', 'state', 'key'),
    do: async (site, { host }) => {
      await site.daemon(host).hold('SIGTERM')
      await site.overlayctl(host, 'teardown', '--yes')
    },
    undo: async (site, { host }) => site.daemon(host).release(),
  }),
  fault({
    name: 'teardown beside a start',
    draw: (random, world) => ({ ...anyHost(random, world), after: random.integer(0, 800) }),
    touches: itsHost,
    // The daemon exits if it starts while the teardown has the device lock.
    ends: itsHost,
    claims: of('daemon', 'device', 'state', 'key'),
    do: async (site, { host, after }) => {
      await site.daemon(host).hold('SIGKILL')
      const teardown = site.overlayctl(host, 'teardown', '--yes')
      await pause(after)
      site.daemon(host).release()
      await teardown
    },
  }),
  fault({
    name: 'drained and undrained in a loop',
    draw: anyHost,
    touches: itsHost,
    claims: of('daemon', 'key'),
    every: () => 100,
    do: async (site, { host }) => {
      await site.overlayctl(host, 'drain', '--yes')
      await site.overlayctl(host, 'drain', '--undo')
    },
    undo: (site, { host }) => site.write(() => undrain(site, host)),
  }),
  fault({
    name: 'squatters on the device lock',
    draw: (random, world) => ({ ...anyHost(random, world), restart: random.chance(0.7) }),
    impossible: noUnprivilegedUser,
    claims: of('daemon'),
    do: async (site, { host, restart }) => {
      await site.daemon(host).hold('SIGKILL')
      try {
        const name = `squatter on host${host}`
        const command = inNamespace(site.host(host).namespace, [
          ...AS_NOBODY,
          'bash',
          '-c',
          'exec -a overlayd python3 -c "$0" overlayd',
          SQUAT,
        ])
        const squatter = site.keep(new LongProcess(name, command))
        held.set(name, squatter)
        await squatter.waitForOutput(/done/, { timeoutMs: 30_000 })
      } finally {
        site.daemon(host).release()
      }
      if (!restart) return
      await pause(500)
      await site.daemon(host).end('SIGTERM')
    },
    undo: async (site, { host }) => {
      await site.drop(held.get(`squatter on host${host}`))
      held.delete(`squatter on host${host}`)
    },
  }),
  fault({
    name: 'control socket removed',
    draw: (random, world) => ({ ...anyHost(random, world), directory: random.chance(0.3) }),
    claims: of('socket'),
    do: (site, { host, directory }) => {
      const { runDirectory } = site.host(host)
      return site.shell(host, directory ? `rm -rf ${runDirectory}` : `rm -f ${runDirectory}/overlayd.sock`)
    },
  }),
  fault({
    name: 'half-open requests on /healthz',
    draw: (random, world) => ({ ...anyHost(random, world), count: random.pick([50, 500]) }),
    claims: of('daemon'),
    do: (site, { host, count }) =>
      holdConnections(
        site,
        host,
        { host: '127.0.0.1', port: HEALTH_PORT },
        count,
        'GET /healthz HTTP/1.1\r\nHost: a\r\n',
      ),
    undo: (site, { host }) => dropConnections(site, host),
  }),
  fault({
    name: 'half-open requests on the control socket',
    draw: anyHost,
    claims: of('daemon', 'socket'),
    do: (site, { host }) => {
      const path = `${site.host(host).runDirectory}/overlayd.sock`
      return holdConnections(site, host, { path }, 200, 'GET /status HTTP/1.1\r\nHost: a\r\n')
    },
    undo: (site, { host }) => dropConnections(site, host),
  }),
]

/**
 * Undrains the host.
 * @throws {Error} if overlayctl fails, for example because the daemon is still starting
 */
async function undrain(site: Site, host: number): Promise<void> {
  const { code, output } = await site.overlayctl(host, 'drain', '--undo')
  if (code !== 0) throw new Error(output)
}
