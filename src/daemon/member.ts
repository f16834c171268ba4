/** This host as part of the network: what it consists of, and how it takes in what etcd tells. */
import type { RegistryEvent, RegistryUpdate } from '../etcd/updates'
import { formatIp, formatMac, formatPrefix } from '../model/address'
import { formatLeaseSubnet, type Lease, type Revision, type UnreadableLease } from '../model/lease'
import type { NetworkConfig } from '../model/network-config'
import { desiredLink } from '../plan/desired'
import { leaseValue } from '../plan/own-lease'
import type { PeerChange } from '../plan/peer-table'
import type { Underlay } from '../plan/underlay'
import type { FirewallKeeper } from './firewall-keeper'
import type { LeaseKeeper } from './lease-keeper'
import { LineLimit } from './line-limit'
import type { Logger } from './logger'
import { convergenceOf, type Overlay } from './overlay'
import type { UnderlayKeeper } from './underlay-keeper'

export interface MemberParts {
  readonly config: NetworkConfig
  /** The config's text in etcd at the start. */
  readonly configText: string | undefined
  readonly underlay: UnderlayKeeper
  readonly keeper: LeaseKeeper
  /** One for each family of the network. */
  readonly overlays: readonly Overlay[]
  readonly firewall: FirewallKeeper
}

/** Lines about rejected leases at once: a log that is flooded says nothing, and `overlayctl status` lists them all. */
const MOST_REJECTED_LINES = 20

export class Member {
  readonly #rejections = new LineLimit()
  #configProblem: string | undefined
  /** Of what was taken in last. */
  #revision: Revision

  constructor(
    readonly parts: MemberParts,
    revision: Revision,
    private readonly log: Logger,
  ) {
    this.#revision = revision
    this.#logAllRejected()
  }

  /** How the config in etcd differs from the one in use; `undefined` when it does not. */
  get configProblem(): string | undefined {
    return this.#configProblem
  }

  /** Takes in what etcd tells. */
  take(update: RegistryUpdate): void {
    const { keeper, overlays } = this.parts
    if (update.kind === 'lost') return
    this.#revision = update.kind === 'events' ? update.revision : update.snapshot.revision
    if (update.kind === 'events') {
      for (const event of update.events) this.#takeOwn(event)
      for (const overlay of overlays) {
        const changes = update.events.flatMap((event) => this.#takePeer(overlay, event))
        this.#peersChanged(overlay, changes, update.revision)
      }
      return
    }
    const { leases, unreadable, config, revision } = update.snapshot
    this.#noteConfig(config)
    const listed: (Lease | UnreadableLease)[] = [...leases, ...unreadable]
    keeper.observe(listed.find((lease) => lease.key === keeper.own.key))
    for (const overlay of overlays) {
      this.#peersChanged(overlay, overlay.peers.reset(leases, unreadable), revision)
    }
  }

  /** Takes in that the underlay is another: devices follow, and the others are told when they have to send elsewhere. */
  move(underlay: Underlay): void {
    const { config, keeper, overlays } = this.parts
    for (const overlay of overlays) {
      const { family, peers, reconciler } = overlay
      const address = family === 'IPv4' ? underlay.ipv4 : underlay.ipv6
      if (address === undefined) continue
      reconciler.retarget(desiredLink(config, underlay, address.local, reconciler.desiredLink.mac))
      this.#peersChanged(overlay, peers.moveTo(address.public), this.#revision)
    }
    const links = overlays.map(({ reconciler }) => reconciler.desiredLink)
    keeper.announce(leaseValue(config, underlay, links))
  }

  /** Why other hosts may not reach this one; `undefined` when they should. */
  get unready(): string | undefined {
    const { keeper, overlays, firewall } = this.parts
    const { converged, failing } = convergenceOf(overlays)
    const troubles = [
      keeper.state.kind !== 'held' && `lease ${keeper.state.kind}`,
      // Single peers that the kernel refuses must not take this host out of service.
      !converged && failing === 0 && 'kernel not converged',
      this.parts.underlay.problem !== undefined && 'underlay gone',
      firewall.problem !== undefined && 'firewall rules missing',
    ].filter((trouble) => trouble !== false)
    return troubles.length === 0 ? undefined : troubles.join(', ')
  }

  /** The host in one line: `10.5.12.0/24 on flannel.1, 3 peers, healthy`. */
  summary(followsEtcd: boolean): string {
    const { keeper, overlays, firewall } = this.parts
    const troubles = [
      !followsEtcd && 'etcd away',
      keeper.state.kind !== 'held' && `lease ${keeper.state.kind}`,
      !convergenceOf(overlays).converged && 'kernel not converged',
      firewall.problem !== undefined && 'firewall rules missing',
      this.parts.underlay.problem !== undefined && 'underlay gone',
      this.#configProblem !== undefined && 'config changed',
    ].filter((trouble) => trouble !== false)
    return `${this.headline}, ${troubles.join(', ') || 'healthy'}`
  }

  /** What it is: `10.5.12.0/24 on flannel.1, 3 peers`. */
  get headline(): string {
    const { keeper, overlays } = this.parts
    const links = overlays.map(({ reconciler }) => reconciler.desiredLink.name).join(' and ')
    const peers = Math.max(...overlays.map((overlay) => overlay.peers.size))
    return `${formatLeaseSubnet(keeper.own.subnet)} on ${links}, ${peers} peers`
  }

  /** Takes in what concerns this host. */
  #takeOwn(event: RegistryEvent): void {
    const { keeper } = this.parts
    switch (event.kind) {
      case 'config':
        this.#noteConfig(event.text)
        break
      case 'removed':
        if (event.key === keeper.own.key) keeper.observe(undefined)
        break
      default:
        if (event.lease.key === keeper.own.key) keeper.observe(event.lease)
    }
  }

  #takePeer(overlay: Overlay, event: RegistryEvent): PeerChange[] {
    switch (event.kind) {
      case 'config':
        return []
      case 'removed':
        return overlay.peers.remove(event.key)
      case 'unreadable':
        overlay.peers.putUnreadable(event.lease)
        this.#logIfRejected(overlay, event.lease.key)
        return []
      case 'lease': {
        const changes = overlay.peers.put(event.lease)
        this.#logIfRejected(overlay, event.lease.key)
        return changes
      }
    }
  }

  #peersChanged(overlay: Overlay, changes: readonly PeerChange[], revision: Revision): void {
    for (const { before, after } of changes) {
      const peer = after ?? before
      if (peer === undefined) continue
      const what = before === undefined ? 'joined' : after === undefined ? 'left' : 'changed'
      const subnet = formatPrefix(peer.subnet)
      this.log.debug(`peer ${what}: ${subnet} at ${formatIp(peer.publicIp)} with ${formatMac(peer.mac)}`)
    }
    if (changes.length > 0) this.log.info(summarize(changes))
    overlay.reconciler.peersChanged(changes, revision)
  }

  /** A config that changes or goes while we run takes effect at the next start; until then what runs goes on. */
  #noteConfig(text: string | undefined): void {
    const what = text === undefined ? 'was deleted' : 'has changed'
    const problem =
      text === this.parts.configText
        ? undefined
        : `the network config in etcd ${what} since the start; it takes effect at the next start`
    if (problem !== undefined && problem !== this.#configProblem) this.log.warn(`config: ${problem}`)
    this.#configProblem = problem
  }

  #logIfRejected(overlay: Overlay, key: string): void {
    const reason = overlay.peers.reasonAgainst(key)
    const left = reason === undefined ? undefined : this.#rejections.admit(performance.now())
    if (left === undefined) return
    const more = left === 0 ? '' : ` (and ${left} more before; overlayctl status lists them)`
    this.log.warn(`peer rejected: ${key}: ${reason}${more}`)
  }

  #logAllRejected(): void {
    const { overlays } = this.parts
    const rejected = overlays.flatMap((overlay) =>
      [...overlay.peers.rejected()].map(({ key }) => ({ overlay, key })),
    )
    for (const { overlay, key } of rejected.slice(0, MOST_REJECTED_LINES)) this.#logIfRejected(overlay, key)
    const more = rejected.length - MOST_REJECTED_LINES
    if (more > 0) this.log.warn(`peer rejected: ${more} more; overlayctl status lists them`)
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
