/**
 * The bundle's contents: both programs, and a rehearsal that puts the functions of a start into V8's cache.
 */

import { statusSchema } from '../../src/api/status'
import { EventLog } from '../../src/daemon/tell/events'
import { createLogger } from '../../src/daemon/tell/logger'
import { openEtcd } from '../../src/etcd/client/client'
import { Registry } from '../../src/etcd/registry'
import { Kernel } from '../../src/kernel/kernel'
import { parseNetworkConfig } from '../../src/model/config/network-config'
import { parseCommandLine } from '../../src/options/schema'

export const programs = {
  overlayd: () => import('../../src/overlayd.js'),
  overlayctl: () => import('../../src/overlayctl.js'),
  rehearse,
}

/**
 * Runs the steps of a start as far as they go on a machine without etcd and privileges. Failures do not
 * matter.
 */
async function rehearse(): Promise<void> {
  await parseCommandLine(['--help'], {})
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
        await new Registry(client, { prefix }).snapshot(AbortSignal.timeout(1000))
      } finally {
        client.close()
      }
    },
    () => import('../../src/cli/verbs/status.js'),
    () => import('../../src/cli/verbs/config.js'),
    () => import('../../src/cli/verbs/docker-options.js'),
    () => import('../../src/cli/verbs/events.js'),
    () => import('../../src/cli/verbs/views.js'),
  ]
  for (const attempt of attempts) {
    try {
      await attempt()
    } catch {}
  }
}
