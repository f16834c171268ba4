/**
 * jest's runner. With OVERLAYD_TEST_QUEUE, a directory, it runs only files that no other jest with the same
 * directory has taken: so several sandboxes share a suite, and end at the same time.
 */
import { relative } from 'node:path'
import TestRunner from 'jest-runner'
import { longestFirst, takeFile } from '../lab/queue'

/**
 * Files that need a network in which iptables-legacy never ran: its tables stay until the sandbox ends, and
 * other files run it there.
 */
const FIRST = ['firewall/keeper.test.ts']
/** Files that take over 45 s, in the order of their time, longest first. */
const LONG = [
  ...['multicast/groups.test.ts', 'faults/identity.test.ts', 'cli/doctor.test.ts', 'bench/suite.test.ts'],
  ...['package/package.test.ts', 'daemon/way-in.test.ts', 'faults/static-stability.test.ts'],
  ...['firewall/packet-path.test.ts', 'bench/dataplane.test.ts', 'faults/nemesis.test.ts'],
  ...['daemon/probing.test.ts', 'cli/evict.test.ts', 'faults/etcd-history.test.ts'],
  ...['daemon/prefixes-via.test.ts', 'daemon/path-mtu.test.ts', 'multicast/multicast.test.ts'],
]

export default class QueueRunner extends TestRunner {
  override async runTests(...[tests, watcher, options]: Parameters<TestRunner['runTests']>): Promise<void> {
    const queue = process.env['OVERLAYD_TEST_QUEUE']
    const ordered = longestFirst(tests, [...FIRST, ...LONG], ({ path }) => path)
    if (queue === undefined) return super.runTests([...ordered], watcher, options)
    for (const test of ordered) {
      const file = relative(test.context.config.rootDir, test.path)
      if (takeFile(queue, file)) await super.runTests([test], watcher, { ...options, serial: true })
    }
  }
}
