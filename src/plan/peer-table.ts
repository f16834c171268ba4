/**
 * The peers of this host: the leases of the others that can be believed. A lease that cannot be is rejected with a reason and
 * costs nobody else anything; a peer whose lease turns bad stays as it was last good until its key goes.
 */
import {
  formatIpv4,
  formatMac,
  formatPrefix,
  type Ipv4,
  type Ipv4Prefix,
  isUnicast,
  isUnicastMac,
  type MacAddress,
  prefixContains,
  prefixesOverlap,
  samePrefix,
} from '../model/address'
import type { Lease, Peer, RejectedLease, UnreadableLease } from '../model/lease'
import type { NetworkConfig } from '../model/network-config'

/** What of this host a peer must not clash with. */
export interface OwnIdentity {
  readonly key: string
  readonly subnet: Ipv4Prefix
  readonly publicIp: Ipv4
  readonly mac: MacAddress
}

/** One peer that came (`before` undefined), went (`after` undefined) or changed. */
export interface PeerChange {
  readonly before: Peer | undefined
  readonly after: Peer | undefined
}

interface Rejection {
  readonly reason: string
  /** The lease, when it is good in itself and only clashes with a peer: it may be one when that peer leaves. */
  readonly waiting: Lease | undefined
}

export class PeerTable {
  /** lease key -> peer */
  readonly #peers = new Map<string, Peer>()
  /** lease key -> the lease or what could not be read of it, with the reason */
  readonly #rejected = new Map<string, Rejection>()
  /** subnet address -> lease key, of the peers */
  readonly #bySubnet = new Map<Ipv4, string>()
  /** MAC -> lease keys, of the peers; several only for one host's several leases */
  readonly #byMac = new Map<MacAddress, Set<string>>()

  constructor(
    private readonly config: NetworkConfig,
    private readonly own: OwnIdentity,
  ) {}

  get size(): number {
    return this.#peers.size
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
  peerAt(subnet: Ipv4): Peer | undefined {
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
    const peer = judgeAlone(lease, this.config, this.own)
    if (typeof peer === 'string') {
      this.#rejected.set(lease.key, { reason: peer, waiting: undefined })
      return []
    }
    const clash = this.#clash(peer)
    if (clash !== undefined) {
      this.#rejected.set(lease.key, { reason: clash, waiting: lease })
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
      this.#rejected.set(lease.key, { reason: lease.reason, waiting: undefined })
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
    const waiting = [...this.#rejected.values()].flatMap((rejection) => rejection.waiting ?? [])
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
      return `subnet ${formatPrefix(peer.subnet)} is already that of ${formatIpv4(holder.publicIp)} (${holder.key})`
    }
    const namesakes = [...(this.#byMac.get(peer.mac) ?? [])].flatMap((key) => this.#peers.get(key) ?? [])
    const namesake = namesakes.find((other) => other.key !== peer.key && other.publicIp !== peer.publicIp)
    if (namesake === undefined) return undefined
    return `MAC ${formatMac(peer.mac)} is already that of ${formatIpv4(namesake.publicIp)} (${namesake.key})`
  }
}

/** Checks a lease by itself: all but clashes with other peers. */
function judgeAlone(lease: Lease, config: NetworkConfig, own: OwnIdentity): Peer | string {
  const { value, key } = lease
  const subnet = lease.subnet.ipv4
  const { publicIp, vtep } = value
  if (!prefixContains(config.network, subnet.address) || subnet.length <= config.network.length) {
    return `subnet ${formatPrefix(subnet)} is outside the network ${formatPrefix(config.network)}`
  }
  if (subnet.length !== config.subnetLength) {
    return `subnet ${formatPrefix(subnet)} is not a /${config.subnetLength}`
  }
  if (prefixesOverlap(subnet, own.subnet)) {
    return `subnet ${formatPrefix(subnet)} overlaps our own ${formatPrefix(own.subnet)}`
  }
  if (value.backendType !== 'vxlan') return `BackendType "${value.backendType}" is not vxlan`
  if (!isUnicast(publicIp)) return `PublicIP ${formatIpv4(publicIp)} is not a unicast address`
  if (publicIp === own.publicIp) return `PublicIP ${formatIpv4(publicIp)} is our own`
  if (prefixContains(config.network, publicIp)) {
    return `PublicIP ${formatIpv4(publicIp)} lies inside the overlay network ${formatPrefix(config.network)}`
  }
  if (vtep === undefined) return 'BackendData has no usable VNI and VtepMAC'
  if (vtep.vni !== config.backend.vni) return `VNI ${vtep.vni} is not the network's ${config.backend.vni}`
  if (!isUnicastMac(vtep.mac)) return `VtepMAC ${formatMac(vtep.mac)} is not a unicast address`
  if (vtep.mac === own.mac) return `VtepMAC ${formatMac(vtep.mac)} is our own`
  return { key, subnet, publicIp, mac: vtep.mac }
}

function samePeer(a: Peer | undefined, b: Peer | undefined): boolean {
  if (a === undefined || b === undefined) return a === b
  return a.publicIp === b.publicIp && a.mac === b.mac && samePrefix(a.subnet, b.subnet)
}

/** The order of claims: a lease that was written earlier is heard earlier. */
function oldestFirst(leases: readonly Lease[]): Lease[] {
  return [...leases].sort((a, b) => (a.modRevision < b.modRevision ? -1 : 1))
}
