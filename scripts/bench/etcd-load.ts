/** The work of etcd, by its own metrics. */
import type { EtcdLoad } from '../../test/lab/etcd'

/** The differences: `rpcs` in total, and `rpc<Method>` for each method that was used. */
export function rpcsSince(before: EtcdLoad['rpcs'], after: EtcdLoad['rpcs']): Record<string, number> {
  const used = Array.from(
    after,
    ([method, count]) => [method, count - (before.get(method) ?? 0)] as const,
  ).filter(([, count]) => count > 0)
  return {
    rpcs: used.reduce((sum, [, count]) => sum + count, 0),
    ...Object.fromEntries(used.map(([method, count]) => [`rpc${method}`, count])),
  }
}

/** The same, and the number of `watchEvents` sent. Only daemons watch. */
export const loadSince = (before: EtcdLoad, after: EtcdLoad): Record<string, number> => ({
  ...rpcsSince(before.rpcs, after.rpcs),
  watchEvents: after.watchEvents - before.watchEvents,
})

/** The metric of watch events, which tables show beside the RPCs. */
export const WATCH_EVENTS = {
  key: 'watchEvents',
  label: 'watch events to the daemon',
  digits: 0,
  comparable: true,
} as const
