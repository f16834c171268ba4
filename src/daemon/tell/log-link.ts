/** Logs what an update says of the connection to etcd. */
import { count } from '../../model/count'
import { describeError } from '../../model/errors'
import { type EtcdLink, isLossNews } from '../etcd-link'
import type { SortedUpdate } from '../node/sort-update'
import type { Logger } from './logger'

/** @param before the link before the update */
export function logLink(before: EtcdLink, update: SortedUpdate, log: Logger): void {
  if (update.kind === 'lost') {
    const { error } = update
    if (!isLossNews(before, error)) return
    log.warn(`etcd: ${describeError(error)}; the kernel keeps everything, trying again`, {
      kind: error.code === 'etcd-compacted' ? 'etcd-compacted' : 'etcd-lost',
    })
    return
  }
  if (before.kind !== 'following') log.info('etcd: following', { kind: 'etcd-connected' })
  if (update.kind !== 'snapshot') return
  const { revision, leases, unreadable } = update.snapshot
  const listed = count(leases.length + unreadable.length, 'lease')
  log.debug(`etcd: listed at revision ${revision}: ${listed}`, { kind: 'etcd-listed' })
}
