/**
 * The daemon from start to end: wait for a usable config, choose the underlay, make the device, get the lease, bring all peers into
 * the kernel, say ready, then follow etcd and the kernel. Ending it removes nothing.
 */
import type { Server } from 'node:http'
import { etcdPrefix, keysUnder } from '../etcd/keys'
import type { Snapshot } from '../etcd/snapshot'
import type { RegistryUpdate } from '../etcd/updates'
import { notifySystemd, watchdogMilliseconds } from '../host/sd-notify'
import { writeSubnetEnv } from '../host/subnet-env'
import { describeError } from '../model/errors'
import type { Revision } from '../model/lease'
import { ConfigError, type NetworkConfig, parseNetworkConfig } from '../model/network-config'
import { overlayMtu } from '../plan/desired'
import { sameAddresses, type Underlay } from '../plan/underlay'
import { serveControlSocket } from './control-socket'
import { serveHealth } from './health-server'
import { joinNetwork, type Tools } from './join'
import type { Logger } from './logger'
import type { Member } from './member'
import type { Overlay } from './overlay'
import type { Status } from './status'
import { type DaemonView, reportStatus } from './status-report'

/** Signs of life in the time after which systemd gives us up: one may be late. */
const WATCHDOG_BEATS = 3

/** Failures of etcd that someone has to do something about: worth a line also when etcd was away before. */
const ACT_UPON: readonly string[] = ['etcd-refused', 'etcd-tls']

export class Daemon {
  #phase: DaemonView['phase'] = 'starting'
  #member: Member | undefined
  /** Why the config in etcd is not in use; `undefined` when it is. */
  #configProblem: string | undefined
  #following: { readonly connected: boolean; readonly error?: string } = { connected: false }
  #revision: Revision | undefined
  #toldStatus: string | undefined
  /** The code of the failure of etcd that was logged last. */
  #toldLoss: string | undefined

  constructor(
    private readonly tools: Tools,
    private readonly version: string,
  ) {}

  get #log(): Logger {
    return this.tools.log
  }

  /**
   * Runs until the signal fires.
   * @throws {OverlayError} when it cannot go on: no underlay, device refused, no subnet free, subnet file not writable, ...
   */
  async run(stop: AbortSignal): Promise<void> {
    const servers: Server[] = []
    // A part that fails ends all others, and its error is the daemon's.
    const failure = new AbortController()
    const signal = AbortSignal.any([stop, failure.signal])
    const fail = (error: unknown): void => failure.abort(error)
    try {
      servers.push(await serveControlSocket(this.tools.options['run-dir'], () => this.status(), this.#log))
      servers.push(...(await this.#serveHealth()))
      await this.#follow(signal, fail)
    } catch (error) {
      fail(error)
    }
    await Promise.all(servers.map(close))
    if (failure.signal.aborted && !stop.aborted) throw failure.signal.reason
  }

  /** @returns the server, if one is asked for */
  async #serveHealth(): Promise<Server[]> {
    const { 'healthz-ip': ip, 'healthz-port': port } = this.tools.options
    if (port === 0) return []
    const server = await serveHealth({ ip, port }, () => this.#notReady())
    this.#log.info(`health: serving /healthz and /readyz on ${ip} port ${port}`)
    return [server]
  }

  /** For {@link serveHealth}. That etcd is away takes no host out of service: what runs goes on without it. */
  #notReady(): string | undefined {
    return this.#phase === 'running' ? this.#member?.unready : (this.#configProblem ?? '')
  }

  status(): Promise<Status> {
    return reportStatus(
      {
        options: this.tools.options,
        version: this.version,
        phase: this.#phase,
        member: this.#member?.parts,
        configProblem: this.#configProblem ?? this.#member?.configProblem,
        following: this.#following,
        revision: this.#revision,
      },
      this.tools.registry,
    )
  }

  async #follow(signal: AbortSignal, fail: (error: unknown) => void): Promise<void> {
    while (!signal.aborted) {
      for await (const update of this.tools.registry.follow(signal)) {
        this.#noteConnection(update)
        if (this.#member !== undefined) this.#member.take(update)
        else if (update.kind === 'snapshot') await this.#tryStart(update.snapshot, signal, fail)
        else if (update.kind === 'events' && update.events.some((event) => event.kind === 'config')) {
          // Only a new listing is complete, so begin again with one.
          break
        }
      }
    }
  }

  #noteConnection(update: RegistryUpdate): void {
    if (update.kind === 'lost') {
      const error = describeError(update.error)
      const news = ACT_UPON.includes(update.error.code) && update.error.code !== this.#toldLoss
      if (this.#following.connected || this.#following.error === undefined || news) {
        this.#toldLoss = update.error.code
        this.#log.warn(`etcd: ${error}; the kernel keeps everything, trying again`)
      }
      this.#following = { connected: false, error }
      this.#notify([])
      return
    }
    if (!this.#following.connected) this.#log.info('etcd: following')
    this.#following = { connected: true }
    this.#revision = update.kind === 'snapshot' ? update.snapshot.revision : update.revision
  }

  async #tryStart(snapshot: Snapshot, signal: AbortSignal, fail: (error: unknown) => void): Promise<void> {
    try {
      const config = this.#readConfig(snapshot.config)
      this.#phase = 'starting'
      this.#member = await joinNetwork(this.tools, config, snapshot, signal)
      this.#configProblem = undefined
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error
      this.#waitForConfig(describeError(error))
      return
    }
    const member = this.#member
    const { overlays, keeper, firewall, underlay } = member.parts
    const watchdog = watchdogMilliseconds()
    const every = watchdog === undefined ? Number.POSITIVE_INFINITY : watchdog / WATCHDOG_BEATS
    const alive = new Set<Overlay>()
    for (const overlay of overlays) {
      const tell = (): void => {
        alive.add(overlay)
        if (alive.size < overlays.length) return
        // All of them are alive, not only the one that tells most often.
        alive.clear()
        this.#notify(watchdog === undefined ? [] : ['WATCHDOG=1'])
      }
      overlay.reconciler.run(signal, { every, tell }).catch(fail)
    }
    keeper.run(signal).catch(fail)
    firewall.run(signal).catch(fail)
    await this.#ready(member)
    const moved = async (now: Underlay, before: Underlay): Promise<void> => {
      if (!sameAddresses(now, before)) this.tools.registry.reconnect()
      member.move(now)
      await this.#writeSubnetFile(member)
    }
    underlay.run(signal, moved).catch(fail)
    member.run(signal, () => this.#writeSubnetFile(member)).catch(fail)
  }

  #readConfig(text: string | undefined): NetworkConfig {
    if (text !== undefined) return parseNetworkConfig(text)
    throw new ConfigError(
      `there is no network config at ${this.#configKey}`,
      `put one: overlayctl config set --etcd-prefix=${this.tools.options['etcd-prefix']} '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'`,
    )
  }

  get #configKey(): string {
    return keysUnder(etcdPrefix(this.tools.options['etcd-prefix'])).config
  }

  #waitForConfig(problem: string): void {
    if (this.#configProblem !== problem) this.#log.warn(`config: ${problem}; waiting for a usable one`)
    this.#configProblem = problem
    this.#phase = 'waiting-for-config'
    this.#notify([])
  }

  async #ready(member: Member): Promise<void> {
    await this.#writeSubnetFile(member)
    this.#phase = 'running'
    this.#log.info(`ready: ${member.headline}`)
    this.#notify(['READY=1'])
  }

  async #writeSubnetFile({ parts: { config, underlay, keeper } }: Member): Promise<void> {
    const { ipv4, ipv6 } = keeper.own.subnet
    const written = await writeSubnetEnv(this.tools.options['subnet-file'], {
      ipv4: config.ipv4 && ipv4 && { network: config.ipv4.network, subnet: ipv4 },
      ipv6: config.ipv6 && ipv6 && { network: config.ipv6.network, subnet: ipv6 },
      mtu: overlayMtu(config, underlay.current),
      ipMasq: this.tools.options['ip-masq'],
    })
    if (written) this.#log.info(`subnet file: wrote ${this.tools.options['subnet-file']}`)
  }

  /** Tells systemd, with the line that `systemctl status` shows when that has changed. */
  #notify(states: readonly string[]): void {
    const summary = this.#member?.summary(this.#following.connected) ?? this.#configProblem ?? 'starting'
    const line = `STATUS=${summary}`
    const news = line === this.#toldStatus ? states : [...states, line]
    if (news.length === 0) return
    this.#toldStatus = line
    try {
      notifySystemd(news)
    } catch (error) {
      // systemd will make of it what it wants; the host works.
      this.#log.error(describeError(error))
    }
  }
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}
