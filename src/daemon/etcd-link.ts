/** The connection to etcd as a state: whether etcd is followed, and what its last answer contained. Pure. */
import type { EtcdError } from '../etcd/client/errors'
import type { Revision } from '../model/lease'
import type { SortedUpdate } from './node/sort-update'

/** Data of etcd's last answer. */
export interface EtcdKnowledge {
  readonly revision: Revision
  readonly clusterId: string | undefined
  /** The network config in etcd. It may differ from the config in use. */
  readonly config: { readonly text: string | undefined; readonly revision: Revision | undefined } | undefined
}

export type EtcdLink =
  | { readonly kind: 'connecting' }
  | { readonly kind: 'following'; readonly known: EtcdKnowledge }
  | { readonly kind: 'lost'; readonly error: EtcdError; readonly known: EtcdKnowledge | undefined }

/**
 * Codes of failures that are logged even if the connection was lost before: somebody has to act, or a new
 * listing follows.
 */
const NEWS: ReadonlySet<string> = new Set(['etcd-refused', 'etcd-tls', 'etcd-compacted'])

export const knowledgeOf = (link: EtcdLink): EtcdKnowledge | undefined =>
  link.kind === 'connecting' ? undefined : link.known

/** The link after an update. */
export function linkAfter(link: EtcdLink, update: SortedUpdate): EtcdLink {
  const known = knowledgeOf(link)
  switch (update.kind) {
    case 'lost':
      return { kind: 'lost', error: update.error, known }
    case 'snapshot': {
      const { revision, clusterId, config: text, configRevision } = update.snapshot
      return { kind: 'following', known: { revision, clusterId, config: { text, revision: configRevision } } }
    }
    case 'events': {
      const { config } = update.sorted
      return {
        kind: 'following',
        known: {
          revision: update.revision,
          clusterId: known?.clusterId,
          config: config === undefined ? known?.config : { text: config.text, revision: config.modRevision },
        },
      }
    }
    default:
      return update satisfies never
  }
}

/** Whether a loss of the connection is logged. */
export const isLossNews = (link: EtcdLink, error: EtcdError): boolean =>
  link.kind !== 'lost' || (NEWS.has(error.code) && error.code !== link.error.code)
