/**
 * The one place where it is said what happened. A line of the log, on standard error, as flannel does; and where the line comes with a kind, an
 * event for those who ask later.
 */
import { performance } from 'node:perf_hooks'
import winston from 'winston'
import type { EventKind, EventLevel, EventLog, Happening } from './events'
import { LineLimit } from './line-limit'
import { printable } from './printable'

type Say = (text: string, what?: Happening) => void

/** What is said with a {@link Happening} is an event too, also where the line is too verbose to be written. */
export interface Logger extends Readonly<Record<EventLevel, Say>> {
  silly(text: string): void
  log(level: EventLevel, text: string, what?: Happening): void
}

/** What others can have happen as often as they like: the events are bounded anyway, their lines are here. */
const AT_WILL: ReadonlySet<EventKind> = new Set(['peer-rejected'])

const LEVELS = ['info', 'debug', 'silly'] as const

/**
 * Makes the logger.
 * @param verbosity 0: events (info). 1: details (debug). 2 and above: everything (silly)
 * @param output `underJournald`: the journal has its own time stamps
 * @param events takes the events
 */
export function createLogger(
  verbosity: number,
  output: { readonly underJournald: boolean; readonly stream: NodeJS.WritableStream } = {
    underJournald: process.env['JOURNAL_STREAM'] !== undefined,
    stream: process.stderr,
  },
  events?: Pick<EventLog, 'record'>,
): Logger {
  const { combine, printf, timestamp } = winston.format
  const line = printf(({ level, message, timestamp: time }) => {
    const text = `${level.padEnd(5)} ${String(message)}`
    return time === undefined ? text : `${String(time)} ${text}`
  })
  const lines = winston.createLogger({
    level: LEVELS[Math.min(verbosity, 2)] ?? 'info',
    format: output.underJournald ? line : combine(timestamp(), line),
    transports: [new winston.transports.Stream({ stream: output.stream })],
  })
  const limits = new Map([...AT_WILL].map((kind) => [kind, new LineLimit()]))
  const write = (level: EventLevel | 'silly', text: string, kind: EventKind | undefined): void => {
    // Asked first, for what is not written must cost nothing.
    if (!lines.isLevelEnabled(level)) return
    const limit = kind === undefined ? undefined : limits.get(kind)
    const left = limit === undefined ? 0 : limit.admit(performance.now())
    if (left === undefined) return
    const said = printable(text)
    lines.log(level, left === 0 ? said : `${said} (and ${left} more before; overlayctl status lists them)`)
  }
  const log = (level: EventLevel, text: string, what?: Happening): void => {
    if (what !== undefined) events?.record(level, text, what)
    write(level, text, what?.kind)
  }
  return {
    error: (text, what) => log('error', text, what),
    warn: (text, what) => log('warn', text, what),
    info: (text, what) => log('info', text, what),
    debug: (text, what) => log('debug', text, what),
    silly: (text) => write('silly', text, undefined),
    log,
  }
}
