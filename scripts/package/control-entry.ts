/** The contents of overlayctl's own bundle (see control.ts), and a rehearsal of its most frequent command. */
import type { Status } from '../../src/api/status'

export const programs = {
  overlayctl: () => import('../../src/overlayctl.js'),
  rehearse,
}

/** A status in which every part that a healthy host has is present. */
const STATUS: Status = {
  schema: 1,
  version: '0.0.0',
  state: 'healthy',
  problems: [],
  daemon: { running: true, pid: 1, uptimeSeconds: 60, phase: 'running' },
  network: {
    etcdPrefix: '/coreos.com/network',
    network: '10.5.0.0/16',
    subnetLength: 24,
    backend: 'vxlan',
    vni: 1,
  },
  lease: {
    subnet: '10.5.1.0/24',
    publicIp: '192.0.2.1',
    state: 'held',
    since: '2026-01-01T00:00:00.000Z',
    reserved: false,
    modRevision: '2',
    etcdLease: '1',
    expiresInSeconds: 86_400,
  },
  routing: { directRouting: false, blackhole: false },
  device: {
    name: 'flannel.1',
    index: 3,
    mac: '02:00:00:00:00:01',
    mtu: 1450,
    local: '192.0.2.1',
    underlay: 'eth0',
    up: true,
  },
  etcd: { endpoints: ['http://192.0.2.9:2379'], connected: true, latencyMs: 1, revision: '3' },
  convergence: { converged: true, revision: '3', failing: 0, operations: 4, lastSyncSecondsAgo: 5 },
  peers: [{ subnet: '10.5.2.0/24', publicIp: '192.0.2.2', mac: '02:00:00:00:00:02', state: 'ok' }],
}

/** Milliseconds until the command is given up, such as on a machine where it cannot reach the server. */
const LONGEST = 5000

/**
 * Makes the help, and runs `overlayctl status`. Its modules are loaded here: an import at the head of the
 * file would load them in each command.
 */
async function rehearse(): Promise<void> {
  const { mkdtempSync, rmSync } = await import('node:fs')
  const { tmpdir } = await import('node:os')
  const { join } = await import('node:path')
  const { programHelp, verbHelp } = await import('../../src/cli/help.js')
  const { VERBS } = await import('../../src/cli/verbs.js')
  programHelp(100)
  for (const verb of VERBS) verbHelp(verb, 100)
  let directory: string
  try {
    directory = mkdtempSync(join(tmpdir(), 'overlayd-'))
  } catch {
    // An installation into a folder (rpm --root) has no /tmp. Without the status its functions are not
    // cached.
    return
  }
  try {
    await showStatus(directory)
  } catch {
    // Without a socket there neither: its path is too long, say.
  } finally {
    rmSync(directory, { recursive: true })
  }
}

/** Runs `overlayctl status` against a server with the status above, without its output. */
async function showStatus(runDirectory: string): Promise<void> {
  const { once } = (await import('node:events')).default
  const { createServer } = await import('node:http')
  const { controlSocketPath } = await import('../../src/api/requests.js')
  const { argv, stdout } = process
  const { write } = stdout
  let tooLong: NodeJS.Timeout | undefined
  const server = createServer((_, response) => response.end(JSON.stringify(STATUS)))
  try {
    await once(server.listen(controlSocketPath(runDirectory)), 'listening')
    process.argv = [process.execPath, 'overlayctl', 'status', `--run-dir=${runDirectory}`]
    const printed = new Promise<void>((resolve) => {
      tooLong = setTimeout(resolve, LONGEST)
      stdout.write = () => {
        resolve()
        return true
      }
    })
    await programs.overlayctl()
    await printed
  } finally {
    clearTimeout(tooLong)
    process.argv = argv
    stdout.write = write
    server.close()
  }
}
