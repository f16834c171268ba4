/** What the kernel has against what it should have, object by object: for people, where the diff is for the reconciler. */
import { formatIp, formatMac, formatPrefix, type Prefix, prefixContains } from '../model/address'
import { describeRoute } from '../model/describe-operation'
import {
  type KernelObjects,
  type ObservedObjects,
  ODD_DESTINATION,
  type Route,
  type UnderlayRoute,
} from '../model/kernel'
import { sameRoute, sameSlot } from './diff'

export const OBJECT_KINDS = ['device', 'route', 'nexthop', 'neighbour', 'fdb'] as const
export type ObjectKind = (typeof OBJECT_KINDS)[number]

/**
 * `in-sync`: as it should be. `missing`: wanted, and not there. `wrong`: wanted, and there in another form. `extra`: ours by its place, and not
 * wanted; overlayd removes it. `foreign`: someone else's in the overlay's network, which overlayd leaves alone.
 */
export const OBJECT_STATES = ['missing', 'wrong', 'extra', 'foreign', 'in-sync'] as const
export type ObjectState = (typeof OBJECT_STATES)[number]

export interface ComparedObject {
  readonly kind: ObjectKind
  /** What it is: `10.5.42.0/24 via 10.5.42.0 proto 79`. */
  readonly object: string
  readonly state: ObjectState
  /** What is there instead. */
  readonly found?: string
}

/** Compares all that peers need on a device. */
export function compareObjects(desired: KernelObjects, observed: KernelObjects): ComparedObject[] {
  return [
    ...compareRoutes(desired, observed),
    ...compareMaps('nexthop', desired.nexthops, observed.nexthops, (id, gateway) =>
      gateway === undefined ? `${id}` : `${id} via ${formatIp(gateway)}`,
    ),
    ...compareMaps('neighbour', desired.neighbours, observed.neighbours, (address, mac) =>
      mac === undefined ? formatIp(address) : `${formatIp(address)} lladdr ${formatMac(mac)}`,
    ),
    ...compareForwarding(desired, observed),
  ]
}

function* compareRoutes(desired: KernelObjects, observed: KernelObjects): Generator<ComparedObject> {
  for (const [key, routes] of desired.routes) {
    const there = observed.routes.get(key) ?? []
    for (const route of routes) {
      const object = describeRoute(route)
      const other = there.find((each) => sameSlot(each, route) && !sameRoute(each, route))
      if (there.some((each) => sameRoute(each, route))) yield { kind: 'route', object, state: 'in-sync' }
      else if (other === undefined) yield { kind: 'route', object, state: 'missing' }
      else yield { kind: 'route', object, state: 'wrong', found: describeRoute(other) }
    }
  }
  for (const [key, routes] of observed.routes) {
    const wanted = desired.routes.get(key) ?? []
    const isWanted = (route: Route): boolean =>
      wanted.some((each) => sameRoute(each, route) || sameSlot(each, route))
    for (const route of routes) {
      if (!isWanted(route)) yield { kind: 'route', object: describeRoute(route), state: 'extra' }
    }
  }
}

/** @param describe an object with, or without, what it leads to */
function* compareMaps<Key, Value>(
  kind: ObjectKind,
  desired: ReadonlyMap<Key, Value>,
  observed: ReadonlyMap<Key, Value>,
  describe: (key: Key, value?: Value) => string,
): Generator<ComparedObject> {
  for (const [key, value] of desired) {
    const there = observed.get(key)
    const object = describe(key, value)
    if (there === value) yield { kind, object, state: 'in-sync' }
    else if (there === undefined) yield { kind, object, state: 'missing' }
    else yield { kind, object, state: 'wrong', found: describe(key, there) }
  }
  for (const [key, value] of observed) {
    if (!desired.has(key)) yield { kind, object: describe(key, value), state: 'extra' }
  }
}

function* compareForwarding(desired: KernelObjects, observed: KernelObjects): Generator<ComparedObject> {
  const kind = 'fdb'
  const toward = (destinations: readonly (typeof ODD_DESTINATION)[]): string =>
    destinations.map((each) => (each === ODD_DESTINATION ? 'elsewhere' : formatIp(each))).join(' and ')
  for (const [mac, wanted] of desired.fdb) {
    const there = observed.fdb.get(mac) ?? []
    const object = `${formatMac(mac)} dst ${toward(wanted)}`
    const isSame = there.length === wanted.length && there.every((each) => wanted.includes(each))
    if (isSame) yield { kind, object, state: 'in-sync' }
    else if (there.length === 0) yield { kind, object, state: 'missing' }
    else yield { kind, object, state: 'wrong', found: `${formatMac(mac)} dst ${toward(there)}` }
  }
  for (const [mac, there] of observed.fdb) {
    if (!desired.fdb.has(mac))
      yield { kind, object: `${formatMac(mac)} dst ${toward(there)}`, state: 'extra' }
  }
}

/** Where someone else's objects may be found, and what of them is normal. */
export interface Surroundings {
  readonly network: Prefix
  /** This host's: the bridge's routes into it are as they should be. */
  readonly subnet: Prefix | undefined
  /** Of our device. */
  readonly linkIndex: number | undefined
  readonly linkName: (index: number | undefined) => string
}

/** What others have in the overlay's network: routes past our device, and nexthops under ids that ours would have. */
export function foreignObjects(
  { network, subnet, linkIndex, linkName }: Surroundings,
  routes: readonly UnderlayRoute[],
  { takenNexthops }: Pick<ObservedObjects, 'takenNexthops'>,
): ComparedObject[] {
  const isForeign = (route: UnderlayRoute): boolean =>
    route.destination.length >= network.length &&
    prefixContains(network, route.destination.address) &&
    !(subnet !== undefined && prefixContains(subnet, route.destination.address)) &&
    (linkIndex === undefined || route.linkIndex !== linkIndex)
  return [
    ...routes.filter(isForeign).map(({ destination, metric, linkIndex: index }): ComparedObject => {
      const object = `${formatPrefix(destination)} dev ${linkName(index)}${metric === 0 ? '' : ` metric ${metric}`}`
      return { kind: 'route', object, state: 'foreign' }
    }),
    ...[...takenNexthops].map(
      (id): ComparedObject => ({ kind: 'nexthop', object: `${id}`, state: 'foreign' }),
    ),
  ]
}
