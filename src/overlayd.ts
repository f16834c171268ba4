#!/usr/bin/env node
/** The daemon's entry: options in, exit code out. 0: told to stop. 1: cannot go on. 2: wrong usage. */
import type { Logger } from './daemon/logger'
import { parseCommandLine, UsageError } from './daemon/options'
import { readVersion } from './daemon/version'
import type { notifySystemd } from './host/sd-notify'
import { describeError, OverlayError } from './model/errors'

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
  // Only now: who asks for help, or mistypes a flag, needs none of it.
  const [{ EventLog }, { createLogger }, { notifySystemd }, { runDaemon }] = await Promise.all([
    import('./daemon/events.js'),
    import('./daemon/logger.js'),
    import('./host/sd-notify.js'),
    import('./daemon/run-daemon.js'),
  ])
  const events = new EventLog()
  const log = createLogger(invocation.options.v, undefined, events)
  for (const warning of invocation.warnings) log.warn(warning)
  try {
    await runDaemon(invocation.options, log, events, stopSignal(log, notifySystemd))
    return 0
  } catch (error) {
    log.error(describeError(error))
    if (error instanceof Error && error.stack !== undefined) log.debug(error.stack)
    return error instanceof OverlayError && error.code === 'etcd-options' ? 2 : 1
  }
}

/** Fires when the daemon is told to stop; also has whatever nobody expected end it with a word. */
function stopSignal(log: Logger, notify: typeof notifySystemd): AbortSignal {
  const stop = new AbortController()
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    // The second one has its default effect.
    process.once(name, () => {
      log.info(`${name}: stopping; the kernel keeps everything`, { kind: 'stopping' })
      stop.abort()
      end(0)
      try {
        notify(['STOPPING=1'])
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
  return stop.signal
}

function end(code: number): void {
  process.exitCode = code
  setTimeout(() => process.exit(), STOP_DEADLINE).unref()
}

main().then(end, (error: unknown) => {
  process.stderr.write(`overlayd: ${describeError(error)}\n`)
  end(error instanceof UsageError ? 2 : 1)
})
