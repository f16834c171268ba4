/** Opens the edges (kernel, etcd client), runs the daemon on them, and closes them. */
import { type EtcdCalls, type EtcdOptions, openEtcd } from '../etcd/client/client'
import { LateClient } from '../etcd/client/late-client'
import { Registry } from '../etcd/registry'
import { DeviceLocks } from '../kernel/device-lock'
import { Kernel } from '../kernel/kernel'
import { describeError } from '../model/errors'
import { etcdOptions } from '../options/etcd'
import type { Options } from '../options/schema'
import { describeOptions } from '../options/tell'
import { readVersion } from '../options/version'
import { Daemon } from './daemon'
import { HostIdentity } from './encryption/host-identity'
import { HostWireguard } from './encryption/host-wireguard'
import type { EventLog } from './tell/events'
import type { Logger } from './tell/logger'
import { Meters } from './tell/meters'

/**
 * Runs the daemon until the signal fires.
 * @throws {OverlayError} when the daemon cannot go on
 */
export async function runDaemon(
  options: Options,
  log: Logger,
  events: EventLog,
  signal: AbortSignal,
): Promise<void> {
  const version = readVersion()
  log.info(`overlayd ${version}, process ${process.pid}`, { kind: 'started' })
  const meters = new Meters()
  const kernel = await Kernel.openWriter({ report: (error) => log.error(`netlink: ${describeError(error)}`) })
  const etcd = await openClient({ ...etcdOptions(options), meter: meters.etcd }, log)
  try {
    // Only now: an unusable list of endpoints, which would have failed above, may contain a password.
    log.debug(`options: ${describeOptions(options)}`)
    const registry = new Registry(etcd, { prefix: options['etcd-prefix'] })
    const wireguard = new HostWireguard(kernel, options, log)
    const identity = new HostIdentity(options['state-dir'], log)
    const locks = new DeviceLocks()
    const edges = { options, kernel, registry, locks, wireguard, identity, log, events, meters }
    await new Daemon(edges, version).run(signal).finally(() => wireguard.close())
  } finally {
    etcd.close()
    kernel.close()
  }
}

/**
 * Makes the client. With --discovery-srv DNS is asked later, when the client is first used.
 * @throws {EtcdError} `etcd-options`
 */
const openClient = async (options: EtcdOptions, log: Logger): Promise<EtcdCalls> =>
  options.discoverySrv ? new LateClient(options, log) : openEtcd(options, log)
