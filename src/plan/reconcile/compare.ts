/**
 * Compares the kernel with the desired objects, object by object, for people. The diff of the reconciler is
 * another function: it makes operations.
 */
import type { ObjectKind } from '../../api/documents'
import { formatPrefix, type Prefix, prefixContains } from '../../model/address'
import type { ObservedLink } from '../../model/kernel/link'
import {
  type KernelObjects,
  KINDS_REVERSED,
  type Kind,
  type ObservedObjects,
} from '../../model/kernel/objects'
import type { UnderlayRoute } from '../../model/kernel/route'
import { subnetWith } from '../host/own-subnets'
import { PLAN } from '../objects'
import type { Comparison } from '../objects/kind'

export interface ComparedObject extends Comparison {
  readonly kind: ObjectKind
}

/** One family of an overlay: its place, and what the kernel has. */
export interface ObservedPlace {
  /** The name of the device. */
  readonly name: string
  /** `undefined` where it is not known: then objects of other programs are not searched. */
  readonly network: Prefix | undefined
  /** All subnets of this host: routes of bridges into them are as they should be. */
  readonly subnets: readonly Prefix[]
  readonly links: readonly ObservedLink[]
  readonly link: ObservedLink | undefined
  readonly routes: readonly UnderlayRoute[]
  readonly objects: ObservedObjects
}

/** Compares the device, the objects on it, and the objects of other programs in the network. */
export function compareOverlay(desired: KernelObjects, place: ObservedPlace): ComparedObject[] {
  const { name, network, subnets, links, link, routes, objects } = place
  const linkName = (index: number | undefined): string =>
    links.find((each) => each.index === index)?.name ?? 'several'
  const foreign =
    network === undefined
      ? []
      : foreignObjects({ network, subnets, linkIndex: link?.index, linkName }, routes, objects)
  return [compareDevice(name, link), ...compareObjects(desired, objects), ...foreign]
}

function compareDevice(name: string, link: ObservedLink | undefined): ComparedObject {
  const device = { kind: 'device', object: name } as const
  if (link === undefined) return { ...device, state: 'missing' }
  if (link.vxlan === undefined)
    return { ...device, state: 'wrong', found: `of kind ${link.kind ?? 'unknown'}` }
  return link.up ? { ...device, state: 'in-sync' } : { ...device, state: 'wrong', found: 'down' }
}

/** Compares all that peers need on a device. */
export const compareObjects = (desired: KernelObjects, observed: KernelObjects): ComparedObject[] =>
  KINDS_REVERSED.flatMap((kind) => compareKind(kind, desired, observed))

const compareKind = <K extends Kind>(
  kind: K,
  desired: KernelObjects,
  observed: KernelObjects,
): ComparedObject[] =>
  Array.from(PLAN[kind].compare(desired[kind], observed[kind]), (each) => ({ kind, ...each }))

/** Where objects of other programs are searched. */
export interface OverlayPlace {
  readonly network: Prefix
  /** All subnets of this host: routes of bridges into them are as they should be. */
  readonly subnets: readonly Prefix[]
  /** Index of our device. */
  readonly linkIndex: number | undefined
  readonly linkName: (index: number | undefined) => string
}

/**
 * Objects of other programs in the overlay's network: routes past our device, and nexthops with ids of ours.
 */
export function foreignObjects(
  { network, subnets, linkIndex, linkName }: OverlayPlace,
  routes: readonly UnderlayRoute[],
  { takenNexthops }: Pick<ObservedObjects, 'takenNexthops'>,
): ComparedObject[] {
  const isForeign = (route: UnderlayRoute): boolean =>
    route.destination.length >= network.length &&
    prefixContains(network, route.destination.address) &&
    subnetWith(subnets, route.destination.address) === undefined &&
    (linkIndex === undefined || route.linkIndex !== linkIndex)
  return [
    ...routes.filter(isForeign).map(({ destination, metric, linkIndex: index }): ComparedObject => {
      const object = `${formatPrefix(destination)} dev ${linkName(index)}`
      const last = metric === 0 ? '' : ` metric ${metric}`
      return { kind: 'route', object: `${object}${last}`, state: 'foreign' }
    }),
    ...[...takenNexthops].map(
      (id): ComparedObject => ({ kind: 'nexthop', object: `${id}`, state: 'foreign' }),
    ),
  ]
}
