/**
 * WireGuard on this host: whether the kernel has it, and the keys. Opened when a network config asks for
 * encryption for the first time.
 */
import type { HostKeys } from '../../host/wireguard-keys'
import type { Kernel } from '../../kernel/kernel'
import type { WireguardDevices } from '../../kernel/wireguard/devices'
import type { NetworkConfig } from '../../model/config/network-config'
import { describeError, isOverlayError } from '../../model/errors'
import type { Slot } from '../../model/lease'
import type { PrivateKey } from '../../model/wireguard-secret'
import type { Options } from '../../options/schema'
import type { Ability } from '../../plan/encryption/encryption-plan'
import type { RotationStep } from '../../plan/encryption/rotation'
import type { Logger } from '../tell/logger'

interface Opened {
  readonly devices: WireguardDevices
  readonly keys: HostKeys
}

export class HostWireguard {
  #opened: Opened | undefined

  constructor(
    private readonly kernel: Kernel,
    private readonly options: Pick<Options, 'encryption' | 'state-dir'>,
    private readonly log: Logger,
  ) {}

  /** @returns `undefined` until {@link ability} has found this host able */
  get devices(): WireguardDevices | undefined {
    return this.#opened?.devices
  }

  /** @returns `undefined` until {@link ability} has found this host able */
  get keys(): HostKeys | undefined {
    return this.#opened?.keys
  }

  /** @throws {TypeError} before {@link ability} has found this host able */
  secret(slot: Slot): PrivateKey {
    const key = this.#opened?.keys.keys[slot]
    if (key === undefined) throw new TypeError('no keys were opened')
    return key
  }

  /**
   * Whether this host can encrypt as the config wants. The first call that asks for encryption opens the
   * kernel's WireGuard and reads the keys, or makes them.
   * @returns `undefined` for a config without encryption
   */
  async ability({ backend: { encryption } }: NetworkConfig): Promise<Ability | undefined> {
    if (encryption === undefined) return undefined
    if (this.options.encryption === 'off') {
      return {
        kind: 'unable',
        reason: 'encryption is off on this host (--encryption=off)',
        fix: 'start overlayd with --encryption=auto',
      }
    }
    try {
      this.#opened ??= await this.#open()
    } catch (error) {
      if (!isOverlayError(error)) throw error
      return { kind: 'unable', reason: error.message, fix: error.fix ?? 'correct that, and restart overlayd' }
    }
    if (this.#opened === undefined) {
      return {
        kind: 'unable',
        reason: 'the kernel of this host has no WireGuard',
        fix: 'load the module (modprobe wireguard), or boot a kernel with it (Linux 5.6 and later)',
      }
    }
    const { turn, keys } = this.#opened.keys
    return { kind: 'able', turn, port: encryption.port, keys: [keys[0].publicKey(), keys[1].publicKey()] }
  }

  /**
   * Takes a step of a change of keys: the plan that follows from {@link ability} is another one then.
   * @throws {OverlayError} `key-file`; the keys are the former ones then
   */
  async change(step: RotationStep): Promise<void> {
    if (this.#opened === undefined) return
    const { devices, keys } = this.#opened
    const { changeKeys } = await import('./host-keys.js')
    this.#opened = { devices, keys: await changeKeys(this.options['state-dir'], keys, step, this.log) }
  }

  /** Notes how far the clock of this host has come, for a start after it was set back. */
  async noteClock(): Promise<void> {
    if (this.#opened === undefined) return
    const { noteClock } = await import('../../host/wireguard-keys.js')
    await noteClock(this.options['state-dir'], new Date())
  }

  close(): void {
    this.#opened?.devices.close()
  }

  /** @returns `undefined` if the kernel has no WireGuard */
  async #open(): Promise<Opened | undefined> {
    // A host without encryption loads no code of it.
    const [{ WireguardDevices }, { openKeys }] = await Promise.all([
      import('../../kernel/wireguard/devices.js'),
      import('./host-keys.js'),
    ])
    const devices = await WireguardDevices.open(this.kernel, (error) =>
      this.log.warn(`encryption: ${describeError(error)}`),
    )
    if (devices === undefined) return undefined
    try {
      return { devices, keys: await openKeys(this.options['state-dir'], this.log) }
    } catch (error) {
      devices.close()
      throw error
    }
  }
}
