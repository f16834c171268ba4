/** Refusals for something that is already there: what it is, whose it may be, and what to do. */
import { constants } from 'node:os'
import type { Family } from '../model/address'
import { formatIp, formatPrefix } from '../model/address'
import { OverlayError } from '../model/errors'
import { type OperationFailure, type RouteKey, routeKey } from '../model/kernel'
import { listLinks } from './links'
import type { NetlinkClient } from './netlink/client'
import { NetlinkError } from './netlink/errors'
import { listAllRoutes, type SeenRoute } from './routes'

/** For the words of `ip route` (iproute2: etc/iproute2/rt_protos); others are shown as numbers. */
const PROTOCOLS: ReadonlyMap<number, string> = new Map([
  [2, 'kernel'],
  [3, 'boot'],
  [4, 'static'],
  [16, 'dhcp'],
  [186, 'bgp'],
  [188, 'ospf'],
])

/** One look at the routes for all; see {@link Kernel.explain}. */
export async function explainFailures(
  dumps: NetlinkClient,
  family: Family,
  failures: readonly OperationFailure[],
  signal: AbortSignal | undefined,
): Promise<readonly OperationFailure[]> {
  const isOfRoute = ({ operation, error }: OperationFailure): boolean =>
    operation.kind === 'set-route' && isTaken(error)
  if (!failures.some(isOfRoute)) return failures
  const wanted = new Set(
    failures.flatMap(({ operation }) =>
      operation.kind === 'set-route' ? [routeKey(operation.route.destination)] : [],
    ),
  )
  const found = new Map<RouteKey, SeenRoute[]>()
  for (const route of await dumps.dump(listAllRoutes(family), signal)) {
    const key = routeKey(route.destination)
    if (wanted.has(key)) found.set(key, [...(found.get(key) ?? []), route])
  }
  const names = new Map((await dumps.dump(listLinks, signal)).map(({ index, name }) => [index, name]))
  return failures.map((failure) => {
    const { operation, error } = failure
    if (operation.kind !== 'set-route' || !isTaken(error)) return failure
    const { destination, metric, tos } = operation.route
    const rival = found
      .get(routeKey(destination))
      ?.find((route) => route.metric === metric && route.tos === tos)
    if (rival === undefined) return failure
    const words = describeSeen(rival, names)
    const refusal = new OverlayError(
      'route-taken',
      `cannot route ${formatPrefix(destination)} over the overlay: someone else's route is in the way: ${words}`,
      `remove it (ip route delete ${words}), or give it another metric; ours follows at once`,
      { cause: error },
    )
    return { operation, error: refusal }
  })
}

const isTaken = (error: Error): boolean =>
  error instanceof NetlinkError && error.errno === constants.errno.EEXIST

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
