/** How many RPCs etcd was sent, by its own metrics. */

/** The difference: `rpcs` in all, and `rpc<Method>` of each method that was used. */
export function rpcsSince(
  before: ReadonlyMap<string, number>,
  after: ReadonlyMap<string, number>,
): Record<string, number> {
  const used = Array.from(
    after,
    ([method, count]) => [method, count - (before.get(method) ?? 0)] as const,
  ).filter(([, count]) => count > 0)
  return {
    rpcs: used.reduce((sum, [, count]) => sum + count, 0),
    ...Object.fromEntries(used.map(([method, count]) => [`rpc${method}`, count])),
  }
}
