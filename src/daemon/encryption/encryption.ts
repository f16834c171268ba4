/**
 * Encryption between hosts, for a host that takes part or has devices left of it. Any other host loads no
 * code of it.
 */
import { isOverlayError, OverlayError } from '../../model/errors'
import type { GuardCounts } from '../../model/guard'
import { type Peer, SLOTS } from '../../model/lease'
import { wireguardLinkName } from '../../plan/encryption/encryption-plan'
import { encryptionWord, type PeerEncryption } from '../../plan/encryption/peer-encryption'
import type { HostPlan } from '../../plan/host-plan'
import type { Edges } from '../edges'
import type { Overlay } from '../overlay/overlay'
import type { EncryptionKeeper } from './encryption-keeper'
import type { EncryptionState } from './encryption-state'
import type { Ways } from './ways'

export class Encryption {
  #keeper: EncryptionKeeper | undefined
  #plan: HostPlan
  #isRunning = false
  #isRemembered: boolean
  #staleVnis: readonly number[]
  #waysChanged = (): void => undefined
  #looked = (): void => undefined
  #abilityChanged: () => Promise<void> = async () => undefined

  /**
   * @param ways changed by this part, read by the reconcilers
   * @param begin `isRemembered`: whether this host knows only what an earlier run remembers. `staleVnis`:
   * those of devices that an earlier config left
   */
  constructor(
    private readonly edges: Edges,
    private readonly overlays: readonly Overlay[],
    readonly ways: Ways,
    plan: HostPlan,
    begin: { readonly isRemembered: boolean; readonly staleVnis: readonly number[] },
  ) {
    this.#plan = plan
    this.#isRemembered = begin.isRemembered
    this.#staleVnis = begin.staleVnis
  }

  /** `undefined` until encryption is first wanted. */
  get keeper(): EncryptionKeeper | undefined {
    return this.#keeper
  }

  /** Why encryption does not work, or not as it should; `undefined` when all is well, or not wanted. */
  get problem(): string | undefined {
    return this.#keeper?.problem
  }

  /** Why no other host is reached, where this host itself is the cause. */
  get blockage(): string | undefined {
    const { encryption } = this.#plan
    const isCut = encryption?.kind === 'on' && encryption.mode === 'required' && this.ways.size === 0
    return isCut && this.overlays.some(({ peers }) => peers.size > 0) ? this.problem : undefined
  }

  /** How packets to a peer leave this host; `undefined` in a network without encryption. */
  encryptionOf(peer: Peer): PeerEncryption | undefined {
    const { encryption } = this.#plan
    if (encryption === undefined) return undefined
    if (encryption.kind === 'on' && this.#keeper !== undefined)
      return this.#keeper.encryptionOf(peer, encryption)
    const obstacle = encryption.kind === 'unable' ? ({ kind: 'unable' } as const) : undefined
    return { word: encryptionWord(this.ways.of(peer)), obstacle }
  }

  /** `undefined` in a network without encryption, and until the keeper is there. */
  state(): EncryptionState | undefined {
    const { encryption, inputs } = this.#plan
    const { mode } = inputs.config.backend.encryption ?? {}
    if (encryption?.kind !== 'unable' || mode === undefined) return this.#keeper?.state()
    const all = this.overlays.reduce((sum, { peers }) => sum + peers.size, 0)
    return { ...encryption, mode, peers: { encrypted: 0, clear: all, none: 0 } }
  }

  /** Packets in clear that were dropped; `undefined` where clear packets may pass. */
  async dropped(): Promise<GuardCounts | undefined> {
    return this.#keeper?.dropped()
  }

  /** @param changed called when this host has other keys or another turn, or none; makes another plan */
  onAbilityChange(changed: () => Promise<void>): void {
    this.#abilityChanged = changed
  }

  /** @param changed called when packets to a host leave another way */
  onWaysChange(changed: () => void): void {
    this.#waysChanged = changed
  }

  /** Makes devices and tunnels before the peers are put into the kernel. */
  async prepare(signal: AbortSignal): Promise<void> {
    if (!(await this.#isConcerned(signal))) return
    await (await this.#load()).prepare(signal)
  }

  /** Ends what {@link prepare} has begun; devices and rules stay. */
  close(): void {
    this.#keeper?.close()
  }

  adopt(plan: HostPlan): void {
    this.#plan = plan
    this.wake()
  }

  /**
   * etcd has answered: peers that it does not have may be removed.
   * @param looked called when it is known which packets are encrypted, by etcd's peers: until then an entry
   * that leads through a tunnel has to stay as it is
   */
  confirm(looked: () => void): void {
    this.#looked = looked
    // A plan that asks for encryption brings a keeper, and a keeper makes a pass at once.
    if (this.#keeper === undefined && this.#plan.encryption?.kind !== 'on') looked()
    if (!this.#isRemembered) return
    this.#isRemembered = false
    this.wake()
  }

  /** Notes VNIs of further devices that an earlier config left. {@link follow} has to be called after it. */
  succeed(staleVnis: readonly number[]): void {
    this.#staleVnis = [...this.#staleVnis, ...staleVnis]
    this.#keeper?.succeed(staleVnis)
  }

  /** Asks for a pass: other hosts may have keys now, or others. */
  wake(): void {
    this.#keeper?.wake()
  }

  /**
   * Asks for other keys.
   * @throws {OverlayError} `rotate-key` where this host does not encrypt, and while it changes its keys
   */
  rotate(): void {
    const { encryption } = this.#plan
    if (encryption === undefined) {
      throw new OverlayError(
        'rotate-key',
        'this host does not encrypt: the network config does not ask for it',
        'set Backend.Encryption to prefer: overlayctl config set',
      )
    }
    if (encryption.kind === 'unable')
      throw new OverlayError('rotate-key', `this host does not encrypt: ${encryption.reason}`, encryption.fix)
    // It is loaded in the turns after the config has come.
    if (this.#keeper === undefined)
      throw new OverlayError('rotate-key', 'encryption is being switched on at this moment', 'try again')
    this.#keeper.rotate()
  }

  /**
   * Follows a plan that may have changed. The call that starts the keeper runs until the signal fires, and
   * rejects only with a defect of ours.
   */
  async follow(signal: AbortSignal): Promise<void> {
    if (this.#isRunning) return this.wake()
    if (this.#keeper === undefined && !(await this.#isConcerned(signal))) return
    const keeper = await this.#load()
    if (this.#isRunning) return
    this.#isRunning = true
    await keeper.run(signal)
  }

  async #load(): Promise<EncryptionKeeper> {
    const { EncryptionKeeper } = await import('./encryption-keeper.js')
    const { kernel, wireguard, log, options } = this.edges
    this.#keeper ??= new EncryptionKeeper(
      kernel,
      wireguard,
      this.ways,
      {
        plan: () => this.#plan.encryption,
        vni: () => this.#plan.inputs.config.backend.vni,
        families: this.overlays.map(({ spec: { family }, peers, reconciler }) => ({
          family,
          peers: () => peers.peers(),
          touch: (changed) => reconciler.waysChanged(changed),
          isSettled: () => reconciler.convergence.converged,
        })),
        isRemembered: () => this.#isRemembered,
        staleVnis: this.#staleVnis,
        maxKeyAge: options['encryption-key-days'] * DAY,
        isAnnounced: () => this.#plan.inputs.ability?.kind === 'able',
        abilityChanged: () => this.#abilityChanged(),
        waysChanged: () => this.#waysChanged(),
        looked: () => this.#looked(),
      },
      log,
    )
    return this.#keeper
  }

  /** Whether encryption is wanted, or an earlier run has left a device. */
  async #isConcerned(signal: AbortSignal): Promise<boolean> {
    if (this.#plan.encryption?.kind === 'on' || this.#staleVnis.length > 0) return true
    const { vni } = this.#plan.inputs.config.backend
    try {
      for (const slot of SLOTS)
        if ((await this.edges.kernel.link(wireguardLinkName(slot, vni), signal)) !== undefined) return true
      return false
    } catch (error) {
      if (!isOverlayError(error)) throw error
      // Not known now: the keeper checks again.
      return true
    }
  }
}

/** In milliseconds. */
const DAY = 86_400_000
