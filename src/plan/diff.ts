/**
 * From what is there to what should be, in an order that never takes away what carries traffic before its successor is there: neighbour,
 * FDB, nexthop, route; then removals the other way round.
 */
import {
  anyAddress,
  familyOf,
  type IpAddress,
  type MacAddress,
  type Prefix,
  prefixContains,
  samePrefix,
} from '../model/address'
import { OverlayError } from '../model/errors'
import type {
  InterfaceAddress,
  KernelObjects,
  LinkOperation,
  LinkSpec,
  ObjectMemory,
  ObjectOperation,
  ObservedLink,
  Route,
  RouteTarget,
} from '../model/kernel'
import { ODD_DESTINATION, routeKey } from '../model/kernel'

/**
 * The changes that make the device what it should be, apart from its address and being up.
 * @throws {OverlayError} `name-taken` when a device of another kind has our name; it is not ours to remove
 */
export function diffLink(desired: LinkSpec, observed: ObservedLink | undefined): LinkOperation[] {
  if (observed === undefined) return [{ kind: 'create-link', link: desired }]
  const { index, name } = observed
  if (observed.vxlan === undefined) {
    throw new OverlayError(
      'name-taken',
      `interface ${name} exists and is of kind ${observed.kind ?? 'unknown'}, not vxlan`,
      `rename or remove it: ip link del ${name}`,
    )
  }
  if (!isAdoptable(desired, observed.vxlan)) {
    return [
      { kind: 'delete-link', index, name },
      { kind: 'create-link', link: desired },
    ]
  }
  const change = {
    ...(observed.mac !== desired.mac && { mac: desired.mac }),
    ...(observed.mtu !== desired.mtu && { mtu: desired.mtu }),
    ...(observed.vxlan.learning !== desired.learning && { learning: desired.learning }),
    ...(observed.vxlan.local !== desired.local && { local: desired.local }),
    ...(observed.vxlan.parent !== desired.parent && { parent: desired.parent }),
    ...(observed.master !== undefined && { free: true as const }),
  }
  return Object.keys(change).length === 0 ? [] : [{ kind: 'change-link', index, name, ...change }]
}

/**
 * Whether an existing device can serve without being made again: the kernel refuses to change these (drivers/net/vxlan, vxlan_nl2conf).
 * flannel makes it again for another address or interface of the underlay too (vxlanLinksIncompat in device.go).
 */
function isAdoptable(desired: LinkSpec, observed: NonNullable<ObservedLink['vxlan']>): boolean {
  return (
    observed.vni === desired.vni &&
    hasFamily(observed.local, desired.local) &&
    (desired.port === undefined || observed.port === desired.port) &&
    observed.group === undefined &&
    !observed.l2miss &&
    observed.gbp === desired.gbp
  )
}

/** A device without an address of its own is one of IPv4. */
const hasFamily = (observed: IpAddress | undefined, desired: IpAddress): boolean =>
  familyOf(observed ?? anyAddress('IPv4')) === familyOf(desired)

/**
 * The changes that give the device its address and bring it up. Other addresses inside the network go (an earlier subnet's),
 * those outside it are someone else's and stay, as with flannel (pkg/ip/iface.go).
 */
export function diffAddresses(
  desired: Prefix,
  network: Prefix,
  link: ObservedLink,
  observed: readonly InterfaceAddress[],
): LinkOperation[] {
  const operations: LinkOperation[] = []
  const { index, name } = link
  if (!observed.some(({ address }) => samePrefix(address, desired))) {
    operations.push({ kind: 'add-address', index, address: desired })
  }
  if (!link.up) operations.push({ kind: 'set-link-up', index, name })
  for (const { address } of observed) {
    if (!samePrefix(address, desired) && prefixContains(network, address.address)) {
      operations.push({ kind: 'delete-address', index, address })
    }
  }
  return operations
}

/** The changes that make the objects on our device what they should be. */
export function diffObjects(desired: KernelObjects, observed: KernelObjects): ObjectOperation[] {
  return [
    ...setNeighbours(desired, observed),
    ...setFdb(desired, observed),
    ...setNexthops(desired, observed),
    ...setRoutes(desired, observed),
    ...deleteRoutes(desired, observed),
    ...deleteNexthops(desired, observed),
    ...deleteFdb(desired, observed),
    ...deleteNeighbours(desired, observed),
  ]
}

function* setNeighbours(desired: KernelObjects, observed: KernelObjects): Generator<ObjectOperation> {
  for (const [address, mac] of desired.neighbours) {
    if (observed.neighbours.get(address) !== mac) yield { kind: 'set-neighbour', address, mac }
  }
}

function* deleteNeighbours(desired: KernelObjects, observed: KernelObjects): Generator<ObjectOperation> {
  for (const address of observed.neighbours.keys()) {
    if (!desired.neighbours.has(address)) yield { kind: 'delete-neighbour', address }
  }
}

function* setFdb(desired: KernelObjects, observed: KernelObjects): Generator<ObjectOperation> {
  for (const [mac, destinations] of desired.fdb) {
    // The kernel replaces none that goes through a nexthop object, and says nothing.
    if (observed.fdb.get(mac)?.includes(ODD_DESTINATION))
      yield { kind: 'delete-fdb', mac, destination: ODD_DESTINATION }
    for (const destination of destinations) {
      if (!isForwarded(observed, mac, destination)) yield { kind: 'set-fdb', mac, destination }
    }
  }
}

function isForwarded({ fdb }: KernelObjects, mac: MacAddress, destination: IpAddress): boolean {
  const current = fdb.get(mac) ?? []
  return current.includes(destination) && !current.includes(ODD_DESTINATION)
}

function* deleteFdb(desired: KernelObjects, observed: KernelObjects): Generator<ObjectOperation> {
  for (const [mac, destinations] of observed.fdb) {
    const wanted = desired.fdb.get(mac) ?? []
    // It went before, with all others of its MAC.
    if (wanted.length > 0 && destinations.includes(ODD_DESTINATION)) continue
    const stale = destinations.filter((destination) => !wanted.includes(destination))
    // Setting a unicast MAC replaces its first destination, so that one is gone already.
    const replaced = wanted.some((destination) => !destinations.includes(destination)) ? 1 : 0
    for (const destination of stale.slice(replaced)) yield { kind: 'delete-fdb', mac, destination }
  }
}

function* setNexthops(desired: KernelObjects, observed: KernelObjects): Generator<ObjectOperation> {
  for (const [id, gateway] of desired.nexthops) {
    const current = observed.nexthops.get(id)
    if (current !== gateway) yield { kind: 'set-nexthop', id, gateway, replace: current !== undefined }
  }
}

function* deleteNexthops(desired: KernelObjects, observed: KernelObjects): Generator<ObjectOperation> {
  for (const id of observed.nexthops.keys()) {
    if (!desired.nexthops.has(id)) yield { kind: 'delete-nexthop', id }
  }
}

function* setRoutes(desired: KernelObjects, observed: KernelObjects): Generator<ObjectOperation> {
  for (const [key, routes] of desired.routes) {
    const current = observed.routes.get(key) ?? []
    for (const route of routes) {
      if (current.some((other) => sameRoute(other, route))) continue
      yield { kind: 'set-route', route, replace: current.some((other) => sameSlot(other, route)) }
    }
  }
}

function* deleteRoutes(desired: KernelObjects, observed: KernelObjects): Generator<ObjectOperation> {
  for (const [key, routes] of observed.routes) {
    const wanted = desired.routes.get(key) ?? []
    const missing = wanted.filter((route) => !routes.some((other) => sameRoute(other, route)))
    const replaced = missing.map((route) => routes.find((other) => sameSlot(other, route)))
    for (const route of routes) {
      if (wanted.some((other) => sameRoute(other, route)) || replaced.includes(route)) continue
      yield { kind: 'delete-route', route }
    }
  }
}

/** What the kernel takes for one place in its table: a replace hits the first route in it. */
export function sameSlot(a: Route, b: Route): boolean {
  return samePrefix(a.destination, b.destination) && a.metric === b.metric && a.tos === b.tos
}

/** Whether two routes are one and the same to a packet. */
export function sameRoute(a: Route, b: Route): boolean {
  return sameSlot(a, b) && a.protocol === b.protocol && sameTarget(a.target, b.target)
}

function sameTarget(a: RouteTarget, b: RouteTarget): boolean {
  if (a.kind === 'nexthop' && b.kind === 'nexthop') return a.id === b.id
  if (a.kind === 'gateway' && b.kind === 'gateway') return a.gateway === b.gateway && a.onlink === b.onlink
  if (a.kind === 'direct' && b.kind === 'direct') return a.gateway === b.gateway && a.link === b.link
  return a.kind === b.kind && (a.kind === 'other' || a.kind === 'blackhole')
}

/** Changes the memory as the kernel changes when the operation succeeds. */
export function applyOperation(memory: ObjectMemory, operation: ObjectOperation): void {
  switch (operation.kind) {
    case 'set-neighbour':
      memory.neighbours.set(operation.address, operation.mac)
      break
    case 'delete-neighbour':
      memory.neighbours.delete(operation.address)
      break
    case 'set-fdb':
      memory.fdb.set(operation.mac, withFirst(operation.destination, memory.fdb.get(operation.mac)))
      break
    case 'delete-fdb':
      put(
        memory.fdb,
        operation.mac,
        operation.destination === ODD_DESTINATION
          ? []
          : memory.fdb.get(operation.mac)?.filter((destination) => destination !== operation.destination),
      )
      break
    case 'set-nexthop':
      memory.nexthops.set(operation.id, operation.gateway)
      break
    case 'delete-nexthop':
      // The routes through it, which the kernel removes with it, were deleted before.
      memory.nexthops.delete(operation.id)
      break
    case 'set-route': {
      const key = routeKey(operation.route.destination)
      const routes = memory.routes.get(key)
      if (routes === undefined) {
        memory.routes.set(key, [operation.route])
        break
      }
      const slot = routes.findIndex((other) => sameSlot(other, operation.route))
      put(memory.routes, key, slot < 0 ? [...routes, operation.route] : routes.with(slot, operation.route))
      break
    }
    case 'delete-route': {
      const key = routeKey(operation.route.destination)
      put(
        memory.routes,
        key,
        memory.routes.get(key)?.filter((other) => !sameRoute(other, operation.route)),
      )
    }
  }
}

const withFirst = <T>(first: T, before: readonly T[] | undefined): readonly T[] =>
  before === undefined ? [first] : [first, ...before.slice(1)]

function put<Key, Value>(
  map: Map<Key, readonly Value[]>,
  key: Key,
  values: readonly Value[] | undefined,
): void {
  if (values === undefined || values.length === 0) map.delete(key)
  else map.set(key, values)
}
