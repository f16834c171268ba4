/**
 * The peers of this host in one family: the leases of the others that can be believed. A lease that cannot be is rejected with a reason and
 * costs nobody else anything; a peer whose lease turns bad stays as it was last good until its key goes.
 */
import {
  type Family,
  familyOf,
  formatIp,
  formatMac,
  formatPrefix,
  type IpAddress,
  isUnicast,
  isUnicastMac,
  type MacAddress,
  type Prefix,
  prefixContains,
  prefixesOverlap,
  samePrefix,
} from '../model/address'
import { type Lease, leaseHalf, type Peer, type RejectedLease, type UnreadableLease } from '../model/lease'
import type { SubnetRange } from '../model/network-config'

/** What of the network a peer must fit. */
export interface OverlayNetwork {
  readonly range: SubnetRange
  readonly vni: number
}

/** What of this host a peer must not clash with. */
export interface OwnIdentity {
  readonly key: string
  readonly subnet: Prefix
  readonly publicIp: IpAddress
  readonly mac: MacAddress
}

/** One peer that came (`before` undefined), went (`after` undefined) or changed. */
export interface PeerChange {
  readonly before: Peer | undefined
  readonly after: Peer | undefined
}

interface Rejection {
  readonly reason: string
  /** The lease, where it could be read. */
  readonly lease: Lease | undefined
  /** Whether it is good in itself and only clashes with a peer: it may be one when that peer leaves. */
  readonly waits: boolean
}

export class PeerTable {
  /** lease key -> peer */
  readonly #peers = new Map<string, Peer>()
  /** lease key -> the lease or what could not be read of it, with the reason */
  readonly #rejected = new Map<string, Rejection>()
  /** subnet address -> lease key, of the peers */
  readonly #bySubnet = new Map<IpAddress, string>()
  /** MAC -> lease keys, of the peers; several only for one host's several leases */
  readonly #byMac = new Map<MacAddress, Set<string>>()

  /** @param network what leases are held against; its range is of the family that this table is about */
  constructor(
    private network: OverlayNetwork,
    private own: OwnIdentity,
  ) {}

  /** Takes in that this host has another address: no peer may have it, and one may have the former. */
  moveTo(publicIp: IpAddress): PeerChange[] {
    this.own = { ...this.own, publicIp }
    const doubles = [...this.#peers.values()].filter((peer) => peer.publicIp === publicIp)
    for (const peer of doubles) {
      this.#forget(peer)
      this.#rejected.set(peer.key, { reason: ownAddress(publicIp), lease: undefined, waits: false })
    }
    const rejected = [...this.#rejected.values()].flatMap(({ lease }) => lease ?? [])
    const changes = oldestFirst(rejected).flatMap((lease) => this.put(lease))
    return [...doubles.map((before) => ({ before, after: undefined })), ...changes]
  }

  /**
   * Takes in that the network is another one: leases that were rejected may be good now. A peer that would be rejected now stays as it was last good,
   * as one does whose lease turns bad.
   */
  moveInto(network: OverlayNetwork): PeerChange[] {
    const former = this.network
    this.network = network
    for (const peer of this.#peers.values()) {
      const reason =
        network.vni === former.vni
          ? misplaced(peer.subnet, network.range)
          : `its VNI is not known to be the network's ${network.vni} yet`
      if (reason === undefined || this.#rejected.has(peer.key)) continue
      this.#rejected.set(peer.key, { reason, lease: undefined, waits: false })
    }
    const rejected = [...this.#rejected.values()].flatMap(({ lease }) => lease ?? [])
    return oldestFirst(rejected).flatMap((lease) => this.put(lease))
  }

  get size(): number {
    return this.#peers.size
  }

  /** The peer of that lease. */
  peer(key: string): Peer | undefined {
    return this.#peers.get(key)
  }

  peers(): IterableIterator<Peer> {
    return this.#peers.values()
  }

  *rejected(): Generator<RejectedLease> {
    for (const [key, { reason }] of this.#rejected) {
      yield { key, reason, keepsLastGood: this.#peers.has(key) }
    }
  }

  /** Why the lease under that key is not followed; `undefined` when it is, or is not there. */
  reasonAgainst(key: string): string | undefined {
    return this.#rejected.get(key)?.reason
  }

  /** The peer with that subnet address. */
  peerAt(subnet: IpAddress): Peer | undefined {
    const key = this.#bySubnet.get(subnet)
    return key === undefined ? undefined : this.#peers.get(key)
  }

  /** A peer with that MAC; all of them have one PublicIP. */
  peerWithMac(mac: MacAddress): Peer | undefined {
    const [key] = this.#byMac.get(mac) ?? []
    return key === undefined ? undefined : this.#peers.get(key)
  }

  /**
   * Takes over a complete listing: what is not in it is gone. Claims are heard from the oldest to the newest, so that a newcomer
   * cannot push out whom it clashes with.
   */
  reset(leases: readonly Lease[], unreadable: readonly UnreadableLease[]): PeerChange[] {
    const before = new Map(this.#peers)
    this.#rejected.clear()
    for (const peer of before.values()) this.#forget(peer)
    for (const lease of oldestFirst(leases)) this.put(lease)
    for (const lease of unreadable) this.putUnreadable(lease)
    for (const key of this.#rejected.keys()) {
      const lastGood = before.get(key)
      if (lastGood !== undefined && this.#clash(lastGood) === undefined) this.#admit(lastGood)
    }
    const keys = new Set([...before.keys(), ...this.#peers.keys()])
    return [...keys]
      .map((key) => ({ before: before.get(key), after: this.#peers.get(key) }))
      .filter((change) => !samePeer(change.before, change.after))
  }

  /** Takes in a new or changed lease. */
  put(lease: Lease): PeerChange[] {
    if (lease.key === this.own.key) return []
    const peer = judgeAlone(lease, this.network, this.own)
    if (typeof peer === 'string') {
      this.#rejected.set(lease.key, { reason: peer, lease, waits: false })
      return []
    }
    const clash = this.#clash(peer)
    if (clash !== undefined) {
      this.#rejected.set(lease.key, { reason: clash, lease, waits: true })
      return []
    }
    this.#rejected.delete(lease.key)
    const before = this.#peers.get(lease.key)
    if (samePeer(before, peer)) return []
    if (before !== undefined) this.#forget(before)
    this.#admit(peer)
    return [{ before, after: peer }, ...(before === undefined ? [] : this.#reconsider())]
  }

  /** Takes in that a lease is there and cannot be read. */
  putUnreadable(lease: UnreadableLease): void {
    if (lease.key !== this.own.key) {
      this.#rejected.set(lease.key, { reason: lease.reason, lease: undefined, waits: false })
    }
  }

  /** Takes in that a lease is gone. */
  remove(key: string): PeerChange[] {
    this.#rejected.delete(key)
    const before = this.#peers.get(key)
    if (before === undefined) return []
    this.#forget(before)
    return [{ before, after: undefined }, ...this.#reconsider()]
  }

  /** A place became free: leases that were rejected for it may have it now, the oldest claim first. */
  #reconsider(): PeerChange[] {
    const waiting = [...this.#rejected.values()].flatMap(({ lease, waits }) =>
      waits && lease !== undefined ? [lease] : [],
    )
    return oldestFirst(waiting).flatMap((lease) => this.put(lease))
  }

  #admit(peer: Peer): void {
    this.#peers.set(peer.key, peer)
    this.#bySubnet.set(peer.subnet.address, peer.key)
    const keys = this.#byMac.get(peer.mac) ?? new Set()
    this.#byMac.set(peer.mac, keys.add(peer.key))
  }

  #forget(peer: Peer): void {
    this.#peers.delete(peer.key)
    this.#bySubnet.delete(peer.subnet.address)
    const keys = this.#byMac.get(peer.mac)
    keys?.delete(peer.key)
    if (keys?.size === 0) this.#byMac.delete(peer.mac)
  }

  /** Why a lease that is good in itself cannot stand beside the other peers. */
  #clash(peer: Peer): string | undefined {
    const holder = this.peerAt(peer.subnet.address)
    if (holder !== undefined && holder.key !== peer.key) {
      return `subnet ${formatPrefix(peer.subnet)} is already that of ${formatIp(holder.publicIp)} (${holder.key})`
    }
    const namesakes = [...(this.#byMac.get(peer.mac) ?? [])].flatMap((key) => this.#peers.get(key) ?? [])
    const namesake = namesakes.find((other) => other.key !== peer.key && other.publicIp !== peer.publicIp)
    if (namesake === undefined) return undefined
    return `MAC ${formatMac(peer.mac)} is already that of ${formatIp(namesake.publicIp)} (${namesake.key})`
  }
}

const ownAddress = (publicIp: IpAddress): string =>
  `${FIELDS[familyOf(publicIp)].ip} ${formatIp(publicIp)} is our own`

/** How the fields of a lease's halves are called. */
const FIELDS: Readonly<Record<Family, { readonly ip: string; readonly data: string }>> = {
  IPv4: { ip: 'PublicIP', data: 'BackendData' },
  IPv6: { ip: 'PublicIPv6', data: 'BackendV6Data' },
}

/** Checks a lease by itself: all but clashes with other peers. */
function judgeAlone(lease: Lease, { range, vni }: OverlayNetwork, own: OwnIdentity): Peer | string {
  const { network } = range
  const family = familyOf(network.address)
  const { ip, data } = FIELDS[family]
  const half = leaseHalf(lease, family)
  if (half === undefined) return `it has no ${family} subnet`
  const { subnet, publicIp, vtep } = half
  const place = misplaced(subnet, range)
  if (place !== undefined) return place
  if (prefixesOverlap(subnet, own.subnet)) {
    return `subnet ${formatPrefix(subnet)} overlaps our own ${formatPrefix(own.subnet)}`
  }
  const { backendType } = lease.value
  if (backendType !== 'vxlan') return `BackendType "${backendType}" is not vxlan`
  if (publicIp === undefined) return `it has no ${ip}`
  if (!isUnicast(publicIp)) return `${ip} ${formatIp(publicIp)} is not a unicast address`
  if (publicIp === own.publicIp) return ownAddress(publicIp)
  if (prefixContains(network, publicIp)) {
    return `${ip} ${formatIp(publicIp)} lies inside the overlay network ${formatPrefix(network)}`
  }
  if (vtep === undefined) return `${data} has no usable VNI and VtepMAC`
  if (vtep.vni !== vni) return `VNI ${vtep.vni} is not the network's ${vni}`
  if (!isUnicastMac(vtep.mac)) return `VtepMAC ${formatMac(vtep.mac)} is not a unicast address`
  if (vtep.mac === own.mac) return `VtepMAC ${formatMac(vtep.mac)} is our own`
  return { key: lease.key, subnet, publicIp, mac: vtep.mac }
}

/** Why a subnet is none of that network. */
function misplaced(subnet: Prefix, { network, subnetLength }: SubnetRange): string | undefined {
  if (!prefixContains(network, subnet.address) || subnet.length <= network.length) {
    return `subnet ${formatPrefix(subnet)} is outside the network ${formatPrefix(network)}`
  }
  return subnet.length === subnetLength
    ? undefined
    : `subnet ${formatPrefix(subnet)} is not a /${subnetLength}`
}

function samePeer(a: Peer | undefined, b: Peer | undefined): boolean {
  if (a === undefined || b === undefined) return a === b
  return a.publicIp === b.publicIp && a.mac === b.mac && samePrefix(a.subnet, b.subnet)
}

/** The order of claims: a lease that was written earlier is heard earlier. */
function oldestFirst(leases: readonly Lease[]): Lease[] {
  return [...leases].sort((a, b) => (a.modRevision < b.modRevision ? -1 : 1))
}
