/** What facts are read from. Each connection is opened for the first fact that needs it. */
import { demandEtcd, type Knowledge } from '../../client/settings'
import { type EtcdClient, openEtcd } from '../../etcd/client/client'
import { Registry } from '../../etcd/registry'
import type { PeerFact } from '../../judge/facts'
import { Kernel, type KernelReader } from '../../kernel/kernel'
import { etcdOptions } from '../../options/etcd'
import type { Options } from '../../options/schema'

/** The options, and whether this user may know where etcd is. */
export type DoctorOptions = Options & { readonly known?: Knowledge }

export class Edges {
  #client: Promise<EtcdClient> | undefined
  #kernel: Promise<KernelReader> | undefined

  constructor(
    readonly options: DoctorOptions,
    /** Whether a peer is to be probed. */
    readonly isProbed: (peer: PeerFact) => boolean,
  ) {}

  /** @throws {OverlayError} `etcd-unknown`, `etcd-options` */
  async registry(): Promise<Registry> {
    this.#client ??= this.#openEtcd()
    return new Registry(await this.#client, { prefix: this.options['etcd-prefix'] })
  }

  /** @throws {OverlayError} `netlink-open`, `netlink-option`, `no-ffi` */
  kernel(): Promise<KernelReader> {
    this.#kernel ??= Kernel.open()
    return this.#kernel
  }

  async #openEtcd(): Promise<EtcdClient> {
    demandEtcd(this.options)
    return openEtcd(etcdOptions(this.options))
  }

  async close(): Promise<void> {
    for (const opened of await Promise.allSettled([this.#client, this.#kernel]))
      if (opened.status === 'fulfilled') opened.value?.close()
  }
}
