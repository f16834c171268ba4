import type { GroupTable } from '../../plan/multicast/group-table'
import type { SortedUpdate } from '../node/sort-update'

/**
 * Brings the announcements of an update to the table.
 * @param now monotonic milliseconds
 * @returns whether the table may be another one
 */
export function takeGroups(table: GroupTable, update: SortedUpdate, now: number): boolean {
  if (update.kind === 'lost') {
    table.lost(now)
    return true
  }
  const wasLost = table.heard(now)
  if (update.kind === 'snapshot') {
    table.reset(update.snapshot.groups, update.snapshot.moreGroups)
    if (update.replaced) table.doubt(now)
    return true
  }
  let isNews = wasLost
  for (const event of update.sorted.groups) {
    if (event.kind === 'groups') table.put(event.groups)
    else table.remove(event.name)
    isNews = true
  }
  return isNews
}
