/** `overlayctl routes`: what the kernel has for the peers against what it should have. Changes nothing. */
import { z } from 'zod'
import type { Options } from '../daemon/options'
import type { Status } from '../daemon/status'
import { UsageError } from '../daemon/usage-error'
import { Kernel } from '../kernel/kernel'
import {
  FAMILIES,
  type Family,
  familyOf,
  type Prefix,
  parseIp,
  parseIpv4Prefix,
  parseIpv6Prefix,
  parseMac,
} from '../model/address'
import { type KernelObjects, type ObservedLink, type ObservedObjects, routeKey } from '../model/kernel'
import type { Peer } from '../model/lease'
import {
  type ComparedObject,
  compareObjects,
  foreignObjects,
  OBJECT_KINDS,
  OBJECT_STATES,
  type ObjectState,
} from '../plan/compare'
import { blackholeRoute, desiredObjects, linkName } from '../plan/desired'
import { directLinkFinder } from '../plan/direct'
import { EXIT } from './exit'
import { type Output, printDocument } from './output'
import { queryPeers } from './peer-query'
import { renderRoutes } from './render-routes'
import { screenOf } from './screen'
import { readStatus } from './status'

/** What `overlayctl routes -o json` prints. */
export const routesDocumentSchema = z.object({
  schema: z.literal(1),
  /** Whether what should be is what the daemon wants; without one it is what etcd has, believed or not. */
  daemonRunning: z.boolean(),
  /** Of all objects, before any was left out by a flag. */
  counts: z.partialRecord(z.enum(OBJECT_STATES), z.number()),
  objects: z.array(
    z.object({
      kind: z.enum(OBJECT_KINDS),
      object: z.string(),
      state: z.enum(OBJECT_STATES),
      found: z.string().optional(),
    }),
  ),
})
export type RoutesDocument = z.infer<typeof routesDocumentSchema>

export interface RoutesFlags {
  readonly output: Output
  /** Comma list; empty for all. */
  readonly state: string
  /** A part of what is shown; empty for all. */
  readonly match: string
}

/** Without a config flannel's default is the best guess. */
const DEFAULT_VNI = 1

/** Prints it, and answers the exit code: 1 when something wanted is not there, or something unwanted is. */
export async function runRoutes(options: Options, { output, state, match }: RoutesFlags): Promise<number> {
  const states = readStates(state)
  const status = await readStatus(options)
  const all = await compareHost(status)
  const objects = all
    .filter((each) => states.length === 0 || states.includes(each.state))
    .filter(({ object, found = '' }) => object.includes(match) || found.includes(match))
  const counts = countStates(all)
  const document: RoutesDocument = { schema: 1, daemonRunning: status.daemon.running, counts, objects }
  printDocument(document, output, (wide) => renderRoutes(document, screenOf(), wide))
  if (!status.daemon.running && !status.etcd.connected) return EXIT.unreachable
  const isBad = all.some(
    (each) => each.state === 'missing' || each.state === 'wrong' || each.state === 'extra',
  )
  return isBad ? EXIT.degraded : EXIT.healthy
}

function readStates(text: string): readonly ObjectState[] {
  const names = text.split(',').flatMap((name) => name.trim() || [])
  const isState = (name: string): name is ObjectState => (OBJECT_STATES as readonly string[]).includes(name)
  const unknown = names.find((name) => !isState(name))
  if (unknown === undefined) return names.filter(isState)
  throw new UsageError(
    `--state is ${JSON.stringify(unknown)}, and no object is ever in that state`,
    `the states are ${OBJECT_STATES.join(', ')}`,
  )
}

function countStates(objects: readonly ComparedObject[]): RoutesDocument['counts'] {
  const counts: RoutesDocument['counts'] = {}
  for (const { state } of objects) counts[state] = (counts[state] ?? 0) + 1
  return counts
}

/** Worst first. */
async function compareHost(status: Status): Promise<ComparedObject[]> {
  const kernel = await Kernel.open({ report: () => undefined, readOnly: true })
  try {
    const links = await kernel.links()
    const found: ComparedObject[] = []
    for (const family of FAMILIES) found.push(...(await compareFamily(kernel, links, status, family)))
    return found.sort((a, b) => OBJECT_STATES.indexOf(a.state) - OBJECT_STATES.indexOf(b.state))
  } finally {
    kernel.close()
  }
}

async function compareFamily(
  kernel: Kernel,
  links: readonly ObservedLink[],
  status: Status,
  family: Family,
): Promise<ComparedObject[]> {
  const name = linkName(family, status.network?.vni ?? DEFAULT_VNI)
  const link = links.find((each) => each.name === name)
  const network = networkOf(status, family)
  if (network === undefined && link === undefined) return []
  const routes = await kernel.underlayRoutes(family)
  const observed =
    link === undefined
      ? NOTHING
      : await kernel.observe(family, link.index, {
          network,
          routes: true,
          links: [],
        })
  const find = directLinkFinder(routes.filter(({ linkIndex }) => linkIndex !== link?.index))
  const directRouting = status.routing?.directRouting ?? false
  const desired = desiredObjects(peersOf(status, family), {
    style: kernel.usesNexthops(family) ? 'nexthop' : 'gateway',
    directLink: (publicIp) => (directRouting ? find(publicIp) : undefined),
    taken: observed.takenNexthops,
  })
  const subnet = subnetOf(status, family)
  const nameOf = (index: number | undefined): string =>
    links.find((each) => each.index === index)?.name ?? 'several'
  return [
    compareDevice(name, link),
    ...compareObjects(withBlackhole(desired, observed, subnet, status.routing?.blackhole), observed),
    ...(network === undefined
      ? []
      : foreignObjects({ network, subnet, linkIndex: link?.index, linkName: nameOf }, routes, observed)),
  ]
}

const NOTHING: ObservedObjects = {
  neighbours: new Map(),
  fdb: new Map(),
  nexthops: new Map(),
  routes: new Map(),
  takenNexthops: new Set(),
}

function compareDevice(name: string, link: ObservedLink | undefined): ComparedObject {
  if (link === undefined) return { kind: 'device', object: name, state: 'missing' }
  if (link.vxlan === undefined) {
    return { kind: 'device', object: name, state: 'wrong', found: `of kind ${link.kind ?? 'unknown'}` }
  }
  return link.up
    ? { kind: 'device', object: name, state: 'in-sync' }
    : { kind: 'device', object: name, state: 'wrong', found: 'down' }
}

/** @param wanted undefined where nobody can be asked: then one that is there is taken to be wanted */
function withBlackhole(
  desired: KernelObjects,
  observed: KernelObjects,
  subnet: Prefix | undefined,
  wanted: boolean | undefined,
): KernelObjects {
  if (subnet === undefined) return desired
  const isThere = observed.routes.get(routeKey(subnet))?.some(({ target }) => target.kind === 'blackhole')
  if (!(wanted ?? isThere)) return desired
  return { ...desired, routes: new Map([...desired.routes, [routeKey(subnet), [blackholeRoute(subnet)]]]) }
}

const parsePrefix = (text: string | undefined): Prefix | undefined =>
  text === undefined ? undefined : (parseIpv4Prefix(text) ?? parseIpv6Prefix(text))

const networkOf = ({ network }: Status, family: Family): Prefix | undefined =>
  parsePrefix(family === 'IPv4' ? network?.network : network?.ipv6Network)

const subnetOf = ({ lease }: Status, family: Family): Prefix | undefined =>
  parsePrefix(family === 'IPv4' ? lease?.subnet : lease?.ipv6Subnet)

/** The peers that the kernel is to have: all but those that are not believed. */
function peersOf({ peers }: Status, family: Family): Peer[] {
  const sorted = queryPeers(peers, { states: [], match: '', sort: 'subnet' })
  return sorted.flatMap(({ subnet: text, publicIp: host, mac: lladdr, state }): Peer[] => {
    const [subnet, publicIp, mac] = [parsePrefix(text), parseIp(host), parseMac(lladdr)]
    if (state === 'rejected' || subnet === undefined || publicIp === undefined || mac === undefined) return []
    return familyOf(subnet.address) === family ? [{ key: text, subnet, publicIp, mac }] : []
  })
}
