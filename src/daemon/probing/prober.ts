/**
 * Probes peers, and tells what it finds. It sends echo requests and reads answers, once in each interval;
 * what is probed, and what an outcome means, is decided in `plan/probing`. No route is taken away for a peer
 * that does not answer: it only gets no packets to a prefix that it shares with hosts that answer.
 */
import { Pinger } from '../../host/pinger'
import { allowPingSockets } from '../../kernel/sysctl'
import { type Family, familyOf, formatIp, formatPrefix } from '../../model/address'
import type { Peer } from '../../model/lease'
import { routeMtu } from '../../plan/probing/path-mtu'
import type { Fate, LargePacket, Layer, Outcome, PeerProbe } from '../../plan/probing/peer-probe'
import { type News, type ProbeOrder, ProbeTable } from '../../plan/probing/probe-table'
import { judgeMesh, type MeshVerdict, worstOf } from '../../plan/probing/verdict'
import { describeVerdict, UNREACHABLE_WORDS } from '../../plan/probing/words'
import type { Edges } from '../edges'
import { inTurns } from '../loop/give-way'
import { Loop, type Next } from '../loop/loop'
import type { Node } from '../node/node'
import type { Overlay } from '../overlay/overlay'

/** Bytes of a small packet, IP header included: as ping(8) sends them. */
const SMALL = 84
/** Milliseconds between two looks at the list of peers, which costs time in proportion to its length. */
const SYNC_SPACING = 5000
/** Intervals, and milliseconds, without an answer of any peer after which this host may be cut off. */
const SILENT_INTERVALS = 3
const LEAST_SILENCE = 5000
/** Milliseconds between two attempts to open the sockets. */
const RETRY = { first: 5000, most: 30_000 }

/** One probe under way. A packet that the kernel refused has no id. */
interface Flight {
  readonly overlay: Overlay
  readonly peer: Peer
  readonly inside: number | undefined
  readonly outside: number | undefined
  readonly large: (LargePacket & { readonly id: number | undefined }) | undefined
}

/** What else the prober reads. */
export interface ProberView {
  readonly node: Node
  followsEtcd(): boolean
  /** Called when the state of a peer, or the verdict, has changed. */
  changed(): void
}

export class Prober {
  readonly #pinger = new Pinger()
  readonly #loop: Loop
  /** One for each family whose overlay has converged once. */
  readonly #tables = new Map<Family, ProbeTable>()
  #flights: readonly Flight[] = []
  /** The node's `peersGeneration` that the tables have, and when they took it. */
  #synced = { generation: -1, at: Number.NEGATIVE_INFINITY }
  #verdict: MeshVerdict = { kind: 'fine' }

  constructor(
    private readonly edges: Pick<Edges, 'log' | 'meters' | 'options'>,
    private readonly view: ProberView,
  ) {
    const { log } = edges
    const kind = 'probing-problem'
    this.#loop = new Loop(
      {
        name: 'probing',
        retry: RETRY,
        pass: (signal) => this.#pass(signal),
        failed: (problem, before) => {
          if (problem !== before) log.warn(`probing: not possible: ${problem}`, { kind })
          view.changed()
        },
        recovered: () => {
          log.info('probing: possible again', { kind })
          view.changed()
        },
      },
      log,
    )
  }

  /** Why peers cannot be probed; `undefined` if they can. */
  get problem(): string | undefined {
    return this.#loop.problem
  }

  /** The tables of the families, each with what is known of its peers. */
  get tables(): ReadonlyMap<Family, ProbeTable> {
    return this.#tables
  }

  get verdict(): MeshVerdict {
    return this.problem === undefined ? this.#verdict : { kind: 'fine' }
  }

  /** Why other hosts do not reach this host, by a fault of this host; `undefined` if nothing is known. */
  get unready(): string | undefined {
    return this.verdict.kind === 'cut-off' ? describeVerdict(this.verdict)?.text : undefined
  }

  /** What probing knows of a peer; `undefined` while it is not probed. */
  probeOf(peer: Peer): PeerProbe | undefined {
    return this.problem === undefined
      ? this.#tables.get(familyOf(peer.subnet.address))?.probeOf(peer.key)
      : undefined
  }

  /** Runs until the signal fires. */
  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener('abort', () => this.#pinger.close(), { once: true })
    await this.#loop.run(signal)
  }

  get #interval(): number {
    return this.edges.options['probe-interval'] * 1000
  }

  /** @throws {OverlayError} `no-ping-socket` */
  async #pass(signal: AbortSignal): Promise<Next> {
    const now = performance.now()
    this.#settle(now)
    this.#judge(now)
    const { overlays, prefixes } = this.view.node.view
    prefixes.probed((peer) => this.probeOf(peer)?.reach.kind === 'unreachable')
    await this.#sync(overlays, now, signal)
    this.#flights = overlays.flatMap((overlay) => {
      const orders = this.#tables.get(overlay.spec.family)?.due(now, fullSize(overlay)) ?? []
      return orders.flatMap((order) => (this.#isExcused(order.peer) ? [] : this.#send(overlay, order)))
    })
    return { due: now + this.#interval }
  }

  /** @throws {OverlayError} `no-ping-socket` */
  async #sync(overlays: readonly Overlay[], now: number, signal: AbortSignal): Promise<void> {
    const generation = this.view.node.peersGeneration
    const isNews = generation !== this.#synced.generation && now - this.#synced.at >= SYNC_SPACING
    if (isNews) this.#synced = { generation, at: now }
    for (const { spec, peers, reconciler, mtus } of overlays) {
      const { family, subnet } = spec
      const table = this.#tables.get(family)
      if (table !== undefined) {
        if (isNews) await inTurns(table.sync(peers, now), signal)
        continue
      }
      await this.#open(family)
      // Before its first pass has converged, this host judges nobody.
      if (!reconciler.convergence.converged) continue
      const first = new ProbeTable(formatPrefix(subnet), mtus.of)
      await inTurns(first.sync(peers, now, true), signal)
      this.#tables.set(family, first)
    }
  }

  /** @throws {OverlayError} `no-ping-socket` */
  async #open(family: Family): Promise<void> {
    try {
      this.#pinger.open(family)
    } catch (refusal) {
      const group = process.getegid?.() ?? 0
      // Why the setting cannot be written does not matter: the refusal says what to do.
      const isAllowed = await allowPingSockets(group).catch(() => false)
      if (!isAllowed) throw refusal
      this.edges.log.info(
        `probing: net.ipv4.ping_group_range allowed ping sockets to nobody; it allows group ${group} now`,
      )
      this.#pinger.open(family)
    }
  }

  #send(overlay: Overlay, { peer, large }: ProbeOrder): Flight {
    const post = (address: Peer['publicIp'], bytes: number): number | undefined => {
      const sent = this.#pinger.send(address, bytes)
      return 'id' in sent ? sent.id : undefined
    }
    return {
      overlay,
      peer,
      inside: post(peer.subnet.address, SMALL),
      outside: post(peer.publicIp, SMALL),
      large: large && { ...large, id: post(peer.subnet.address, large.size) },
    }
  }

  /** Takes the answers to the last probes. A packet without an answer by now is lost. */
  #settle(now: number): void {
    const rtts = new Map(this.#pinger.answers().map(({ id, rttMs }) => [id, rttMs]))
    const fate = (id: number | undefined): Fate =>
      id !== undefined && rtts.has(id) ? { kind: 'answered', rttMs: rtts.get(id) } : { kind: 'lost' }
    for (const { overlay, peer, inside, outside, large } of this.#flights) {
      const outcome: Outcome = {
        overlay: fate(inside),
        underlay: fate(outside),
        ...(large !== undefined && { large: { ...large, fate: fate(large.id) } }),
      }
      for (const id of [inside, outside, large?.id]) if (id !== undefined) this.#pinger.forget(id)
      this.#count('overlay', outcome.overlay)
      this.#count('underlay', outcome.underlay)
      // A loss is no evidence against a peer that this host itself does not reach.
      if (outcome.overlay.kind === 'lost' && this.#isInconclusive(overlay, peer)) continue
      const news = this.#tables.get(overlay.spec.family)?.settle(peer.key, outcome, now)
      if (news !== undefined) this.#tell(news)
      if (large !== undefined) this.#routeBy(overlay, peer)
    }
    this.#flights = []
  }

  /** Gives the route to a peer the MTU of its path, and tells when it is another one. */
  #routeBy(overlay: Overlay, peer: Peer): void {
    const path = this.#tables.get(overlay.spec.family)?.probeOf(peer.key)?.path
    if (path === undefined) return
    const full = fullSize(overlay)
    const mtu = routeMtu(path, full)
    if (!overlay.mtus.set(peer, mtu)) return
    overlay.reconciler.waysChanged([peer])
    const about = aboutPeer(peer)
    const who = `peer ${about.join(' at ')}`
    const text =
      mtu === 0
        ? `packets of full size (${full} bytes) get through again; its route has no MTU of its own any more`
        : `no packet of more than ${mtu} bytes gets through (the device has ${full}); its route says so now`
    this.edges.log[mtu === 0 ? 'info' : 'warn'](`${who}: ${text}`, { kind: 'path-mtu', about })
    this.view.changed()
  }

  #count(layer: Layer, fate: Fate): void {
    const { probes, probesSent, probesLost } = this.edges.meters
    probesSent.add(1, layer)
    if (fate.kind === 'lost') probesLost.add(1, layer)
    else if (layer === 'overlay' && fate.rttMs !== undefined) probes.observe(fate.rttMs)
  }

  /**
   * Whether nothing is sent to the peer on purpose: packets to it have to be encrypted, and cannot be yet.
   */
  #isExcused(peer: Peer): boolean {
    return this.view.node.view.encryption.ways.of(peer).kind === 'none'
  }

  #isInconclusive(overlay: Overlay, peer: Peer): boolean {
    if (this.#isExcused(peer) || overlay.reconciler.peersAmiss().has(peer)) return true
    const table = this.#tables.get(overlay.spec.family)
    return (
      this.#verdict.kind === 'cut-off' && table?.watched.every((each) => each.peer.key !== peer.key) === true
    )
  }

  #tell({ peer, kind, reach }: News): void {
    const about = aboutPeer(peer)
    const who = `peer ${about.join(' at ')}`
    const { log } = this.edges
    if (reach.kind === 'unreachable') {
      const words = UNREACHABLE_WORDS[reach.layer]
      log.warn(`${who}: ${kind === 'layer' ? 'now ' : ''}${words}`, { kind: 'peer-unreachable', about })
    } else log.info(`${who}: answers again`, { kind: 'peer-reachable', about })
    this.view.changed()
  }

  #judge(now: number): void {
    const silence = Math.max(LEAST_SILENCE, SILENT_INTERVALS * this.#interval)
    const followsEtcd = this.view.followsEtcd()
    const verdict = worstOf(
      [...this.#tables.values()].map(({ watched, answeredAt }) =>
        judgeMesh({ watched, silentFor: now - answeredAt, followsEtcd }, silence),
      ),
    )
    const before = this.#verdict
    this.#verdict = verdict
    if (before.kind === verdict.kind) return
    const { log } = this.edges
    // That single peers do not answer is told with each peer.
    if (isGrave(verdict)) log.warn(`mesh: ${describeVerdict(verdict)?.text}`, { kind: 'mesh-problem' })
    else if (isGrave(before)) log.info('mesh: most watched peers answer again', { kind: 'mesh-restored' })
    this.view.changed()
  }
}

const aboutPeer = ({ subnet, publicIp }: Peer): [string, string] => [formatPrefix(subnet), formatIp(publicIp)]

/** Bytes of a packet of full size. */
const fullSize = ({ reconciler, spec }: Overlay): number => reconciler.link?.mtu ?? spec.link.mtu

const isGrave = ({ kind }: MeshVerdict): boolean => kind === 'most' || kind === 'cut-off'

/**
 * Starts probing, unless the options say no.
 * @param run the signal ends it; `fail` is told of a defect
 */
export function startProber(
  edges: Pick<Edges, 'log' | 'meters' | 'options'>,
  view: ProberView,
  { signal, fail }: { readonly signal: AbortSignal; fail(error: unknown): void },
): Prober | undefined {
  if (edges.options.probe === 'off') return undefined
  const prober = new Prober(edges, view)
  prober.run(signal).catch(fail)
  return prober
}
