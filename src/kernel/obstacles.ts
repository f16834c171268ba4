/** Explains refusals because of an existing route: which route it is, and the cure. */
import type { Family } from '../model/address'
import { formatIp, formatPrefix } from '../model/address'
import { OverlayError } from '../model/errors'
import type { OperationFailure, SetOf } from '../model/kernel/objects'
import { type RouteKey, routeKey } from '../model/kernel/route'
import { listLinks } from './links/links'
import type { NetlinkClient } from './netlink/client'
import { listAllRoutes, type SeenRoute } from './objects/routes'

/**
 * Names of protocols as `ip route` shows them (iproute2: etc/iproute2/rt_protos); others are shown as
 * numbers.
 */
const PROTOCOLS: ReadonlyMap<number, string> = new Map([
  [2, 'kernel'],
  [3, 'boot'],
  [4, 'static'],
  [16, 'dhcp'],
  [186, 'bgp'],
  [188, 'ospf'],
])

/** Explains all failures by one listing of the routes; see {@link Kernel.explain}. */
export async function explainFailures(
  dumps: NetlinkClient,
  family: Family,
  failures: readonly OperationFailure[],
  signal: AbortSignal | undefined,
): Promise<readonly OperationFailure[]> {
  const wanted = new Set(failures.flatMap((failure) => takenRoute(failure)?.key ?? []))
  if (wanted.size === 0) return failures
  const found = new Map<RouteKey, SeenRoute[]>()
  for (const route of await dumps.dump(listAllRoutes(family), signal)) {
    const key = routeKey(route.destination)
    if (wanted.has(key)) found.set(key, [...(found.get(key) ?? []), route])
  }
  const names = new Map((await dumps.dump(listLinks, signal)).map(({ index, name }) => [index, name]))
  return failures.map((failure) => {
    const taken = takenRoute(failure)
    if (taken === undefined) return failure
    const { destination, metric, tos } = taken.value
    const rival = found.get(taken.key)?.find((route) => route.metric === metric && route.tos === tos)
    if (rival === undefined) return failure
    const words = describeSeen(rival, names)
    const refusal = new OverlayError(
      'route-taken',
      `cannot route ${formatPrefix(destination)} over the overlay: ` +
        `someone else's route is in the way: ${words}`,
      `remove it (ip route delete ${words}), or give it another metric; ours follows at once`,
      { cause: failure.error },
    )
    return { ...failure, error: refusal }
  })
}

/** The route that could not be made because its place is taken. */
const takenRoute = ({ operation, cause }: OperationFailure): SetOf<'route'> | undefined =>
  operation.do === 'set' && operation.kind === 'route' && cause === 'taken' ? operation : undefined

function describeSeen(route: SeenRoute, names: ReadonlyMap<number, string>): string {
  const { destination, gateway, linkIndex, protocol, metric } = route
  return [
    formatPrefix(destination),
    gateway === undefined ? '' : `via ${formatIp(gateway)}`,
    linkIndex === undefined ? '' : `dev ${names.get(linkIndex) ?? linkIndex}`,
    `proto ${PROTOCOLS.get(protocol) ?? protocol}`,
    metric === 0 ? '' : `metric ${metric}`,
  ]
    .filter((word) => word !== '')
    .join(' ')
}
