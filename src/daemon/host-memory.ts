/** What the daemon remembers of an earlier run, in its own terms: the state file's text read and written. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Keys } from '../etcd/keys'
import { decodeLease, encodeLeaseValue, isReadable, toRevision } from '../etcd/lease-codec'
import type { Snapshot } from '../etcd/snapshot'
import type { KeyValue } from '../etcd/wire'
import { keepsItsMac, readMachineDigest } from '../host/machine'
import type { SavedState } from '../host/state-file'
import { formatIp, formatMac, ipv4, type MacAddress, parseMac } from '../model/address'
import type { HostFacts } from '../model/host-facts'
import {
  type EtcdLeaseId,
  isReservation,
  type Lease,
  type LeaseValue,
  type Peer,
  type Revision,
  type Vtep,
} from '../model/lease'
import type { Moment, Renewal } from '../model/moment'
import { lifeLeft } from '../plan/lease-life'
import type { Underlay, UnderlayAddress } from '../plan/underlay'

/** An earlier run's state, judged by nothing yet but its form. */
export interface HostMemory {
  readonly savedAt: string
  readonly host: HostFacts
  readonly own: Lease
  readonly ownState: SavedState['own']['state']
  readonly renewal: Renewal | undefined
  readonly macs: { readonly ipv4: MacAddress | undefined; readonly ipv6: MacAddress | undefined }
  /** The network as it was last known. */
  readonly snapshot: Snapshot
}

/**
 * Reads a saved state.
 * @returns the reason when it is of another network, or its own lease cannot be read
 */
export function recall(saved: SavedState, prefix: string, keys: Keys): HostMemory | string {
  if (saved.prefix !== prefix) return `it is of the network at ${saved.prefix}, and this is ${prefix}`
  const own = decodeLease(keys, keyValue(saved.own))
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
    snapshot: {
      revision: toRevision(saved.revision),
      ...(saved.clusterId !== undefined && { clusterId: saved.clusterId }),
      config: saved.config.text,
      configRevision: saved.config.revision === undefined ? undefined : toRevision(saved.config.revision),
      // Read when they are needed: by a host that comes up without etcd.
      get leases() {
        const peers = saved.peers.map(([key, value]) =>
          decodeLease(keys, keyValue({ key, value, etcdLease: '0', modRevision: saved.revision })),
        )
        return [own, ...peers.filter(isReadable)]
      },
      unreadable: [],
    },
  }
}

/** Why a host must not come up on its own with what it remembers; `undefined` when it may. */
export function reasonAgainst({ own, ownState, renewal }: HostMemory, now: Moment): string | undefined {
  if (ownState !== 'held') return `the lease ${own.key} was not held then (${ownState})`
  if (isReservation(own)) return undefined
  if (renewal === undefined) return `the lease ${own.key} was never renewed, so it may have ended`
  const life = lifeLeft(renewal, now)
  return life.kind === 'alive' ? undefined : `the lease ${own.key} may have ended: ${life.reason}`
}

/** Whether what etcd has cannot have become of what is remembered: it is another cluster, or an older state of it. */
export const isReplaced = ({ snapshot: before }: HostMemory, now: Snapshot): boolean =>
  now.revision < before.revision ||
  (before.clusterId !== undefined && now.clusterId !== undefined && before.clusterId !== now.clusterId)

function keyValue(saved: Pick<SavedState['own'], 'key' | 'value' | 'etcdLease' | 'modRevision'>): KeyValue {
  const { key, value, etcdLease, modRevision } = saved
  return { key, value, etcdLease: etcdLease as EtcdLeaseId, modRevision: toRevision(modRevision) }
}

/** What is to be remembered of now. */
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
  /** The peers of each family. */
  readonly peers: { readonly ipv4: Iterable<Peer>; readonly ipv6: Iterable<Peer> }
}

/** Leases encoded at a time, so that whoever waits for the event loop waits for a few milliseconds at the most. */
const SLICE = 500

/**
 * Makes the state to be saved. The peers are those that are programmed, so one whose lease turned bad is kept as it was last good, and
 * one that is not believed is not remembered.
 */
export async function remember(present: Present, now = new Date()): Promise<SavedState> {
  const { own, host, config, renewal, clusterId } = present
  const { vtep, vtep6 } = own.value
  const peers: [string, string][] = []
  for (const [key, value] of leaseValues(present)) {
    if (peers.push([key, encodeLeaseValue(value)]) % SLICE === 0) await nextTurn()
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
    peers,
  }
}

/** The peers' leases put together again: a host that has both families is a peer in each, under one key. */
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

/** What tells this machine from a copy of it, as it is now. */
export async function gatherFacts({ link, ipv4: four, ipv6: six }: Underlay): Promise<HostFacts> {
  const machine = await readMachineDigest()
  const address = (pair: UnderlayAddress | undefined) =>
    pair && { local: formatIp(pair.local), public: formatIp(pair.public) }
  return {
    ...(machine !== undefined && { machine }),
    ...((await keepsItsMac(link.name)) && { linkMac: formatMac(link.mac) }),
    ...(four !== undefined && { ipv4: address(four) }),
    ...(six !== undefined && { ipv6: address(six) }),
  }
}
