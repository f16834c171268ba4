/** What the bundle holds: both programs, and a rehearsal that brings the functions of a start into V8's cache. */
import { EventLog } from '../../src/daemon/events'
import { createLogger } from '../../src/daemon/logger'
import { parseCommandLine } from '../../src/daemon/options'
import { statusSchema } from '../../src/daemon/status'
import { openEtcd } from '../../src/etcd/client'
import { Registry } from '../../src/etcd/registry'
import { Kernel } from '../../src/kernel/kernel'
import { parseNetworkConfig } from '../../src/model/network-config'

export const programs = {
  overlayd: () => import('../../src/overlayd.js'),
  overlayctl: () => import('../../src/overlayctl.js'),
  rehearse,
}

/** Goes as far as a machine without an etcd and without privileges lets it; where it stops is of no interest. */
async function rehearse(): Promise<void> {
  await parseCommandLine(['--help'], {})
  const run = await parseCommandLine(['--iface=eth0'], {})
  const attempts = [
    () => createLogger(0, undefined, new EventLog()),
    () => statusSchema.safeParse({}),
    () => parseNetworkConfig('{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan"}}'),
    async () => (await Kernel.open({ report: () => {} })).close(),
    async () => {
      // Nothing listens on port 1.
      const client = await openEtcd({ endpoints: 'http://127.0.0.1:1' })
      try {
        const prefix = run.kind === 'run' ? run.options['etcd-prefix'] : '/'
        await new Registry(client, { prefix }).snapshot(AbortSignal.timeout(1000))
      } finally {
        client.close()
      }
    },
    () => import('../../src/cli/status.js'),
    () => import('../../src/cli/config.js'),
    () => import('../../src/cli/docker-options.js'),
    () => import('../../src/cli/events.js'),
    () => import('../../src/cli/views.js'),
  ]
  for (const attempt of attempts) {
    try {
      await attempt()
    } catch {}
  }
}
