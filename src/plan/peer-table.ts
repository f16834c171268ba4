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
import {
  type Lease,
  leaseHalf,
  type Peer,
  type RejectedLease,
  type Revision,
  type UnreadableLease,
} from '../model/lease'
import type { SubnetRange } from '../model/network-config'

/** What of the network a peer must fit. */
export interface OverlayNetwork {
  readonly range: SubnetRange
  readonly vni: number
  /** Whether the network may cover addresses of the underlay: then only a PublicIP in a subnet of its own or ours is absurd. */
  readonly overlap?: boolean
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

/** An address that packets of this host must reach outside the overlay. */
export interface ProtectedAddress {
  readonly address: IpAddress
  /** What it is, to follow it: `the address of etcd`. */
  readonly what: string
}

interface Rejection {
  readonly reason: string
  /** What may be good when this host is another: the lease as it was read, or the claim it makes. */
  readonly lease?: Lease
  readonly claim?: Claim
}

/** What a lease that is good in itself asks for. */
interface Claim {
  readonly peer: Peer
  /** The revision at which it was made: an earlier claim is heard earlier, and writing the same again makes it no later. */
  readonly since: Revision
}

/**
 * Every lease that is good in itself is a claim on its subnet and its MAC. Claims are heard from the oldest to the newest, so that a newcomer cannot
 * push out whom it clashes with: one that is admitted holds, one that clashes waits. A lease that waits or cannot be believed leaves its
 * peer as it was last good. If it waits, its host has renounced what it had before, and whoever claims that gets it. Events and a listing of
 * their outcome lead to the same table.
 */
export class PeerTable {
  /** lease key -> peer: what holds, and what is as it was last good */
  readonly #peers = new Map<string, Peer>()
  /** lease key -> claim that holds; its peer is among the peers */
  readonly #held = new Map<string, Claim>()
  /** lease key -> claim that clashes with one that holds */
  readonly #waiting = new Map<string, Claim>()
  /** lease key -> the lease or what could not be read of it, with the reason */
  #rejected = new Map<string, Rejection>()
  /** subnet address -> lease key, of the peers */
  readonly #bySubnet = new Map<IpAddress, string>()
  /** MAC -> lease keys, of the peers; several only for one host's several leases */
  readonly #byMac = new KeyIndex<MacAddress>()
  /** subnet address, or MAC -> lease keys of those that wait for it */
  readonly #waitingForSubnet = new KeyIndex<IpAddress>()
  readonly #waitingForMac = new KeyIndex<MacAddress>()
  #protected: readonly ProtectedAddress[] = []
  /** lease key -> the peer before the current change, of all that it touches; `undefined` while all are heard anew */
  #touched: Map<string, Peer | undefined> | undefined = new Map()

  /** @param network what leases are held against; its range is of the family that this table is about */
  constructor(
    private network: OverlayNetwork,
    private own: OwnIdentity,
  ) {}

  /** Takes in that this host has another address: no peer may have it, and one may have the former. */
  moveTo(publicIp: IpAddress): PeerChange[] {
    this.own = { ...this.own, publicIp }
    return this.#judgeAgain()
  }

  /**
   * Takes in which addresses no peer's subnet may cover: a route to it would cut this host off from them. Those outside the network and those
   * in our own subnet cannot be, and do not count.
   */
  protect(addresses: readonly ProtectedAddress[]): PeerChange[] {
    const { network } = this.network.range
    const endangered = addresses.filter(
      ({ address }) => prefixContains(network, address) && !prefixContains(this.own.subnet, address),
    )
    const words = (list: readonly ProtectedAddress[]): string => list.map(describeProtected).sort().join()
    if (words(endangered) === words(this.#protected)) return []
    this.#protected = endangered
    return this.#judgeAgain()
  }

  /**
   * Takes in that the network is another one: leases that were rejected may be good now. A peer that would be rejected now stays as it was last good,
   * as one does whose lease turns bad.
   */
  moveInto(network: OverlayNetwork): PeerChange[] {
    const former = this.network
    this.network = { ...former, ...network }
    return this.#judgeAgain(({ subnet }) =>
      network.vni === former.vni
        ? misplaced(subnet, network.range)
        : `its VNI is not known to be the network's ${network.vni} yet`,
    )
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

  /** The peers in whose place the lease under that key would be; none when it is followed, or rejected for itself. */
  rivalsOf(key: string): readonly Peer[] {
    const claim = this.#waiting.get(key)
    return claim === undefined ? [] : this.#rivals(claim.peer)
  }

  /** The peer with that subnet address. */
  peerAt(subnet: IpAddress): Peer | undefined {
    const key = this.#bySubnet.get(subnet)
    return key === undefined ? undefined : this.#peers.get(key)
  }

  /** A peer with that MAC; all of them have one PublicIP. */
  peerWithMac(mac: MacAddress): Peer | undefined {
    const key = this.#byMac.first(mac)
    return key === undefined ? undefined : this.#peers.get(key)
  }

  /** Takes over a complete listing: what is not in it is gone. */
  reset(leases: readonly Lease[], unreadable: readonly UnreadableLease[]): PeerChange[] {
    return toTheEnd(this.resetting(leases, unreadable))
  }

  /** The same in pieces of a few milliseconds. Until its end the table is neither what it was nor what it will be. */
  *resetting(
    leases: readonly Lease[],
    unreadable: readonly UnreadableLease[],
  ): Generator<void, PeerChange[]> {
    const rejected = new Map<string, Rejection>()
    const claims: Claim[] = []
    const reject = (key: string, rejection: Rejection): void => {
      rejected.set(key, rejection)
      const lastGood = this.#held.get(key)
      if (lastGood !== undefined) claims.push(lastGood)
    }
    for (const [i, lease] of leases.entries()) {
      if (i % PIECE === 0) yield
      const { key } = lease
      if (key === this.own.key) continue
      const peer = this.#judge(lease)
      if (typeof peer === 'string') reject(key, { reason: peer, lease })
      else claims.push(claimOf(peer, lease.modRevision, this.#held.get(key) ?? this.#waiting.get(key)))
    }
    for (const { key, reason } of unreadable) if (key !== this.own.key) reject(key, { reason })
    return yield* this.#rebuild(claims, rejected)
  }

  /** Takes in a new or changed lease. */
  put(lease: Lease): PeerChange[] {
    const { key } = lease
    if (key === this.own.key) return []
    const peer = this.#judge(lease)
    if (typeof peer === 'string') {
      this.#stopWaiting(key)
      this.#rejected.set(key, { reason: peer, lease })
      return []
    }
    this.#rejected.delete(key)
    const held = this.#held.get(key)
    if (held !== undefined && samePeer(held.peer, peer)) return []
    if (held !== undefined && samePlace(held.peer, peer)) return this.#renew(held, peer)
    const claim = claimOf(peer, lease.modRevision, this.#waiting.get(key))
    const lastGood = this.#peers.get(key)
    this.#stopWaiting(key)
    this.#forget(key)
    // What it held goes to those that waited for it, before the new claim is heard: it is the newest.
    if (held !== undefined) this.#hearAgain(held.peer)
    this.#hear(claim)
    if (this.#waiting.has(key)) this.#keepLastGood(key, lastGood)
    return this.#changes()
  }

  /** Takes in that a lease is there and cannot be read. */
  putUnreadable(lease: UnreadableLease): void {
    if (lease.key === this.own.key) return
    this.#stopWaiting(lease.key)
    this.#rejected.set(lease.key, { reason: lease.reason })
  }

  /** Takes in that a lease is gone. */
  remove(key: string): PeerChange[] {
    this.#rejected.delete(key)
    this.#stopWaiting(key)
    const held = this.#held.get(key)
    this.#forget(key)
    if (held !== undefined) this.#hearAgain(held.peer)
    return this.#changes()
  }

  /**
   * Holds all leases against what this host is now.
   * @param objection why a claim that was good may not be any more
   */
  #judgeAgain(objection: (peer: Peer) => string | undefined = () => undefined): PeerChange[] {
    const rejected = new Map<string, Rejection>()
    const claims = new Map<string, Claim>()
    const take = (key: string, claim: Claim): void => {
      const reason = this.#danger(claim.peer) ?? objection(claim.peer)
      if (reason === undefined) claims.set(key, claim)
      else rejected.set(key, { reason, claim })
    }
    for (const [key, claim] of [...this.#held, ...this.#waiting]) take(key, claim)
    for (const [key, { reason, lease, claim }] of this.#rejected) {
      if (this.#waiting.has(key)) continue
      const peer = lease && this.#judge(lease)
      if (claim !== undefined) take(key, claim)
      else if (lease === undefined) rejected.set(key, { reason })
      else if (typeof peer === 'string') rejected.set(key, { reason: peer, lease })
      else if (peer !== undefined) claims.set(key, claimOf(peer, lease.modRevision, undefined))
    }
    return toTheEnd(this.#rebuild([...claims.values()], rejected))
  }

  /** Hears all claims anew. */
  *#rebuild(claims: readonly Claim[], rejected: Map<string, Rejection>): Generator<void, PeerChange[]> {
    const before = new Map(this.#peers)
    this.#touched = undefined
    for (const key of before.keys()) this.#forget(key)
    for (const key of [...this.#waiting.keys()]) this.#stopWaiting(key)
    this.#rejected = rejected
    for (const [i, claim] of oldestFirst(claims).entries()) {
      if (i % PIECE === 0) yield
      if (this.#danger(claim.peer) === undefined) this.#hear(claim)
    }
    yield
    for (const key of this.#rejected.keys()) this.#keepLastGood(key, before.get(key))
    this.#touched = new Map()
    const changes = differences(before, this.#peers)
    for (const [key, after] of this.#peers) if (!before.has(key)) changes.push({ before: undefined, after })
    return changes
  }

  /** Admits a claim, or has it wait. What is only kept as it was last good gives way. */
  #hear(claim: Claim): void {
    const { peer } = claim
    const clash = this.#clash(peer, (key) => this.#held.has(key))
    if (clash !== undefined) {
      this.#waiting.set(peer.key, claim)
      this.#waitingForSubnet.add(peer.subnet.address, peer.key)
      this.#waitingForMac.add(peer.mac, peer.key)
      this.#rejected.set(peer.key, { reason: clash })
      return
    }
    for (const other of this.#rivals(peer)) this.#forget(other.key)
    this.#held.set(peer.key, claim)
    this.#admit(peer)
  }

  /**
   * A place became free: of all claims that hang together with it, the oldest are admitted.
   * @param place a peer that held it
   */
  #hearAgain(place: Peer): void {
    const claims = this.#claimsAround(place)
    if (![...claims.keys()].some((key) => this.#waiting.has(key))) return
    const lastGood = new Map<string, Peer | undefined>()
    for (const key of claims.keys()) {
      lastGood.set(key, this.#peers.get(key))
      if (this.#stopWaiting(key)) this.#rejected.delete(key)
      this.#forget(key)
    }
    for (const claim of oldestFirst([...claims.values()])) this.#hear(claim)
    for (const [key, peer] of lastGood) if (this.#waiting.has(key)) this.#keepLastGood(key, peer)
  }

  /** The claims that hang together: those on a place that some wait for, those on what these claim besides, and so on. */
  #claimsAround(place: Peer): Map<string, Claim> {
    const claims = new Map<string, Claim>()
    const [seenSubnets, seenMacs] = [new Set<IpAddress>(), new Set<MacAddress>()]
    const look: Peer[] = [place]
    const take = (keys: Iterable<string>): void => {
      for (const key of keys) {
        const claim = this.#waiting.get(key) ?? this.#held.get(key)
        if (claim === undefined || claims.has(key)) continue
        claims.set(key, claim)
        look.push(claim.peer)
      }
    }
    for (let next = look.pop(); next !== undefined; next = look.pop()) {
      const { mac } = next
      const { address } = next.subnet
      if (!seenSubnets.has(address)) {
        seenSubnets.add(address)
        const waiting = this.#waitingForSubnet.at(address)
        const holder = this.#bySubnet.get(address)
        if (waiting.length > 0) take([...waiting, ...(holder === undefined ? [] : [holder])])
      }
      if (!seenMacs.has(mac)) {
        seenMacs.add(mac)
        const waiting = this.#waitingForMac.at(mac)
        if (waiting.length > 0) take([...waiting, ...this.#byMac.at(mac)])
      }
    }
    return claims
  }

  /** Keeps a peer whose lease is not followed as it was, unless that is someone else's now. */
  #keepLastGood(key: string, peer: Peer | undefined): void {
    if (peer === undefined || this.#peers.has(key) || this.#danger(peer) !== undefined) return
    if (this.#clash(peer, () => true) === undefined) this.#admit(peer)
  }

  /** Takes in that a peer announces something else from the place it has: its claim is as old as before. */
  #renew(held: Claim, peer: Peer): PeerChange[] {
    this.#touch(peer.key)
    this.#held.set(peer.key, { ...held, peer })
    this.#peers.set(peer.key, peer)
    return this.#changes()
  }

  #admit(peer: Peer): void {
    this.#touch(peer.key)
    this.#peers.set(peer.key, peer)
    this.#bySubnet.set(peer.subnet.address, peer.key)
    this.#byMac.add(peer.mac, peer.key)
  }

  #forget(key: string): void {
    const peer = this.#peers.get(key)
    if (peer === undefined) return
    this.#touch(key)
    this.#peers.delete(key)
    this.#held.delete(key)
    this.#bySubnet.delete(peer.subnet.address)
    this.#byMac.remove(peer.mac, key)
  }

  /** @returns whether it waited */
  #stopWaiting(key: string): boolean {
    const claim = this.#waiting.get(key)
    if (claim === undefined) return false
    this.#waiting.delete(key)
    this.#waitingForSubnet.remove(claim.peer.subnet.address, key)
    this.#waitingForMac.remove(claim.peer.mac, key)
    return true
  }

  #touch(key: string): void {
    if (this.#touched?.has(key) === false) this.#touched.set(key, this.#peers.get(key))
  }

  /** What differs since the last call. */
  #changes(): PeerChange[] {
    const touched = this.#touched
    if (touched === undefined || touched.size === 0) return []
    this.#touched = new Map()
    return differences(touched, this.#peers)
  }

  /** Checks a lease by itself: all but clashes with other peers. */
  #judge(lease: Lease): Peer | string {
    const peer = judgeAlone(lease, this.network, this.own)
    return typeof peer === 'string' ? peer : (this.#danger(peer) ?? peer)
  }

  /** Why a peer would cut this host off, whatever its lease says otherwise. */
  #danger({ publicIp, subnet }: Peer): string | undefined {
    if (publicIp === this.own.publicIp) return ownAddress(publicIp)
    const covered = this.#protected.find(({ address }) => prefixContains(subnet, address))
    return covered && `subnet ${formatPrefix(subnet)} covers ${describeProtected(covered)}`
  }

  /** Why a lease that is good in itself cannot stand beside those peers. */
  #clash(peer: Peer, counts: (key: string) => boolean): string | undefined {
    for (const rival of this.#rivals(peer)) {
      if (!counts(rival.key)) continue
      const whose = `is already that of ${formatIp(rival.publicIp)} (${rival.key})`
      return rival.subnet.address === peer.subnet.address
        ? `subnet ${formatPrefix(peer.subnet)} ${whose}`
        : `MAC ${formatMac(peer.mac)} ${whose}`
    }
    return undefined
  }

  /** The other peers that have its subnet or, at another address, its MAC. */
  #rivals(peer: Peer): readonly Peer[] {
    const holder = this.peerAt(peer.subnet.address)
    const keys = this.#byMac.at(peer.mac)
    // As with nearly every claim: then there is nothing to compare.
    if (holder === undefined && keys.length === 0) return NOBODY
    const namesakes = keys.flatMap((key) => this.#peers.get(key) ?? [])
    const rivals = namesakes.filter(({ publicIp }) => publicIp !== peer.publicIp)
    return [...(holder === undefined ? [] : [holder]), ...rivals].filter(({ key }) => key !== peer.key)
  }
}

/** A claim keeps its age while its lease asks for the same place. */
function claimOf(peer: Peer, revision: Revision, before: Claim | undefined): Claim {
  return { peer, since: before !== undefined && samePlace(before.peer, peer) ? before.since : revision }
}

const describeProtected = ({ address, what }: ProtectedAddress): string => `${formatIp(address)}, ${what}`

const NOBODY: readonly Peer[] = []
const NO_KEYS: readonly string[] = []

/** Lease keys by something of theirs. Nearly always it is one key, which is then kept as it is: a set for each would be a third of the table. */
class KeyIndex<At> {
  readonly #keys = new Map<At, string | Set<string>>()

  at(at: At): readonly string[] {
    const keys = this.#keys.get(at)
    if (keys === undefined) return NO_KEYS
    return typeof keys === 'string' ? [keys] : [...keys]
  }

  first(at: At): string | undefined {
    const keys = this.#keys.get(at)
    return keys === undefined || typeof keys === 'string' ? keys : keys.values().next().value
  }

  add(at: At, key: string): void {
    const keys = this.#keys.get(at)
    if (keys === undefined) this.#keys.set(at, key)
    else if (typeof keys !== 'string') keys.add(key)
    else if (keys !== key) this.#keys.set(at, new Set([keys, key]))
  }

  remove(at: At, key: string): void {
    const keys = this.#keys.get(at)
    if (keys === undefined) return
    if (typeof keys === 'string' ? keys === key : keys.delete(key) && keys.size === 0) this.#keys.delete(at)
  }
}

function differences(
  before: Iterable<readonly [string, Peer | undefined]>,
  now: ReadonlyMap<string, Peer>,
): PeerChange[] {
  const changes: PeerChange[] = []
  for (const [key, peer] of before) {
    const after = now.get(key)
    if (!samePeer(peer, after)) changes.push({ before: peer, after })
  }
  return changes
}

const ownAddress = (publicIp: IpAddress): string =>
  `${FIELDS[familyOf(publicIp)].ip} ${formatIp(publicIp)} is our own`

/** Leases that are looked at in a piece of a long work. */
const PIECE = 1000

function toTheEnd<T>(pieces: Generator<void, T>): T {
  for (;;) {
    const { done, value } = pieces.next()
    if (done) return value
  }
}

/** How the fields of a lease's halves are called. */
const FIELDS: Readonly<Record<Family, { readonly ip: string; readonly data: string }>> = {
  IPv4: { ip: 'PublicIP', data: 'BackendData' },
  IPv6: { ip: 'PublicIPv6', data: 'BackendV6Data' },
}

/** Checks a lease by itself: all but clashes with other peers. */
function judgeAlone(lease: Lease, { range, vni, overlap }: OverlayNetwork, own: OwnIdentity): Peer | string {
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
  const inside = overlap ? [subnet, own.subnet] : [network]
  const absurd = inside.find((prefix) => prefixContains(prefix, publicIp))
  if (absurd !== undefined) {
    const what = overlap ? 'subnet' : 'network'
    return `${ip} ${formatIp(publicIp)} lies inside the overlay ${what} ${formatPrefix(absurd)}`
  }
  if (vtep === undefined) return `${data} has no usable VNI and VtepMAC`
  if (vtep.vni !== vni) return `VNI ${vtep.vni} is not the network's ${vni}`
  if (!isUnicastMac(vtep.mac)) return `VtepMAC ${formatMac(vtep.mac)} is not a unicast address`
  if (vtep.mac === own.mac) return `VtepMAC ${formatMac(vtep.mac)} is our own`
  const { multicast } = vtep
  return { key: lease.key, subnet, publicIp, mac: vtep.mac, ...(multicast !== undefined && { multicast }) }
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
  return samePlace(a, b) && a.multicast === b.multicast
}

/** Whether packets find them in the same way. */
const samePlace = (a: Peer, b: Peer): boolean =>
  a.publicIp === b.publicIp && a.mac === b.mac && samePrefix(a.subnet, b.subnet)

/** The order in which claims are heard. */
function oldestFirst(claims: readonly Claim[]): Claim[] {
  return [...claims].sort((a, b) => (a.since < b.since ? -1 : 1))
}
