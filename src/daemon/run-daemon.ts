/** The daemon's parts, put together: kernel, etcd client, and what goes on between them. */
import { setTimeout as sleep } from 'node:timers/promises'
import { type EtcdClient, openEtcd } from '../etcd/client'
import { EtcdError } from '../etcd/errors'
import { Registry } from '../etcd/registry'
import { Kernel } from '../kernel/kernel'
import { type BackoffBounds, backoffDelay } from '../model/backoff'
import { describeError } from '../model/errors'
import { Daemon } from './daemon'
import { DeviceLocks } from './device-lock'
import type { EventLog } from './events'
import type { Logger } from './logger'
import { Meters } from './meters'
import { describeOptions, etcdOptions, type Options } from './options'
import { readVersion } from './version'

/**
 * Runs until the signal fires.
 * @throws {OverlayError} when it cannot go on
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
  const kernel = await Kernel.open({ report: (error) => log.error(`netlink: ${describeError(error)}`) })
  const etcd = await openEtcdAtLast(options, log, meters, signal)
  if (etcd === undefined) return
  try {
    // Only now, for a list of endpoints that cannot be used may hold a password.
    log.debug(`options: ${describeOptions(options)}`)
    const registry = new Registry(etcd, { prefix: options['etcd-prefix'] })
    const tools = { options, kernel, registry, locks: new DeviceLocks(), log, events, meters }
    await new Daemon(tools, version).run(signal)
  } finally {
    etcd.close()
    kernel.close()
  }
}

/** Wait between two attempts to find etcd's endpoints. */
const DISCOVERY: BackoffBounds = { first: 1000, most: 15_000 }

/**
 * Makes the client; while DNS names no endpoint it is asked again.
 * @returns undefined when the signal has fired
 * @throws {EtcdError} `etcd-options`
 */
async function openEtcdAtLast(
  options: Options,
  log: Logger,
  meters: Meters,
  signal: AbortSignal,
): Promise<EtcdClient | undefined> {
  for (let failures = 1; !signal.aborted; failures++) {
    try {
      return await openEtcd({ ...etcdOptions(options), meter: meters.etcd }, log)
    } catch (error) {
      if (!(error instanceof EtcdError) || error.code !== 'etcd-unreachable') throw error
      log.warn(`etcd: ${describeError(error)}; trying again`, { kind: 'etcd-lost' })
      await sleep(backoffDelay(failures, DISCOVERY, Math.random), undefined, { signal }).catch(
        () => undefined,
      )
    }
  }
  return undefined
}
