import type { RegistryUpdate } from '../etcd/updates'
import type { GroupTable } from '../plan/group-table'

/**
 * Takes in what an update says of multicast groups.
 * @param now monotonic milliseconds
 * @returns whether anything follows from it
 */
export function takeGroups(table: GroupTable, update: RegistryUpdate, now: number): boolean {
  if (update.kind === 'lost') {
    table.lost(now)
    return true
  }
  const wasLost = table.heard(now)
  if (update.kind === 'snapshot') {
    table.reset(update.snapshot.groups ?? [])
    if (update.replaced) table.doubt(now)
    return true
  }
  let isNews = wasLost
  for (const event of update.events) {
    if (event.kind === 'groups') table.put(event.groups)
    else if (event.kind === 'groups-removed') table.remove(event.name)
    else continue
    isNews = true
  }
  return isNews
}
