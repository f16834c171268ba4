/** The commands about this host's lease and its further subnets: part of the table of commands. */
import { EXIT } from '../exit'
import { DOCUMENT_OUTPUT, WATCH } from '../flags'
import { type Verb, verb } from '../verb'
import { printSchemaOf } from './schema'

export const LEASE_VERBS: readonly Verb[] = [
  verb({
    path: 'lease',
    describe: "show this host's own lease; exit code 0 held, 1 not, 2 not known",
    options: { ...DOCUMENT_OUTPUT, ...WATCH },
    examples: [
      ['lease', 'which subnet, since when and for how long'],
      ['lease -o json | jq -r .lease.subnet', 'for a script'],
    ],
    run: async ({ output, watch, schema }, { local }) => {
      if (schema) return printSchemaOf('lease')
      const { showStatus } = await import('../verbs/status.js')
      const { leaseView } = await import('../verbs/views.js')
      return showStatus(await local(), { output, watch }, leaseView())
    },
  }),
  verb({
    path: 'lease add',
    describe:
      'take a free block of what the network config sets aside as a further subnet of this host; ' +
      'a host may have 16',
    options: {
      length: {
        type: 'number',
        describe: 'prefix length of the block (default: that of the subnets that hosts lease)',
      },
      ipv6: { type: 'boolean', default: false, describe: 'a block of IPv6' },
    },
    examples: [
      ['lease add', 'as large as the first subnet'],
      ['lease add --length=26', 'for 62 addresses'],
    ],
    run: async ({ length, ipv6 }, { local }) => {
      const { runLeaseAdd } = await import('../verbs/subnets.js')
      await runLeaseAdd(await local(), { length, ipv6 })
      return EXIT.healthy
    },
  }),
  verb({
    path: 'lease remove',
    args: '<subnet>',
    describe: 'give a further subnet of this host back, if nothing uses it; else it says who does',
    positionals: {
      subnet: {
        type: 'string',
        demandOption: true,
        describe: 'the subnet as overlayctl lease shows it, such as 10.5.243.0/24',
      },
    },
    examples: [['lease remove 10.5.243.0/24', 'after docker network rm of the networks on it']],
    run: async ({ subnet }, { local }) => {
      const { runLeaseRemove } = await import('../verbs/subnets.js')
      await runLeaseRemove(await local(), subnet)
      return EXIT.healthy
    },
  }),
]
