/** The commands that show the state of this host and its peers: part of the table of commands. */
import { PEER_SORTS } from '../../api/peer-order'
import { PEER_STATES } from '../../api/words'
import { readPeerQuery } from '../ask/peer-query'
import { DOCUMENT_OUTPUT, WATCH } from '../flags'
import { type Verb, verb } from '../verb'
import { printSchemaOf } from './schema'

const PEER_QUERY = {
  state: {
    type: 'string',
    describe: `only peers in these states, comma separated: ${PEER_STATES.join(', ')}`,
  },
  sort: { choices: PEER_SORTS, describe: 'order (default: state, worst first)' },
} as const

export const STATUS_VERBS: readonly Verb[] = [
  verb({
    path: 'status',
    describe:
      'show network, lease, device, etcd and peers; exit code 0 healthy, 1 degraded, 2 nothing reachable',
    options: {
      ...DOCUMENT_OUTPUT,
      ...WATCH,
      peers: { type: 'boolean', default: false, describe: 'list all peers instead of a few' },
      ...PEER_QUERY,
      match: {
        type: 'string',
        describe: 'only peers that contain this text, or have or announce this address',
      },
    },
    examples: [
      ['status', 'everything on one screen'],
      ['status --watch', 'and again whenever it changes'],
      ['status --state=rejected,failing -o yaml', 'with those peers, for programs'],
    ],
    run: async ({ output, watch, schema, peers, state, sort, match }, { local }) => {
      if (schema) return printSchemaOf('status')
      const { statusView } = await import('../verbs/views.js')
      const isListed = peers || [state, sort, match].some((flag) => flag !== undefined)
      const query = isListed ? readPeerQuery({ state, sort, match }) : undefined
      const { showStatus } = await import('../verbs/status.js')
      return showStatus(await local(), { output, watch }, statusView(query))
    },
  }),
  verb({
    path: 'peers',
    args: '[match]',
    describe: 'list the other hosts; exit code 2 if they are not known',
    positionals: {
      match: {
        type: 'string',
        describe: 'only peers that contain this text, or have or announce this address',
      },
    },
    options: { ...DOCUMENT_OUTPUT, ...WATCH, ...PEER_QUERY },
    examples: [
      ['peers', 'all peers, worst first'],
      ['peers 10.5.42.7', 'on which host is that container?'],
      ['peers --state=rejected --sort=public-ip', 'hosts whose leases are rejected'],
    ],
    run: async ({ output, watch, schema, match, state, sort }, { local }) => {
      if (schema) return printSchemaOf('peers')
      const query = readPeerQuery({ state, sort, match })
      const { showStatus } = await import('../verbs/status.js')
      const { peersView } = await import('../verbs/views.js')
      return showStatus(await local(), { output, watch }, peersView(query))
    },
  }),
]
