/**
 * The tunnels of this host: which peers its WireGuard devices should have, what to do about those that they
 * have, and which hosts get their packets through them. A host gets packets through a tunnel only when a
 * handshake has proven that it has our key and that its packets pass. From then on it gets none in clear.
 */
import {
  addressBits,
  FAMILIES,
  type Family,
  familyOf,
  type IpAddress,
  type Prefix,
  samePrefix,
} from '../../model/address'
import type {
  ObservedWireguard,
  ObservedWireguardPeer,
  WireguardKey,
  WireguardOperation,
  WireguardPeer,
} from '../../model/kernel/wireguard'
import { type Slot, slotOf } from '../../model/lease'
import type { Way } from '../../model/way'
import { LONGEST_FOLLOW_TIME } from './rotation'
import type { TunnelHost } from './tunnel-hosts'

/**
 * Seconds between two packets without content. The same that WireGuard's documentation recommends for NAT; a
 * peer that is set with a keepalive gets a handshake at once (drivers/net/wireguard/netlink.c, set_peer).
 */
export const KEEPALIVE = 25
/**
 * Most handshakes without an answer at the same time. The kernel asks for cookies from 512 on
 * (drivers/net/wireguard/messages.h, MAX_QUEUED_INCOMING_HANDSHAKES / 8).
 */
const MOST_TRIALS = 500
/** Milliseconds of one trial: three handshakes, one each 5 s (REKEY_TIMEOUT). */
const TRIAL = 15_000
/** Milliseconds between two trials, doubled each time. */
const REST = { first: 15_000, most: 300_000 }
/** A session older than that carries no packet any more: REJECT_AFTER_TIME is 180 s. */
const DEAD = 190_000

/**
 * Milliseconds for which another host may use the former slot after this host has chosen the other one and
 * has seen a handshake there.
 */
const FORMER = 30_000

/**
 * Milliseconds for which packets of a key are taken after no host announces the key: its host may have to
 * hear first that it should send in clear. Longer than a listing of etcd takes.
 */
export const LINGER = 30_000

/** How a handshake with a peer stands. */
export type Trial =
  /** None is asked for. */
  | { readonly kind: 'none' }
  | { readonly kind: 'trying'; readonly since: number; readonly times: number }
  /** Given up for a while: the peer may still begin one. */
  | { readonly kind: 'resting'; readonly until: number; readonly times: number }

/** What is remembered of one peer of one device from pass to pass. */
export interface TunnelMemory {
  readonly trial: Trial
  /** Whether a handshake has ever proven the peer. It outlives a device that was deleted. */
  readonly isProven: boolean
  /** When this host saw it proven, in milliseconds of the wall clock. */
  readonly provenAt: number | undefined
  /**
   * The turn by which the two hosts use this slot, and since when, as far as this host knows; `undefined` for
   * the former slot.
   */
  readonly chosen: { readonly turn: number; readonly since: number } | undefined
  /** Whether the other host uses this slot too, for certain. */
  readonly isSettled: boolean
  /** Where the peer was told to be. */
  readonly endpoint: IpAddress
  readonly port: number
  /** Whether the device has, or had, the peer. */
  readonly isSet: boolean
  /** Bytes at the pass before. */
  readonly sent: bigint
  readonly received: bigint
  /** Since when packets go out over a session that is too old, and none comes back. */
  readonly silentSince: number | undefined
  /** Since when no host announces the key. */
  readonly leftAt: number | undefined
}

/** By slot and key of the peer. */
export type TunnelMemories = readonly [
  ReadonlyMap<WireguardKey, TunnelMemory>,
  ReadonlyMap<WireguardKey, TunnelMemory>,
]

export const NO_MEMORIES: TunnelMemories = [new Map(), new Map()]

export interface TunnelInputs {
  readonly hosts: readonly TunnelHost[]
  /** This host's. */
  readonly turn: number
  readonly isBehindNat: boolean
  /**
   * Whether packets in clear are taken too. Then those of a key that is announced no more are for a while;
   * otherwise such a key is shut out at once.
   */
  readonly takesClear: boolean
  /** The devices as they are; `undefined` for one that is not there. */
  readonly devices: readonly [ObservedWireguard | undefined, ObservedWireguard | undefined]
  readonly memories: TunnelMemories
  /** Wall clock in milliseconds, as the times of handshakes. */
  readonly now: number
}

export interface TunnelStep {
  readonly memories: TunnelMemories
  /** Changes of each device, to be made before packets take the new ways. */
  readonly operations: readonly [readonly WireguardOperation[], readonly WireguardOperation[]]
  /** Removals from each device, to be made when no packet takes the old ways any more. */
  readonly removals: readonly [readonly WireguardOperation[], readonly WireguardOperation[]]
  /** Of those operations the ones that undo what another program did. */
  readonly repairs: number
  /** key of a lease in etcd -> the way of the packets of each family; hosts that are proven only */
  readonly ways: ReadonlyMap<string, ReadonlyMap<Family, Way>>
  /** Whether a handshake is awaited. */
  readonly isTrying: boolean
  /**
   * Whether this host should keep its turn for another host's sake: that host may still use the slot that the
   * pair leaves, or a handshake of the pair may succeed by a turn that is not the last one any more.
   */
  readonly isChanging: boolean
}

export function planTunnels(inputs: TunnelInputs): TunnelStep {
  const { hosts, turn, devices } = inputs
  const [first, second] = [new SlotStep(inputs, 0), new SlotStep(inputs, 1)]
  const step = (slot: Slot): SlotStep => (slot === 0 ? first : second)
  const ways = new Map<string, ReadonlyMap<Family, Way>>()
  let isChanging = false
  for (const host of hosts) {
    const { keys } = host.announced
    const slot = slotWith(turn, host)
    const former: Slot = slot === 0 ? 1 : 0
    const tunnel = step(slot).want(host, true)
    // The other host may use the former slot until it has heard of the turn, and seen the handshake too.
    const isFormerThere = isPresent(inputs, former, keys[former])
    const isFormerUseful = isFormerThere && !tunnel.isSettled
    if (isFormerThere && !isFormerUseful) step(former).release(keys[former])
    isChanging ||= isFormerUseful || mayStillBegin(tunnel, inputs.now)
    const old = isFormerUseful ? step(former).want(host, false) : undefined
    const device = tunnel.isProven ? devices[slot] : old?.isProven === true ? devices[former] : undefined
    if (device === undefined) continue
    const way = waysThrough(device.index, host)
    for (const lease of host.leases) ways.set(lease, way)
  }
  const removals = [first.remove(devices[0]), second.remove(devices[1])] as const
  return {
    memories: [first.memories, second.memories],
    operations: [first.operations, second.operations],
    removals,
    repairs: first.repairs + second.repairs,
    ways,
    isTrying: first.trials + second.trials > 0,
    isChanging,
  }
}

/** The slot that packets between this host and another one use. */
export const slotWith = (turn: number, host: TunnelHost): Slot => slotOf(turnWith(turn, host))

const turnWith = (turn: number, { announced }: TunnelHost): number => Math.max(turn, announced.turn)

/**
 * Whether a first handshake of the pair is awaited still. A host that moves on meanwhile would not know of a
 * handshake in the slot that both know whether the other host has heard of the move.
 */
const mayStillBegin = ({ isProven, chosen }: TunnelMemory, now: number): boolean =>
  !isProven && chosen !== undefined && now - chosen.since < LONGEST_FOLLOW_TIME

const isPresent = ({ devices, memories }: TunnelInputs, slot: Slot, key: WireguardKey): boolean =>
  memories[slot].get(key)?.isSet === true || devices[slot]?.peers.has(key) === true

function waysThrough(link: number, { addresses }: TunnelHost): ReadonlyMap<Family, Way> {
  const ways = new Map<Family, Way>()
  for (const [family, destination] of addresses) ways.set(family, { kind: 'tunnel', link, destination })
  return ways
}

/** The step of one device. */
class SlotStep {
  readonly memories = new Map<WireguardKey, TunnelMemory>()
  readonly operations: WireguardOperation[] = []
  trials = 0
  repairs = 0
  readonly #released = new Set<WireguardKey>()

  constructor(
    private readonly inputs: TunnelInputs,
    private readonly slot: Slot,
  ) {}

  /** Lets a peer go at once: the two hosts have moved to the other slot, for certain. */
  release(publicKey: WireguardKey): void {
    this.#released.add(publicKey)
  }

  /**
   * Wants the host as a peer of the device.
   * @param isChosen whether the two hosts use this slot; otherwise they have used it until now
   */
  want(host: TunnelHost, isChosen: boolean): TunnelMemory {
    const { devices, memories, now, isBehindNat } = this.inputs
    const { slot } = this
    const device = devices[slot]
    const publicKey = host.announced.keys[slot]
    const before = memories[slot].get(publicKey)
    const observed = device?.peers.get(publicKey)
    const silentSince = silence(observed, before, now)
    const isDead = silentSince !== undefined && now - silentSince >= TRIAL
    const mayTry = this.trials < MOST_TRIALS && device !== undefined
    const trial = nextTrial(before?.trial ?? NONE, observed, isDead, now, mayTry)
    if (trial.kind === 'trying') this.trials += 1
    const wanted: WireguardPeer = {
      publicKey,
      endpoint: { address: host.endpoint, port: host.announced.port + slot },
      allowedIps: allowedIpsOf(host),
      keepalive: trial.kind === 'trying' || isBehindNat || host.isBehindNat ? KEEPALIVE : 0,
    }
    const isProven = before?.isProven === true || observed?.lastHandshake !== undefined
    const provenAt = isProven ? (before?.provenAt ?? now) : undefined
    const turn = turnWith(this.inputs.turn, host)
    const isSameTurn = before?.chosen?.turn === turn
    const chosen = isChosen ? { turn, since: isSameTurn ? before.chosen.since : now } : undefined
    const memory: TunnelMemory = {
      trial,
      isProven,
      provenAt,
      chosen,
      isSettled:
        provenAt !== undefined && chosen !== undefined && now - Math.max(provenAt, chosen.since) >= FORMER,
      endpoint: wanted.endpoint.address,
      port: wanted.endpoint.port,
      isSet: observed !== undefined || trial.kind === 'trying',
      silentSince: isDead ? undefined : silentSince,
      sent: observed?.sent ?? 0n,
      received: observed?.received ?? 0n,
      leftAt: undefined,
    }
    this.memories.set(publicKey, memory)
    if (device !== undefined) this.#change(wanted, observed, before, trial)
    return memory
  }

  /**
   * Call after the last {@link want}: remembers the peers that stay for a while though nobody wants them.
   * @returns the removals of the others
   */
  remove(device: ObservedWireguard | undefined): WireguardOperation[] {
    const removals: WireguardOperation[] = []
    for (const { publicKey, lastHandshake } of device?.peers.values() ?? []) {
      if (this.memories.has(publicKey)) continue
      const lingering = lastHandshake === undefined ? undefined : this.#linger(publicKey)
      if (lingering === undefined) removals.push({ kind: 'remove-peer', publicKey })
      else this.memories.set(publicKey, lingering)
    }
    return removals
  }

  #linger(publicKey: WireguardKey): TunnelMemory | undefined {
    const { takesClear, memories, now } = this.inputs
    const before = memories[this.slot].get(publicKey)
    if (!takesClear || before === undefined || this.#released.has(publicKey)) return undefined
    const leftAt = before.leftAt ?? now
    return now - leftAt < LINGER ? { ...before, leftAt } : undefined
  }

  #change(
    wanted: WireguardPeer,
    observed: ObservedWireguardPeer | undefined,
    before: TunnelMemory | undefined,
    trial: Trial,
  ): void {
    const { publicKey, endpoint, allowedIps, keepalive } = wanted
    if (observed === undefined) {
      // A peer that nobody waits for would cost a handshake too many, now.
      if (trial.kind === 'none') return
      if (before?.isSet === true) this.repairs += 1
      this.operations.push({ kind: 'set-peer', publicKey, endpoint, allowedIps, keepalive })
      return
    }
    const isAnew = trial.kind === 'trying' && before?.trial.kind !== 'trying' && before !== undefined
    if (isAnew) {
      // The peer forgets the times of handshakes, which a clock that was set back would never reach again.
      this.operations.push(
        { kind: 'remove-peer', publicKey },
        { kind: 'set-peer', publicKey, endpoint, allowedIps, keepalive },
      )
      return
    }
    const hasMoved = before?.endpoint !== endpoint.address || before.port !== endpoint.port
    // A proven peer may send from another address than it announces: the kernel follows it.
    const isElsewhere =
      observed.endpoint?.address !== endpoint.address || observed.endpoint.port !== endpoint.port
    const change = {
      ...(isElsewhere && (hasMoved || observed.lastHandshake === undefined) && { endpoint }),
      ...(!samePrefixes(observed.allowedIps, allowedIps) && { allowedIps }),
      ...(observed.keepalive !== keepalive && { keepalive }),
    }
    if (Object.keys(change).length === 0) return
    if (change.allowedIps !== undefined && before !== undefined) this.repairs += 1
    this.operations.push({ kind: 'set-peer', publicKey, updateOnly: true, ...change })
  }
}

/**
 * @param isDead whether the session of the peer carries nothing any more
 * @param mayTry whether one more handshake may be under way
 */
function nextTrial(
  trial: Trial,
  observed: ObservedWireguardPeer | undefined,
  isDead: boolean,
  now: number,
  mayTry: boolean,
): Trial {
  const times = trial.kind === 'none' ? 0 : trial.times
  const begin: Trial = mayTry ? { kind: 'trying', since: now, times } : NONE
  if (observed?.lastHandshake !== undefined) return isDead ? begin : NONE
  switch (trial.kind) {
    case 'none':
      return begin
    case 'trying':
      // A device that was made again has forgotten the peer: the trial begins anew.
      if (observed === undefined) return begin
      return now - trial.since < TRIAL
        ? trial
        : { kind: 'resting', until: now + restAfter(times), times: times + 1 }
    case 'resting':
      return now < trial.until && observed !== undefined ? trial : begin
  }
}

const NONE: Trial = { kind: 'none' }

const restAfter = (times: number): number => Math.min(REST.first * 2 ** times, REST.most)

/**
 * Since when packets go out and none comes back, over a session that no packet may use any more. One packet
 * alone proves nothing: the kernel begins a handshake with it.
 */
function silence(
  observed: ObservedWireguardPeer | undefined,
  before: TunnelMemory | undefined,
  now: number,
): number | undefined {
  if (observed?.lastHandshake === undefined || before === undefined) return undefined
  if (now - observed.lastHandshake < DEAD || observed.received !== before.received) return undefined
  return before.silentSince ?? (observed.sent > before.sent ? now : undefined)
}

/** The addresses inside of the tunnel that a peer may have. */
export const allowedIpsOf = ({ addresses }: TunnelHost): Prefix[] =>
  FAMILIES.flatMap((family) => {
    const address = addresses.get(family)
    return address === undefined ? [] : { address, length: addressBits(familyOf(address)) }
  })

/** Whether both have the same prefixes, in any order. */
export const samePrefixes = (a: readonly Prefix[], b: readonly Prefix[]): boolean =>
  a.length === b.length && a.every((each) => b.some((other) => samePrefix(each, other)))
