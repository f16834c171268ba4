/**
 * The large bundle's contents: the daemon, what overlayctl's own bundle takes from it (see control.ts), and a
 * rehearsal that puts the functions of a start into V8's cache.
 */

export { modules } from './modules'

export const programs = {
  overlayd: () => import('../../src/overlayd.js'),
  rehearse,
}

/**
 * Runs the steps of a start as far as they go on a machine without etcd and privileges. Failures do not
 * matter. The same functions run each time. What comes after these steps is in start-parts.ts. The modules
 * are loaded here: an import at the head of the file would load them in each program.
 */
async function rehearse(): Promise<void> {
  const { parseCommandLine } = await import('../../src/options/command-line.js')
  const { EventLog } = await import('../../src/daemon/tell/events.js')
  const { createLogger } = await import('../../src/daemon/tell/logger.js')
  const { openEtcd } = await import('../../src/etcd/client/client.js')
  const { Registry } = await import('../../src/etcd/registry.js')
  const { Kernel } = await import('../../src/kernel/kernel.js')
  const { statusSchema } = await import('../../src/api/status.js')
  const { parseNetworkConfig } = await import('../../src/model/config/network-config.js')
  const run = await parseCommandLine(['--iface=eth0'], {})
  const attempts = [
    () => createLogger(0, undefined, new EventLog()),
    () => statusSchema.safeParse({}),
    () => parseNetworkConfig('{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan"}}'),
    async () => (await Kernel.openWriter({ report: () => {} })).close(),
    async () => {
      // Nothing listens on port 1.
      const client = await openEtcd({ endpoints: 'http://127.0.0.1:1' })
      try {
        const prefix = run.kind === 'run' ? run.options['etcd-prefix'] : '/'
        const end = new AbortController()
        const attempt = new Registry(client, { prefix }).snapshot(end.signal)
        end.abort()
        await attempt
      } finally {
        client.close()
      }
    },
    () => import('../../src/daemon/run-daemon.js'),
    () => import('../../src/host/sd-notify.js'),
    () => import('../../src/host/last-exit.js'),
  ]
  for (const attempt of attempts) {
    try {
      await attempt()
    } catch {}
  }
}
