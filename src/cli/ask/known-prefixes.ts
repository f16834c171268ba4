/** What hosts announce, judged without a daemon: from etcd and from this host's addresses. */
import { endpointAddresses } from '../../etcd/client/endpoints'
import type { Snapshot } from '../../etcd/follow/snapshot'
import { NO_GROUPS } from '../../etcd/registry'
import { type Family, familyOf, formatPrefix, type Prefix } from '../../model/address'
import { parseNetworkConfig } from '../../model/config/network-config'
import type { HostNetwork, ObservedLink } from '../../model/kernel/link'
import { type RouteKey, routeKey } from '../../model/kernel/route'
import { familyLease, type Peer } from '../../model/lease'
import { isClaim, type PrefixClaim } from '../../model/prefixes'
import { attempt } from '../../model/result'
import type { Options } from '../../options/schema'
import { isOverlayDevice } from '../../plan/host/underlay'
import { localObjects } from '../../plan/prefixes/local-objects'
import { objectionAgainst, rulesFrom } from '../../plan/prefixes/rules'
import { followedOf, judgeClaims } from '../../plan/prefixes/standings'
import type { LocalObjects, Routing } from '../../plan/reconcile/desired'
import { withRegistry } from './with-registry'

/** Milliseconds for etcd. */
const DEADLINE = 3000

/** What etcd has of announced prefixes. */
export interface KnownPrefixes {
  /** Ranges of the network config, of all families. */
  readonly allowed: readonly Prefix[]
  readonly claims: readonly PrefixClaim[]
  readonly leases: Snapshot['leases']
  /** Addresses that no prefix may cover. */
  readonly surroundings: Parameters<typeof rulesFrom>[0]['surroundings']
}

/** Reads etcd; `undefined` where it does not answer, and where its config is not usable. */
export async function readKnownPrefixes(options: Options): Promise<KnownPrefixes | undefined> {
  const read = await attempt('etcd', async () => {
    const snapshot = await withRegistry(
      options,
      (registry, signal) => registry.snapshot(signal, NO_GROUPS),
      DEADLINE,
    )
    const { config, leases, prefixes = [] } = snapshot
    const { prefixes: allowed = [] } = config === undefined ? {} : parseNetworkConfig(config)
    const what = 'the address of etcd'
    const surroundings = endpointAddresses(options['etcd-endpoints']).map((address) => ({ address, what }))
    return { allowed, claims: prefixes.filter(isClaim), leases, surroundings }
  })
  return read.value
}

/** One family of this host. */
export interface FamilyView {
  readonly family: Family
  readonly subnet: Prefix
  /** The device. */
  readonly link: ObservedLink | undefined
  readonly peers: readonly Peer[]
  readonly network: Pick<HostNetwork, 'links' | 'addresses' | 'defaultRoutes'>
}

/** Which prefixes are routed to which peers, and what this host has for its own. */
export type Placed = Required<Pick<Routing, 'prefixesOf' | 'carriersOf'>> & {
  readonly local: LocalObjects
  /** Further subnets of this host. */
  readonly further: readonly Prefix[]
  /** Prefixes that several peers share. Only a daemon that probes knows which of these it leaves out. */
  readonly shared: readonly Prefix[]
}

/** Which prefixes are routed to which peer, and what this host has for its own: as the daemon decides. */
export function placePrefixes(
  { allowed, claims, leases, surroundings }: KnownPrefixes,
  { family, subnet, link, peers, network }: FamilyView,
): Placed {
  const { links, addresses, defaultRoutes } = network
  const isOurs = (index: number): boolean =>
    links.some((each) => each.index === index && isOverlayDevice(each))
  const gateways = defaultRoutes.flatMap(({ gateway }) =>
    gateway === undefined ? [] : [{ address: gateway, what: 'the gateway of the default route' }],
  )
  const rules = rulesFrom({
    family,
    allowed: allowed.filter(({ address }) => familyOf(address) === family),
    subnet,
    underlay: link?.vxlan?.local,
    links: addresses.flatMap(({ linkIndex, address }) =>
      isOurs(linkIndex) || familyOf(address.address) !== family ? [] : [address],
    ),
    surroundings: [...surroundings, ...gateways],
    peers,
  })
  /** Name of a host in etcd -> its subnet. */
  const subnets = new Map(
    leases.map((lease) => [
      lease.key.slice(lease.key.lastIndexOf('/') + 1),
      textOf(familyLease(lease, family)?.subnet),
    ]),
  )
  const known = new Set([formatPrefix(subnet), ...peers.map((peer) => formatPrefix(peer.subnet))])
  const isOwn = ({ host }: PrefixClaim): boolean => subnets.get(host) === formatPrefix(subnet)
  const ofFamily = claims.filter(({ announcement: { prefix } }) => familyOf(prefix.address) === family)
  const winners = followedOf(
    judgeClaims(ofFamily, (claim) => {
      const { prefix, until } = claim.announcement
      if (until !== undefined && until <= Date.now()) return 'its time is over'
      if (!known.has(subnets.get(claim.host) ?? '')) return 'its host has no lease that is followed'
      return objectionAgainst(prefix, isOwn(claim) ? rules.own : rules.others)
    }),
  )
  const own = winners.filter(isOwn).map(({ announcement }) => announcement)
  const ofPeers = new Map<RouteKey, PrefixClaim[]>()
  const ownKeys = new Set(own.map(({ prefix }) => routeKey(prefix)))
  for (const claim of winners) {
    const key = routeKey(claim.announcement.prefix)
    if (!ownKeys.has(key)) ofPeers.set(key, [...(ofPeers.get(key) ?? []), claim])
  }
  const routed = new Map<string, Prefix[]>()
  for (const [first] of ofPeers.values()) {
    if (first === undefined) continue
    const to = subnets.get(first.host) ?? ''
    routed.set(to, [...(routed.get(to) ?? []), first.announcement.prefix])
  }
  const bySubnet = new Map(peers.map((peer) => [formatPrefix(peer.subnet), peer]))
  return {
    prefixesOf: (peer) => routed.get(formatPrefix(peer.subnet)) ?? [],
    carriersOf: (key) =>
      (ofPeers.get(key) ?? []).flatMap(({ host, announcement }) => {
        const peer = bySubnet.get(subnets.get(host) ?? '')
        return peer === undefined ? [] : [{ peer, weight: announcement.share ?? 1 }]
      }),
    local: localObjects(family, own, [...routed.values()].flat(), { links, addresses }),
    further: own.filter(({ further }) => further === true).map(({ prefix }) => prefix),
    shared: [...ofPeers.values()].flatMap(([first, second]) =>
      first === undefined || second === undefined ? [] : [first.announcement.prefix],
    ),
  }
}

const textOf = (prefix: Prefix | undefined): string => (prefix === undefined ? '' : formatPrefix(prefix))
