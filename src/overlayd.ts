#!/usr/bin/env node
/** The daemon's entry: options in, exit code out. 0: told to stop. 1: cannot go on. 2: wrong usage. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Daemon } from './daemon/daemon'
import { DeviceLocks } from './daemon/device-lock'
import { EventLog } from './daemon/events'
import { createLogger, type Logger } from './daemon/logger'
import { Meters } from './daemon/meters'
import { describeOptions, etcdOptions, type Options, parseCommandLine, UsageError } from './daemon/options'
import { readVersion } from './daemon/version'
import { type EtcdClient, openEtcd } from './etcd/client'
import { EtcdError } from './etcd/errors'
import { Registry } from './etcd/registry'
import { notifySystemd } from './host/sd-notify'
import { Kernel } from './kernel/kernel'
import { type BackoffBounds, backoffDelay } from './model/backoff'
import { describeError } from './model/errors'

/** Milliseconds until the process ends whatever still runs: the kernel needs nothing of us. */
const STOP_DEADLINE = 800

// Node warns of a library that names an address as the server's name, as it must for an etcd that is given by address.
process.noDeprecation = true

async function main(): Promise<number> {
  const invocation = await parseCommandLine(process.argv.slice(2), process.env)
  if (invocation.kind === 'help') {
    process.stdout.write(`${invocation.text}\n`)
    return 0
  }
  if (invocation.kind === 'version') {
    // On standard error, as flanneld does.
    process.stderr.write(`${readVersion()}\n`)
    return 0
  }
  const events = new EventLog()
  const log = createLogger(invocation.options.v, undefined, events)
  for (const warning of invocation.warnings) log.warn(warning)
  try {
    await runDaemon(invocation.options, log, events)
    return 0
  } catch (error) {
    log.error(describeError(error))
    if (error instanceof Error && error.stack !== undefined) log.debug(error.stack)
    return error instanceof EtcdError && error.code === 'etcd-options' ? 2 : 1
  }
}

async function runDaemon(options: Options, log: Logger, events: EventLog): Promise<void> {
  const stop = new AbortController()
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    // The second one has its default effect.
    process.once(name, () => {
      log.info(`${name}: stopping; the kernel keeps everything`, { kind: 'stopping' })
      stop.abort()
      end(0)
      try {
        notifySystemd(['STOPPING=1'])
      } catch (error) {
        log.warn(describeError(error))
      }
    })
  }
  const crash = (error: unknown): never => {
    log.error(`defect: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`)
    process.exit(1)
  }
  process.on('uncaughtException', crash)
  process.on('unhandledRejection', crash)

  const version = readVersion()
  log.info(`overlayd ${version}, process ${process.pid}`, { kind: 'started' })
  const meters = new Meters()
  const kernel = await Kernel.open({ report: (error) => log.error(`netlink: ${describeError(error)}`) })
  const etcd = await openEtcdAtLast(options, log, meters, stop.signal)
  if (etcd === undefined) return
  try {
    // Only now, for a list of endpoints that cannot be used may hold a password.
    log.debug(`options: ${describeOptions(options)}`)
    const registry = new Registry(etcd, { prefix: options['etcd-prefix'] })
    const tools = { options, kernel, registry, locks: new DeviceLocks(), log, events, meters }
    await new Daemon(tools, version).run(stop.signal)
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
      return await openEtcd({ ...etcdOptions(options), onCall: meters.called.bind(meters) }, log)
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

function end(code: number): void {
  process.exitCode = code
  setTimeout(() => process.exit(), STOP_DEADLINE).unref()
}

main().then(end, (error: unknown) => {
  process.stderr.write(`overlayd: ${describeError(error)}\n`)
  end(error instanceof UsageError ? 2 : 1)
})
