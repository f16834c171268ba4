#!/usr/bin/env node
/** The daemon's program. Exit codes: 0 stopped on request, 1 cannot continue, 2 wrong usage. */
import type { Logger } from './daemon/tell/logger'
import { nameProcess } from './host/process-name'
import type { notifySystemd } from './host/sd-notify'
import { complain, complainAsError, print } from './host/streams'
import { networkOfRunDirectory } from './model/commands'
import { describeError, isOverlayError } from './model/errors'
import { parseCommandLine } from './options/command-line'
import { isUsageError } from './options/usage-error'
import { readVersion } from './options/version'

/** Milliseconds until the process ends even if something still runs: the kernel does not need the daemon. */
const STOP_DEADLINE = 800

// Node warns if a library passes an IP address as server name, which is necessary for an etcd given by
// address.
process.noDeprecation = true

async function main(): Promise<number> {
  nameProcess('overlayd', process.argv.slice(2))
  const invocation = await parseCommandLine(process.argv.slice(2), process.env)
  if (invocation.kind === 'help') {
    print(`${invocation.text}\n`)
    return 0
  }
  if (invocation.kind === 'version') {
    // On standard error, as flanneld does.
    complain(readVersion())
    return 0
  }
  // Loaded only now: --help and wrong flags do not need it.
  const [{ EventLog }, { createLogger, forNetwork }, { notifySystemd }, { runDaemon }, { writeLastExit }] =
    await Promise.all([
      import('./daemon/tell/events.js'),
      import('./daemon/tell/logger.js'),
      import('./host/sd-notify.js'),
      import('./daemon/run-daemon.js'),
      import('./host/last-exit.js'),
    ])
  const events = new EventLog()
  const network = networkOfRunDirectory(invocation.options['run-dir'])
  const log = forNetwork(createLogger(invocation.options.v, undefined, events), network)
  for (const warning of invocation.warnings) log.warn(warning)
  try {
    await runDaemon(invocation.options, log, events, stopSignal(log, notifySystemd))
    return 0
  } catch (error) {
    log.error(describeError(error))
    if (error instanceof Error && error.stack !== undefined) log.debug(error.stack)
    notifyStatus(log, notifySystemd, [`STATUS=ended: ${describeError(error)}`])
    // If another daemon runs, the run directory belongs to it.
    if (!(isOverlayError(error) && error.code === 'already-running'))
      await writeLastExit(invocation.options['run-dir'], error)
    return isOverlayError(error) && error.code === 'etcd-options' ? 2 : 1
  }
}

/** Fires when the daemon is asked to stop. Also logs uncaught errors before they end the process. */
function stopSignal(log: Logger, notify: typeof notifySystemd): AbortSignal {
  const stop = new AbortController()
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    // A second signal has its default effect.
    process.once(name, () => {
      log.info(`${name}: stopping; the kernel keeps everything`, { kind: 'stopping' })
      stop.abort()
      end(0)
      notifyStatus(log, notify, ['STOPPING=1'])
    })
  }
  const crash = (error: unknown): never => {
    log.error(`defect: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`)
    process.exit(1)
  }
  process.on('uncaughtException', crash)
  process.on('unhandledRejection', crash)
  return stop.signal
}

function notifyStatus(log: Logger, notify: typeof notifySystemd, states: readonly string[]): void {
  try {
    notify(states)
  } catch (error) {
    log.warn(describeError(error))
  }
}

function end(code: number): void {
  process.exitCode = code
  setTimeout(() => process.exit(), STOP_DEADLINE).unref()
}

main().then(end, (error: unknown) => {
  complainAsError(`overlayd: ${describeError(error)}`)
  end(isUsageError(error) ? 2 : 1)
})
