/** The commands that change what this host has: part of the table of commands. */
import { EXIT } from '../exit'
import { CONSENT } from '../flags'
import { type Verb, verb } from '../verb'

export const HOST_VERBS: readonly Verb[] = [
  verb({
    path: 'drain',
    describe: "give this host's subnet back while overlayd keeps running; the other hosts remove it",
    options: {
      undo: { type: 'boolean', default: false, describe: 'take it again' },
      ...CONSENT,
    },
    examples: [
      ['drain --dry-run', 'who uses the subnet?'],
      ['drain', 'asks, then gives it back'],
      ['drain --undo', 'takes the same subnet again, if it is still free'],
    ],
    run: async ({ undo, 'dry-run': dryRun, yes }, { local }) => {
      const { runDrain } = await import('../verbs/drain.js')
      return runDrain(await local(), { undo, dryRun, yes })
    },
  }),
  verb({
    path: 'rotate-key',
    describe: "change this host's WireGuard key now, without losing a packet",
    examples: [
      ['rotate-key', 'asks the daemon; other hosts move to the next key, and the former one is deleted'],
      ['events -f --kind=encryption-key', 'how far is it?'],
    ],
    run: async (_, { local }) => {
      const { runRotateKey } = await import('../verbs/rotate-key.js')
      await runRotateKey(await local())
      return EXIT.healthy
    },
  }),
  verb({
    path: 'teardown',
    describe:
      'remove what overlayd made on this host: device, routes, rules, files; only while it is stopped',
    options: {
      lease: {
        type: 'boolean',
        default: false,
        describe: 'give the lease in etcd back too, unless it is reserved',
      },
      ...CONSENT,
    },
    examples: [
      ['teardown --dry-run', 'what is there to remove?'],
      ['teardown --lease', 'for good, after: systemctl stop overlayd'],
    ],
    run: async ({ lease, 'dry-run': dryRun, yes }, { local }) => {
      const { runTeardown } = await import('../verbs/teardown.js')
      return runTeardown(await local(), { lease, dryRun, yes })
    },
  }),
]
