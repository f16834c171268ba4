/**
 * Compares the kernel with the desired objects of a status document: for a host whose daemon is down, or has
 * not started.
 */

import { sortPeers } from '../../api/peer-order'
import type { Status } from '../../api/status'
import { readNetwork, readSubnets } from '../../api/status-parts'
import { OBJECT_STATES } from '../../api/words'
import { Kernel, type KernelReader } from '../../kernel/kernel'
import { readOverlay } from '../../kernel/read-overlay'
import {
  FAMILIES,
  type Family,
  familyOf,
  formatPrefix,
  type Prefix,
  parseIp,
  parseIpPrefix,
  parseMac,
} from '../../model/address'
import { ofFamily } from '../../model/family'
import type { KernelObjects } from '../../model/kernel/objects'
import { routeKey } from '../../model/kernel/route'
import type { Peer } from '../../model/lease'
import type { Options } from '../../options/schema'
import { ownSubnets } from '../../plan/host/own-subnets'
import { type ComparedObject, compareOverlay } from '../../plan/reconcile/compare'
import { hostObjects, linkName } from '../../plan/reconcile/desired'
import { directLinkFinder } from '../../plan/reconcile/direct'
import { type KnownPrefixes, placePrefixes, readKnownPrefixes } from './known-prefixes'

/** Without a config, flannel's default is the best guess. */
const DEFAULT_VNI = 1

/** Objects, and what of them cannot be judged without a daemon. */
export interface LocalComparison {
  readonly objects: readonly ComparedObject[]
  /** Shared prefixes whose routes differ from those to all who share, as where probing has left one out. */
  readonly unprobed: readonly string[]
}

export async function compareLocally(options: Options, status: Status): Promise<LocalComparison> {
  const prefixes = status.etcd.connected ? await readKnownPrefixes(options) : undefined
  const kernel = await Kernel.open()
  try {
    const objects: ComparedObject[] = []
    const unprobed: string[] = []
    for (const family of FAMILIES) {
      const found = await compareFamily(kernel, status, prefixes, family)
      objects.push(...found.objects)
      unprobed.push(...found.unprobed)
    }
    return { objects, unprobed }
  } finally {
    kernel.close()
  }
}

/** Worst first. */
export const worstFirst = (objects: readonly ComparedObject[]): ComparedObject[] =>
  [...objects].sort((a, b) => OBJECT_STATES.indexOf(a.state) - OBJECT_STATES.indexOf(b.state))

async function compareFamily(
  kernel: KernelReader,
  status: Status,
  prefixes: KnownPrefixes | undefined,
  family: Family,
): Promise<LocalComparison> {
  const name = linkName(family, status.network?.vni ?? DEFAULT_VNI)
  const network = readNetwork(status.network, family)
  const subnet = ofFamily(readSubnets(status.lease), family)
  const allowed = (prefixes?.allowed ?? []).filter(({ address }) => familyOf(address) === family)
  const observed = await readOverlay(kernel, family, name, network, allowed)
  const { link, routes, objects } = observed
  if (network === undefined && link === undefined) return { objects: [], unprobed: [] }
  const find = directLinkFinder(routes.filter(({ linkIndex }) => linkIndex !== link?.index))
  const peers = peersOf(status, family)
  const placed =
    prefixes === undefined || subnet === undefined
      ? undefined
      : placePrefixes(prefixes, { family, subnet, link, peers, network: await kernel.hostNetwork() })
  const desired = hostObjects(
    peers,
    {
      style: kernel.usesNexthops(family) ? 'nexthop' : 'gateway',
      directLink: status.routing?.directRouting === true ? find : () => undefined,
      taken: objects.takenNexthops,
      ...(placed !== undefined && { prefixesOf: placed.prefixesOf, carriersOf: placed.carriersOf }),
    },
    // Only a daemon knows whether there should be a blackhole: an existing one counts as desired.
    subnet && {
      subnet,
      blackhole: status.routing?.blackhole ?? hasBlackhole(objects, subnet),
      local: placed?.local,
    },
  )
  const subnets = ownSubnets(subnet === undefined ? [] : [subnet], placed?.further)
  return withoutProbing(
    compareOverlay(desired, { ...observed, name, network, subnets }),
    (placed?.shared ?? []).map(formatPrefix),
  )
}

/**
 * Whether a route to some of those who share a prefix is wrong is not known: a daemon that probes has left
 * the others out where it did not reach them. Exported for tests.
 */
export function withoutProbing(
  objects: readonly ComparedObject[],
  shared: readonly string[],
): LocalComparison {
  const isDoubtful = ({ kind, state, object }: ComparedObject, prefix: string): boolean =>
    kind === 'route' && state === 'wrong' && object.startsWith(`${prefix} `)
  return {
    objects: objects.map((each) =>
      shared.some((prefix) => isDoubtful(each, prefix)) ? { ...each, state: 'unknown' } : each,
    ),
    unprobed: shared.filter((prefix) => objects.some((each) => isDoubtful(each, prefix))),
  }
}

/** Whether a route drops packets to unused addresses of the subnet. */
const hasBlackhole = (observed: KernelObjects, subnet: Prefix): boolean =>
  observed.route.get(routeKey(subnet))?.some(({ target }) => target.kind === 'blackhole') === true

/** All peers of a family but the rejected ones, in the order of their subnets. */
const peersOf = ({ peers }: Status, family: Family): Peer[] =>
  sortPeers(peers, 'subnet').flatMap(({ subnet: text, publicIp: host, mac: lladdr, state }): Peer[] => {
    const subnet = parseIpPrefix(text)
    const [publicIp, mac] = [parseIp(host), parseMac(lladdr)]
    if (state === 'rejected' || subnet === undefined || publicIp === undefined || mac === undefined) return []
    return familyOf(subnet.address) === family ? [{ key: text, subnet, publicIp, mac }] : []
  })
