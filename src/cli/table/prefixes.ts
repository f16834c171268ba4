/** The commands about announced prefixes. */
import { DEFAULT_PRIORITY } from '../../model/prefixes'
import { EXIT } from '../exit'
import { DOCUMENT_OUTPUT } from '../flags'
import { type Verb, verb } from '../verb'

const PREFIX = {
  prefix: {
    type: 'string',
    demandOption: true,
    describe: 'an address or a network that the network config allows, such as 10.5.240.7/32',
  },
} as const

export const PREFIX_VERBS: readonly Verb[] = [
  verb({
    path: 'prefixes',
    describe:
      'list the prefixes that hosts announce besides their subnets: who gets their packets, who waits and ' +
      'why; ' +
      'exit code 1 if one is refused',
    options: DOCUMENT_OUTPUT,
    examples: [
      ['prefixes', 'who has which prefix'],
      ['prefixes -o json', 'for a program'],
    ],
    run: async ({ output, schema }, { local }) => {
      if (schema) {
        const { printSchema } = await import('../show/output.js')
        const { prefixesDocumentSchema } = await import('../../api/documents.js')
        await printSchema(prefixesDocumentSchema, 'overlayctl prefixes -o json')
        return EXIT.healthy
      }
      const { runPrefixes } = await import('../verbs/prefixes.js')
      return runPrefixes(await local(), output)
    },
  }),
  verb({
    path: 'announce',
    args: '<prefix>',
    describe:
      'have all hosts send packets to a prefix to this host, for as long as it has its lease; ' +
      'exit code 1 if it waits for its way on this host',
    positionals: PREFIX,
    options: {
      priority: {
        type: 'number',
        default: DEFAULT_PRIORITY,
        describe: 'of several hosts the highest wins, then the one that claimed it first; 0 to 65535',
      },
      for: { type: 'string', default: '', describe: 'end it after a time, as in 90s, 10m, 2h, 1d' },
      via: {
        type: 'string',
        default: '',
        describe:
          'have this host route the prefix to a link, such as the bridge of its container, or to the ' +
          'address of a gateway; without it, its routes are left alone',
      },
      share: {
        type: 'boolean',
        default: false,
        describe: 'share the packets with other hosts that announce it so with the same priority',
      },
      weight: {
        type: 'number',
        describe: 'with --share: the part of this host beside those of the others; 1 to 255, 1 without it',
      },
    },
    examples: [
      ['announce 10.5.240.7/32 --via=br-moving', 'the address of a container that runs here now'],
      ['announce 10.5.240.7/32 --via=br-moving --priority=200', 'take it from the host that has it'],
      ['announce 192.0.2.0/24 --for=1h', 'a network behind this host, for an hour'],
      ['announce 192.0.2.0/24 --share', 'a network behind this host and others, which all get packets'],
    ],
    run: async ({ prefix, priority, for: time, via, share, weight }, { local }) => {
      const { runAnnounce } = await import('../verbs/prefixes.js')
      return runAnnounce(await local(), prefix, { priority, for: time, via, share, weight })
    },
  }),
  verb({
    path: 'withdraw',
    args: '<prefix>',
    describe: 'end an announcement of this host: packets go to the next host that announces the prefix',
    positionals: PREFIX,
    examples: [['withdraw 10.5.240.7/32', 'after another host has announced it, so that no packet is lost']],
    run: async ({ prefix }, { local }) => {
      const { runWithdraw } = await import('../verbs/prefixes.js')
      await runWithdraw(await local(), prefix)
      return EXIT.healthy
    },
  }),
]
