/** This host as part of the network: what it consists of, and how it takes in what etcd tells. */
import { performance } from 'node:perf_hooks'
import type { RegistryEvent, RegistryUpdate } from '../etcd/updates'
import { type Family, formatIp, formatMac, formatPrefix } from '../model/address'
import { type BackoffBounds, backoffDelay } from '../model/backoff'
import { describeError, OverlayError } from '../model/errors'
import { formatLeaseSubnet, type Lease, type Revision, type UnreadableLease } from '../model/lease'
import type { NetworkConfig } from '../model/network-config'
import { planConfigChange } from '../plan/config-change'
import { desiredLink } from '../plan/desired'
import { HoldBack } from '../plan/hold-back'
import { isAtRisk } from '../plan/lease-life'
import { leaseValue } from '../plan/own-lease'
import type { PeerChange } from '../plan/peer-table'
import type { Underlay } from '../plan/underlay'
import type { FirewallKeeper } from './firewall-keeper'
import type { Tools } from './join'
import type { LeaseKeeper } from './lease-keeper'
import { LiveConfig } from './live-config'
import type { Logger } from './logger'
import { convergenceOf, type Overlay } from './overlay'
import { readConfig } from './read-config'
import type { UnderlayKeeper } from './underlay-keeper'
import { Waker } from './waker'

export interface MemberParts {
  /** The config in use. */
  readonly config: NetworkConfig
  /** Its text in etcd. */
  readonly configText: string | undefined
  readonly underlay: UnderlayKeeper
  readonly keeper: LeaseKeeper
  /** One for each family of the network. */
  readonly overlays: readonly Overlay[]
  readonly firewall: FirewallKeeper
}

/** What the status shows. */
export interface MemberView extends MemberParts {
  readonly holdBack: HoldBack
}

/** Lines about rejected leases at once: a log that is flooded says nothing, and `overlayctl status` lists them all. */
const MOST_REJECTED_LINES = 20

/** Milliseconds between two attempts to apply a config that this host could not use. */
const CONFIG_RETRY: BackoffBounds = { first: 1000, most: 30_000 }

/** Why a peer whose key is gone is still there. */
const HELD = 'gone from etcd, and kept for a while in case etcd is wrong'

export class Member {
  /** Which leases were said to be rejected. */
  readonly #rejected: Readonly<Record<Family, Set<string>>> = { IPv4: new Set(), IPv6: new Set() }
  readonly #waker = new Waker()
  readonly #log: Logger
  readonly #live: LiveConfig
  readonly #holdBack: HoldBack
  #parts: MemberParts
  /** Of what was taken in last. */
  #revision: Revision
  #follows = true
  /** When the word of etcd came that is being taken in; monotonic milliseconds. */
  #heardAt: number | undefined
  /** The config's text as etcd has it. */
  #configText: string | undefined
  /** When a config that is not in use yet is to be looked at; Infinity when there is none. */
  #configDue = Number.POSITIVE_INFINITY
  #configFailures = 0
  #configProblem: string | undefined
  #peersGeneration = 0

  /** Minutes. */
  readonly #renewMargin: number
  readonly #options: Tools['options']
  #peersTold = (): void => undefined

  constructor(tools: Tools, parts: MemberParts, revision: Revision) {
    this.#log = tools.log
    this.#options = tools.options
    this.#renewMargin = tools.options['subnet-lease-renew-margin']
    this.#live = new LiveConfig(tools, parts.config)
    this.#holdBack = new HoldBack(tools.options['peer-removal-grace'] * 1000)
    this.#parts = parts
    this.#revision = revision
    this.#configText = parts.configText
    for (const { reconciler } of parts.overlays)
      reconciler.onPeersChange((changes) => this.#notePeersChange(changes))
    this.#reviewRejected()
  }

  get parts(): MemberView {
    return { ...this.#parts, holdBack: this.#holdBack }
  }

  /** Another one whenever the peers are other ones. */
  get peersGeneration(): number {
    return this.#peersGeneration
  }

  /** Has it told whenever peers come, go or change. */
  onPeersChange(told: () => void): void {
    this.#peersTold = told
  }

  /** Why the config in etcd is not the one in use; `undefined` when it is. */
  get configProblem(): string | undefined {
    return this.#configProblem
  }

  /** Takes in what etcd tells. */
  take(update: RegistryUpdate): void {
    if (update.kind === 'lost') {
      this.#follows = false
      return
    }
    if (!this.#follows) this.#holdBack.extend(performance.now())
    this.#follows = true
    if (update.kind === 'events') {
      this.#heardAt = update.receivedAt
      this.#revision = update.revision
      this.#takeEvents(update.events)
    } else {
      this.#revision = update.snapshot.revision
      this.#takeSnapshot(update)
    }
    this.#heardAt = undefined
    this.#waker.wake()
  }

  /**
   * Runs until the signal fires: lets peers go that were held back, and brings a changed config to what runs.
   * @param changed told when another config is in use
   */
  async run(signal: AbortSignal, changed: () => Promise<void>): Promise<void> {
    while (!signal.aborted) {
      const due = Math.min(this.#configDue, this.#follows ? this.#holdBack.nextDue : Number.POSITIVE_INFINITY)
      await this.#waker.sleep(due - performance.now(), signal)
      if (signal.aborted) return
      if (this.#follows) this.#letGo(this.#holdBack.takeDue(performance.now()))
      if (this.#configDue <= performance.now()) await this.#takeConfig(changed, signal)
    }
  }

  /** Takes in that the underlay is another: devices follow, and the others are told when they have to send elsewhere. */
  move(underlay: Underlay): void {
    const { config, keeper, overlays } = this.#parts
    for (const overlay of overlays) {
      const { family, peers, reconciler } = overlay
      const address = family === 'IPv4' ? underlay.ipv4 : underlay.ipv6
      if (address === undefined) continue
      reconciler.retarget({ link: desiredLink(config, underlay, address.local, reconciler.desiredLink.mac) })
      this.#peersChanged(overlay, peers.moveTo(address.public))
    }
    this.#reviewRejected()
    const links = overlays.map(({ reconciler }) => reconciler.desiredLink)
    keeper.announce(leaseValue(config, underlay, links))
  }

  /** Why other hosts may not reach this one; `undefined` when they should. */
  get unready(): string | undefined {
    const { keeper, overlays, firewall, underlay } = this.#parts
    const { converged, failing } = convergenceOf(overlays)
    const troubles = [
      keeper.state.kind !== 'held' && `lease ${keeper.state.kind}`,
      isAtRisk(keeper.expiresInSeconds, this.#renewMargin) && 'lease not renewed, and near its end',
      // Single peers that the kernel refuses must not take this host out of service.
      !converged && failing === 0 && 'kernel not converged',
      underlay.problem !== undefined && 'underlay gone',
      firewall.problem !== undefined && 'firewall rules missing',
    ].filter((trouble) => trouble !== false)
    return troubles.length === 0 ? undefined : troubles.join(', ')
  }

  /** The host in one line: `10.5.12.0/24 on flannel.1, 3 peers, healthy`. */
  summary(followsEtcd: boolean): string {
    const { keeper, overlays, firewall, underlay } = this.#parts
    const troubles = [
      !followsEtcd && 'etcd away',
      keeper.state.kind !== 'held' && `lease ${keeper.state.kind}`,
      !convergenceOf(overlays).converged && 'kernel not converged',
      firewall.problem !== undefined && 'firewall rules missing',
      underlay.problem !== undefined && 'underlay gone',
      this.#configProblem !== undefined && 'config not in use',
      this.#holdBack.size > 0 && `${this.#holdBack.size} peers held back`,
    ].filter((trouble) => trouble !== false)
    return `${this.headline}, ${troubles.join(', ') || 'healthy'}`
  }

  /** What it is: `10.5.12.0/24 on flannel.1, 3 peers`. */
  get headline(): string {
    const { keeper, overlays } = this.#parts
    const links = overlays.map(({ reconciler }) => reconciler.desiredLink.name).join(' and ')
    const peers = Math.max(...overlays.map((overlay) => overlay.peers.size))
    return `${formatLeaseSubnet(keeper.own.subnet)} on ${links}, ${peers} peers`
  }

  #takeEvents(events: readonly RegistryEvent[]): void {
    for (const event of events) this.#takeOwn(event)
    const last = lastOfEachKey(events)
    const gone = [...last].flatMap(([key, { kind }]) => (kind === 'removed' && this.#isPeer(key) ? key : []))
    const ownIsGone = last.get(this.#parts.keeper.own.key)?.kind === 'removed'
    this.#judge(gone, ownIsGone && !this.#isDrained ? OWN_IS_GONE : undefined)
    for (const [key, { kind }] of last) if (kind !== 'removed') this.#release(key)
    for (const overlay of this.#parts.overlays) {
      const changes = [...last.values()].flatMap((event) => this.#takePeer(overlay, event))
      this.#peersChanged(overlay, changes)
    }
  }

  #takeSnapshot({ snapshot, replaced = false }: Extract<RegistryUpdate, { kind: 'snapshot' }>): void {
    const { keeper, overlays } = this.#parts
    const { leases, unreadable, config } = snapshot
    this.#noteConfig(config)
    const listed: (Lease | UnreadableLease)[] = [...leases, ...unreadable]
    const own = listed.find((lease) => lease.key === keeper.own.key)
    keeper.observe(own)
    const keys = new Set(listed.map(({ key }) => key))
    for (const key of this.#holdBack.keys()) if (keys.has(key)) this.#release(key)
    const known = new Set(overlays.flatMap(({ peers }) => [...peers.peers()].map(({ key }) => key)))
    const ownIsGone = own === undefined && !this.#isDrained
    const doubt = replaced ? STORE_REPLACED : ownIsGone ? OWN_IS_GONE : undefined
    this.#judge(
      [...known].filter((key) => !keys.has(key)),
      doubt,
    )
    const held = this.#holdBack.keys().map((key) => this.#heldLease(key))
    for (const overlay of overlays) {
      const changes = overlay.peers.reset(leases, [...unreadable, ...held])
      const room = held.length === 0 ? [] : leases.flatMap((lease) => this.#makeRoom(overlay, lease))
      this.#peersChanged(overlay, [...changes, ...room])
    }
    this.#reviewRejected()
    // A place that a listed lease has a better claim to is not held.
    this.#letGo(this.#holdBack.keys().filter((key) => !this.#isPeer(key)))
  }

  /** Holds back what is not to be let go at once. */
  #judge(gone: readonly string[], doubt: string | undefined): void {
    const peers = Math.max(...this.#parts.overlays.map((overlay) => overlay.peers.size))
    const before = this.#holdBack.size
    this.#holdBack.judge({ gone, peers, doubt }, performance.now())
    if (this.#holdBack.size === before) return
    const seconds = Math.ceil((this.#holdBack.lastDue - performance.now()) / 1000)
    this.#log.warn(
      `peers: ${this.#holdBack.size} are gone from etcd and kept for ${seconds} s, in case etcd is wrong: ${this.#holdBack.reason}`,
      { kind: 'peers-held', about: gone.flatMap(subnetsOfKey) },
    )
  }

  /** Takes in that a key is in etcd. */
  #release(key: string): void {
    if (!this.#holdBack.release(key) || this.#holdBack.size > 0) return
    this.#log.info('peers: all that were held back are in etcd again, or gone', { kind: 'peers-let-go' })
  }

  /** Removes peers that were held back. */
  #letGo(keys: readonly string[]): void {
    if (keys.length === 0) return
    for (const key of keys) this.#holdBack.release(key)
    this.#log.info(`peers: ${keys.length} that were held back are let go: etcd still has nothing of them`, {
      kind: 'peers-let-go',
      about: keys.flatMap(subnetsOfKey),
    })
    for (const overlay of this.#parts.overlays) {
      this.#peersChanged(
        overlay,
        keys.flatMap((key) => overlay.peers.remove(key)),
      )
    }
  }

  /** Whether our key is not to be in etcd. */
  get #isDrained(): boolean {
    return this.#parts.keeper.state.kind === 'drained'
  }

  #isPeer(key: string): boolean {
    return this.#parts.overlays.some(({ peers }) => peers.peer(key) !== undefined)
  }

  /** As which the peer table keeps a peer that is held back: as it was last good. */
  #heldLease(key: string): UnreadableLease {
    return { key, reason: HELD, modRevision: this.#revision }
  }

  /** Takes in what concerns this host. */
  #takeOwn(event: RegistryEvent): void {
    const { keeper } = this.#parts
    switch (event.kind) {
      case 'config':
        this.#noteConfig(event.text)
        break
      case 'removed':
        if (event.key === keeper.own.key) keeper.observe(undefined)
        break
      case 'lease':
      case 'unreadable':
        if (event.lease.key === keeper.own.key) keeper.observe(event.lease)
    }
  }

  #takePeer(overlay: Overlay, event: PeerEvent): PeerChange[] {
    const { peers } = overlay
    switch (event.kind) {
      case 'removed':
        this.#rejected[overlay.family].delete(event.key)
        if (!this.#holdBack.has(event.key) || peers.peer(event.key) === undefined)
          return peers.remove(event.key)
        peers.putUnreadable(this.#heldLease(event.key))
        return []
      case 'unreadable':
        peers.putUnreadable(event.lease)
        this.#noteVerdict(overlay, event.lease.key)
        return []
      case 'lease': {
        const changes = [...peers.put(event.lease), ...this.#makeRoom(overlay, event.lease)]
        this.#noteVerdict(overlay, event.lease.key)
        return changes
      }
    }
  }

  /** Who is held back is in nobody's way: it goes when a lease waits for nobody else's place. */
  #makeRoom({ peers }: Overlay, { key: claimant }: Lease): PeerChange[] {
    if (this.#holdBack.size === 0) return []
    const rivals = peers.rivalsOf(claimant)
    if (!rivals.every(({ key }) => this.#holdBack.has(key))) return []
    return rivals.flatMap(({ key }) => {
      const changes = peers.remove(key)
      if (!this.#isPeer(key)) this.#release(key)
      return changes
    })
  }

  #peersChanged(overlay: Overlay, changes: readonly PeerChange[]): void {
    for (const { before, after } of changes) {
      const peer = after ?? before
      if (peer === undefined) continue
      if (before === undefined) this.#holdBack.joined(peer.key, performance.now())
      const isAccepted = after !== undefined && overlay.peers.reasonAgainst(peer.key) === undefined
      if (isAccepted && this.#rejected[overlay.family].has(peer.key)) this.#noteVerdict(overlay, peer.key)
      const what = before === undefined ? 'joined' : after === undefined ? 'left' : 'changed'
      const about = [formatPrefix(peer.subnet), formatIp(peer.publicIp)]
      this.#log.debug(`peer ${what}: ${about.join(' at ')} with ${formatMac(peer.mac)}`, {
        kind: `peer-${what}`,
        about,
      })
    }
    if (changes.length > 0) this.#log.info(summarize(changes))
    overlay.reconciler.peersChanged(changes, this.#revision, this.#heardAt)
    this.#notePeersChange(changes)
  }

  #notePeersChange(changes: readonly PeerChange[]): void {
    if (changes.length === 0) return
    this.#peersGeneration += changes.length
    this.#peersTold()
  }

  #noteConfig(text: string | undefined): void {
    if (text === this.#configText) return
    this.#configText = text
    this.#configFailures = 0
    this.#configDue = performance.now()
  }

  /** Brings the config in etcd to what runs, as far as that is possible without another subnet. */
  async #takeConfig(changed: () => Promise<void>, signal: AbortSignal): Promise<void> {
    this.#configDue = Number.POSITIVE_INFINITY
    const text = this.#configText
    try {
      this.#noteConfigProblem(await this.#tryConfig(text, signal))
      if (this.#parts.configText === text) await changed()
      this.#configFailures = 0
    } catch (error) {
      if (signal.aborted) return
      if (!(error instanceof OverlayError)) throw error
      this.#noteConfigProblem(
        `the changed network config cannot be used here, and what runs goes on: ${describeError(error)}`,
      )
      this.#configFailures++
      const delay = backoffDelay(this.#configFailures, CONFIG_RETRY, Math.random)
      this.#configDue = Math.min(this.#configDue, performance.now() + delay)
    }
  }

  /** @returns why it is not in use, `undefined` when it is */
  async #tryConfig(text: string | undefined, signal: AbortSignal): Promise<string | undefined> {
    if (text === undefined) return 'the network config in etcd was deleted, and what runs goes on'
    if (text === this.#parts.configText) return undefined
    const config = readConfig(text, this.#options)
    const plan = planConfigChange(this.#parts.config, config, this.#parts.keeper.own.subnet)
    if (plan.kind === 'needs-new-subnet') {
      return `this host needs a new subnet for the changed network config: ${plan.reason}; what runs goes on until overlayd is restarted`
    }
    if (plan.kind === 'apply') {
      this.#log.info(`config: changed in etcd, and applied: ${plan.changes.join(', ')}`, {
        kind: 'config-change',
      })
      const peersChanged = this.#peersChanged.bind(this)
      this.#parts = await this.#live.apply(this.#parts, config, peersChanged, signal)
      this.#reviewRejected()
    }
    this.#parts = { ...this.#parts, configText: text }
    return undefined
  }

  #noteConfigProblem(problem: string | undefined): void {
    if (problem !== undefined && problem !== this.#configProblem)
      this.#log.warn(`config: ${problem}`, { kind: 'config-problem' })
    if (problem === undefined && this.#configProblem !== undefined)
      this.#log.info('config: in use', { kind: 'config-change' })
    this.#configProblem = problem
  }

  /** Says that a lease is rejected, or that one that was is not any more. */
  #noteVerdict({ family, peers }: Overlay, key: string): void {
    const reason = peers.reasonAgainst(key)
    const about = subnetsOfKey(key)
    if (reason !== undefined) {
      this.#rejected[family].add(key)
      this.#log.warn(`peer rejected: ${key}: ${reason}`, { kind: 'peer-rejected', about })
    } else if (this.#rejected[family].delete(key) && peers.peer(key) !== undefined) {
      this.#log.info(`peer accepted: ${key}: nothing is against it any more`, {
        kind: 'peer-accepted',
        about,
      })
    }
  }

  /** After all were judged anew: says which leases are rejected that were not before, and which are not any more. */
  #reviewRejected(): void {
    const { overlays } = this.#parts
    const news = overlays.flatMap((overlay) => {
      const said = this.#rejected[overlay.family]
      const isNews = (key: string): boolean => !said.has(key) && !this.#holdBack.has(key)
      const rejected = [...overlay.peers.rejected()].filter(({ key }) => isNews(key))
      for (const key of said)
        if (overlay.peers.reasonAgainst(key) === undefined) this.#noteVerdict(overlay, key)
      return rejected.map(({ key }) => ({ overlay, key }))
    })
    for (const { overlay, key } of news.slice(0, MOST_REJECTED_LINES)) this.#noteVerdict(overlay, key)
    for (const { overlay, key } of news.slice(MOST_REJECTED_LINES)) this.#rejected[overlay.family].add(key)
    const more = news.length - MOST_REJECTED_LINES
    if (more > 0) this.#log.warn(`peer rejected: ${more} more; overlayctl status lists them`)
  }
}

/** One line for any number of changes. */
function summarize(changes: readonly PeerChange[]): string {
  const joined = changes.filter(({ before }) => before === undefined).length
  const left = changes.filter(({ after }) => after === undefined).length
  const changed = changes.length - joined - left
  const parts = [
    joined > 0 && `${joined} joined`,
    left > 0 && `${left} left`,
    changed > 0 && `${changed} changed`,
  ]
  const [only] = changes
  const one = changes.length === 1 ? (only?.after ?? only?.before) : undefined
  const detail = one === undefined ? '' : `: ${formatPrefix(one.subnet)} at ${formatIp(one.publicIp)}`
  return `peers: ${parts.filter(Boolean).join(', ')}${detail}`
}

/** What a key names, as subnets are written elsewhere; a key that names none is told as it is. */
const subnetsOfKey = (key: string): string[] =>
  key
    .slice(key.lastIndexOf('/') + 1)
    .split('&')
    .map((name) => name.replace(/-(?=\d+$)/, '/'))

const OWN_IS_GONE = 'our own lease went with them'
const STORE_REPLACED = 'etcd holds an older or another state than before'

type PeerEvent = Extract<RegistryEvent, { kind: 'lease' | 'unreadable' | 'removed' }>

/** What became of each key in the end, in etcd's order. */
function lastOfEachKey(events: readonly RegistryEvent[]): Map<string, PeerEvent> {
  const last = new Map<string, PeerEvent>()
  for (const event of events) {
    if (event.kind === 'config' || event.kind === 'groups' || event.kind === 'groups-removed') continue
    const key = event.kind === 'removed' ? event.key : event.lease.key
    last.delete(key)
    last.set(key, event)
  }
  return last
}
