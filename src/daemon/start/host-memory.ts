/**
 * Translates between the state file's text and the daemon's types: what an earlier run of this host saved.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Keys } from '../../etcd/codec/keys'
import {
  decodeLease,
  encodeLeaseValue,
  isReadable,
  type LeasePlace,
  toRevision,
} from '../../etcd/codec/lease-codec'
import { decodePrefix, encodeAnnouncement } from '../../etcd/codec/prefix-codec'
import type { KeyValue } from '../../etcd/codec/wire'
import type { Snapshot } from '../../etcd/follow/snapshot'
import { keepsItsMac, readMachineDigest } from '../../host/machine'
import type { SavedAnnouncement, SavedState } from '../../host/state-file'
import {
  formatIp,
  formatMac,
  formatPrefix,
  type IpAddress,
  ipv4,
  type MacAddress,
  parseIpPrefix,
  parseIpv4,
  parseIpv6,
  parseMac,
} from '../../model/address'
import type { HostFacts } from '../../model/host-facts'
import {
  type EtcdLeaseId,
  isReservation,
  type Lease,
  type LeaseValue,
  type Peer,
  type Revision,
  type Vtep,
} from '../../model/lease'
import { lifeLeft } from '../../model/lease-life'
import type { Moment, Renewal } from '../../model/moment'
import { type Announcement, formatVia, type PrefixClaim, parseVia } from '../../model/prefixes'
import {
  leadsNowhere,
  type RememberedUnderlay,
  type Underlay,
  type UnderlayAddress,
} from '../../plan/host/underlay'
import type { SeenSerial } from '../../plan/trust/serial'

/** The content of the state file. Only its form is checked. */
export interface HostMemory {
  readonly savedAt: string
  readonly host: HostFacts
  readonly own: Lease
  readonly ownState: SavedState['own']['state']
  readonly renewal: Renewal | undefined
  readonly macs: { readonly ipv4: MacAddress | undefined; readonly ipv6: MacAddress | undefined }
  /** The greatest serials that were seen of pinned subnets. */
  readonly seenSerials: readonly SeenSerial[]
  /** The prefixes that the host announced; `undefined` where the file of before does not say. */
  readonly announced: readonly Announcement[] | undefined
  /** The network config and all leases, as of `savedAt`. */
  readonly snapshot: Snapshot
}

/**
 * Parses a saved state.
 * @param prefix the etcd prefix of this daemon
 * @returns the reason as text if the state is of another network, or if its own lease is unreadable
 */
export function recall(saved: SavedState, prefix: string, keys: Keys): HostMemory | string {
  const placeOf = (key: string): LeasePlace => ({ kind: 'lease', key, name: key.slice(keys.subnets.length) })
  if (saved.prefix !== prefix) return `it belongs to the network at ${saved.prefix}, not to ${prefix}`
  const own = decodeLease(placeOf(saved.own.key), keyValue(saved.own))
  if (!isReadable(own)) return `its lease ${own.key} cannot be read: ${own.reason}`
  const { ipv4: mac4, ipv6: mac6 } = saved.macs
  return {
    savedAt: saved.savedAt,
    host: saved.host,
    own,
    ownState: saved.own.state,
    renewal: saved.own.renewal,
    macs: {
      ipv4: mac4 === undefined ? undefined : parseMac(mac4),
      ipv6: mac6 === undefined ? undefined : parseMac(mac6),
    },
    announced: saved.announced?.flatMap(readAnnouncement),
    seenSerials: (saved.seen ?? []).map(([subnet, identity, serial]) => ({ subnet, identity, serial })),
    snapshot: {
      revision: toRevision(saved.revision),
      ...(saved.clusterId !== undefined && { clusterId: saved.clusterId }),
      config: saved.config.text,
      configRevision: saved.config.revision === undefined ? undefined : toRevision(saved.config.revision),
      // Decoded on access: only a start without etcd needs the leases.
      get leases() {
        const peers = saved.peers.map(([key, value]) =>
          decodeLease(placeOf(key), keyValue({ key, value, etcdLease: '0', modRevision: saved.revision })),
        )
        return [own, ...peers.filter(isReadable)]
      },
      get prefixes() {
        return saved.prefixes?.map(([name, value, claimedAt]) =>
          decodePrefix(name, {
            ...keyValue({ key: '', value, etcdLease: '0', modRevision: saved.revision }),
            createRevision: toRevision(claimedAt),
          }),
        )
      },
      unreadable: [],
    },
  }
}

function readAnnouncement(saved: SavedAnnouncement): Announcement[] {
  const { prefix: text, priority, until, share, further } = saved
  const prefix = parseIpPrefix(text)
  const via = saved.via === undefined ? undefined : parseVia(saved.via)
  if (prefix === undefined) return []
  const more = { ...(share !== undefined && { share }), ...(further && { further }) }
  return [{ prefix, priority, until, via, ...more }]
}

/** Why a host must not start from its state file alone; `undefined` if it may. */
export function reasonAgainst({ own, ownState, renewal }: HostMemory, now: Moment): string | undefined {
  if (ownState !== 'held') return `the lease ${own.key} was not held then (${ownState})`
  if (isReservation(own)) return undefined
  if (renewal === undefined) return `the lease ${own.key} was never renewed, so it may have ended`
  const life = lifeLeft(renewal, now)
  return life.kind === 'alive' ? undefined : `the lease ${own.key} may have ended: ${life.reason}`
}

/** Whether etcd's data cannot follow from the saved ones: another cluster, or a lower revision. */
export const isReplaced = ({ snapshot: before }: HostMemory, now: Snapshot): boolean =>
  now.revision < before.revision ||
  (before.clusterId !== undefined && now.clusterId !== undefined && before.clusterId !== now.clusterId)

function keyValue(saved: Pick<SavedState['own'], 'key' | 'value' | 'etcdLease' | 'modRevision'>): KeyValue {
  const { key, value, etcdLease, modRevision } = saved
  return {
    key: Buffer.from(key),
    value: Buffer.from(value),
    etcdLease: etcdLease as EtcdLeaseId,
    modRevision: toRevision(modRevision),
    createRevision: toRevision(modRevision),
    isNew: false,
  }
}

/** The input of {@link remember}: the present state of the host. */
export interface Present {
  readonly prefix: string
  readonly clusterId?: string | undefined
  readonly host: HostFacts
  readonly config: { readonly text: string; readonly revision: Revision | undefined }
  readonly revision: Revision
  readonly own: Lease
  readonly ownState: SavedState['own']['state']
  readonly renewal: Renewal | undefined
  readonly vni: number
  readonly seenSerials?: readonly SeenSerial[]
  /** Prefixes that this host announces; `undefined` while that is not known. */
  readonly announced?: readonly Announcement[] | undefined
  /** What all hosts announce. */
  readonly prefixes?: Iterable<PrefixClaim>
  /** Peers of each family. */
  readonly peers: { readonly ipv4: Iterable<Peer>; readonly ipv6: Iterable<Peer> }
}

/** Leases encoded in one turn of the event loop, which takes a few milliseconds. */
const SLICE = 500

/**
 * Makes the content of the state file. Its peers are those in the kernel. A peer whose lease became invalid
 * is saved as it was when its lease was last valid; a peer whose lease was never accepted is not saved.
 */
export async function remember(present: Present, now = new Date()): Promise<SavedState> {
  const { own, host, config, renewal, clusterId, seenSerials = [], announced } = present
  const { vtep, vtep6 } = own.value
  const peers: [string, string][] = []
  for (const [key, value] of leaseValues(present)) {
    if (peers.push([key, encodeLeaseValue(value)]) % SLICE === 0) await nextTurn()
  }
  const prefixes: [string, string, string][] = []
  for (const { name, announcement, claimedAt } of present.prefixes ?? []) {
    const length = prefixes.push([name, encodeAnnouncement(announcement), String(claimedAt)])
    if (length % SLICE === 0) await nextTurn()
  }
  return {
    savedAt: now.toISOString(),
    prefix: present.prefix,
    ...(clusterId !== undefined && { clusterId }),
    host,
    config: {
      text: config.text,
      ...(config.revision !== undefined && { revision: String(config.revision) }),
    },
    revision: String(present.revision),
    own: {
      key: own.key,
      value: encodeLeaseValue(own.value),
      etcdLease: own.etcdLease,
      modRevision: String(own.modRevision),
      state: present.ownState,
      ...(renewal !== undefined && { renewal }),
    },
    macs: {
      ...(vtep !== undefined && { ipv4: formatMac(vtep.mac) }),
      ...(vtep6 !== undefined && { ipv6: formatMac(vtep6.mac) }),
    },
    ...(seenSerials.length > 0 && {
      seen: seenSerials.map(({ subnet, identity, serial }) => [subnet, identity, serial] as const),
    }),
    ...(announced !== undefined && {
      announced: announced.map(({ prefix, priority, until, via, share, further }) => ({
        prefix: formatPrefix(prefix),
        priority,
        ...(until !== undefined && { until }),
        ...(via !== undefined && { via: formatVia(via) }),
        ...(share !== undefined && { share }),
        ...(further === true && { further }),
      })),
    }),
    ...(prefixes.length > 0 && { prefixes }),
    peers,
  }
}

/** Leases put together from peers: a host with both families is one peer in each family, under one key. */
function* leaseValues({ peers, vni }: Present): Generator<[string, LeaseValue]> {
  const six = new Map<string, Peer>()
  for (const peer of peers.ipv6) six.set(peer.key, peer)
  for (const peer of peers.ipv4) {
    yield [peer.key, leaseValueOf(vni, peer, six.get(peer.key))]
    six.delete(peer.key)
  }
  for (const [key, peer] of six) yield [key, leaseValueOf(vni, undefined, peer)]
}

function leaseValueOf(vni: number, four: Peer | undefined, six: Peer | undefined): LeaseValue {
  return {
    publicIp: typeof four?.publicIp === 'number' ? four.publicIp : ipv4(0),
    publicIpv6: typeof six?.publicIp === 'bigint' ? six.publicIp : undefined,
    backendType: 'vxlan',
    vtep: four && vtepOf(vni, four),
    vtep6: six && vtepOf(vni, six),
  }
}

function vtepOf(vni: number, { mac, multicast }: Peer): Vtep {
  return multicast === undefined ? { vni, mac } : { vni, mac, multicast }
}

/**
 * The underlay addresses that this host sent from before. A state file that another machine wrote does not
 * count. For a family without a recorded address it is the address that the device sends from.
 * @param deviceAddresses local addresses of the VXLAN devices
 */
export async function rememberUnderlay(
  memory: HostMemory | undefined,
  deviceAddresses: readonly IpAddress[],
): Promise<RememberedUnderlay> {
  const machine = await readMachineDigest()
  const recorded = memory?.host
  const isOurs = recorded?.machine === undefined || machine === undefined || recorded.machine === machine
  const pair = <A extends IpAddress>(
    text: { readonly local: string; readonly public: string } | undefined,
    parse: (text: string) => A | undefined,
    isOne: (address: IpAddress) => address is A,
  ): UnderlayAddress<A> | undefined => {
    const local = isOurs && text ? parse(text.local) : undefined
    const announced = text && parse(text.public)
    if (local !== undefined && announced !== undefined) return { local, public: announced }
    const sent = deviceAddresses.filter((each) => !leadsNowhere(each)).find(isOne)
    return sent === undefined ? undefined : { local: sent, public: sent }
  }
  return {
    ipv4: pair(recorded?.ipv4, parseIpv4, (each) => typeof each === 'number'),
    ipv6: pair(recorded?.ipv6, parseIpv6, (each) => typeof each === 'bigint'),
  }
}

/** Facts that distinguish this machine from a copy of it. */
export async function gatherFacts({ link, ipv4: four, ipv6: six }: Underlay): Promise<HostFacts> {
  const machine = await readMachineDigest()
  const address = (pair: UnderlayAddress | undefined) =>
    pair && { local: formatIp(pair.local), public: formatIp(pair.public) }
  const isThere = (pair: UnderlayAddress | undefined): boolean =>
    pair !== undefined && !leadsNowhere(pair.local)
  return {
    ...(machine !== undefined && { machine }),
    ...((await keepsItsMac(link.name)) && { linkMac: formatMac(link.mac) }),
    ...(isThere(four) && { ipv4: address(four) }),
    ...(isThere(six) && { ipv6: address(six) }),
  }
}
