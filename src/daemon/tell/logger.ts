/**
 * The log: lines on standard error, as flannel's. A line that is logged with a kind is also recorded as an
 * event, for readers who ask later.
 */
import winston from 'winston'
import type { EventKind, EventLevel, Happening } from '../../api/events'
import { isUnderJournald } from '../../host/streams'
import { commandsFor } from '../../model/commands'
import { printable } from '../../model/printable'
import type { EventLog } from './events'
import { LineLimits } from './line-limit'

type Log = (text: string, what?: Happening) => void

/** Text logged with a {@link Happening} is also recorded as an event, even if its line is suppressed. */
export interface Logger extends Readonly<Record<EventLevel, Log>> {
  /** @param words called only where the line is wanted: a large network has thousands */
  silly(words: () => string): void
  log(level: EventLevel, text: string, what?: Happening): void
}

/** Maximum characters of a line: it may contain names and reasons that others choose. */
const LONGEST = 2000

/** The kind of a line that has none: the level and the first word of the line, as in `lease: ...`. */
const subjectOf = (level: string, text: string): string =>
  `${level} ${/^[a-z -]{1,30}(?=:)/.exec(text)?.[0] ?? ''}`

const LEVELS = ['info', 'debug', 'silly'] as const

/** Prefixes of a line for journald, by level (sd-daemon(3): SD_ERR, SD_WARNING, SD_INFO, SD_DEBUG). */
const PRIORITIES: Readonly<Record<string, string>> = {
  error: '<3>',
  warn: '<4>',
  info: '<6>',
  debug: '<7>',
  silly: '<7>',
}

/**
 * Makes the logger.
 * @param verbosity 0: events (info). 1: details (debug). 2 and above: everything (silly)
 * @param output `underJournald`: lines without time stamps, because the journal has its own. `prefixed`:
 * lines begin with their priority, which the journal reads
 * @param events records the events
 */
export function createLogger(
  verbosity: number,
  output: {
    readonly underJournald: boolean
    readonly prefixed?: boolean
    readonly stream: NodeJS.WritableStream
  } = { underJournald: isUnderJournald(), prefixed: isUnderJournald(), stream: process.stderr },
  events?: Pick<EventLog, 'record'>,
): Logger {
  const { combine, printf, timestamp } = winston.format
  const line = printf(({ level, message, timestamp: time }) => {
    const priority = output.prefixed === true ? (PRIORITIES[level] ?? '') : ''
    const text = `${priority}${level.padEnd(5)} ${String(message)}`
    return time === undefined ? text : `${String(time)} ${text}`
  })
  const lines = winston.createLogger({
    level: LEVELS[Math.min(verbosity, 2)] ?? 'info',
    format: output.underJournald ? line : combine(timestamp(), line),
    transports: [new winston.transports.Stream({ stream: output.stream })],
  })
  // Every line is limited, whatever causes it. Events need no limit: their number is bounded anyway.
  const limits = new LineLimits()
  /** Kinds for which a notice about omitted lines is scheduled. */
  const scheduled = new Set<string>()
  /** Logs how many lines of a kind were omitted, if no further line of the kind does so. */
  const scheduleNotice = (kind: string, level: EventLevel | 'silly', text: string): void => {
    if (scheduled.has(kind)) return
    scheduled.add(kind)
    const notify = (): void => {
      scheduled.delete(kind)
      const omitted = limits.omitted(kind)
      if (omitted === 0) return
      if (limits.delay(kind, performance.now()) > 0) scheduleNotice(kind, level, text)
      else {
        limits.admit(kind, false, performance.now())
        lines.log(level, `${omitted} more lines like this one were left out of the log: ${printable(text)}`)
      }
    }
    setTimeout(notify, limits.delay(kind, performance.now())).unref()
  }
  const write = (level: EventLevel | 'silly', text: string, kind: EventKind | undefined): void => {
    // Check the level first, so that suppressed lines cost nothing.
    if (!lines.isLevelEnabled(level)) return
    const isDetail = level === 'debug' || level === 'silly'
    const subject = kind ?? subjectOf(level, text)
    const cut = text.length > LONGEST ? `${text.slice(0, LONGEST)}... (${text.length} characters)` : text
    const admission = limits.admit(subject, isDetail, performance.now())
    if (admission === undefined) {
      scheduleNotice(subject, level, cut)
      return
    }
    const { omitted } = admission
    lines.log(level, `${printable(cut)}${omitted === 0 ? '' : ` (and ${omitted} more like it before)`}`)
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
    silly: (words) => {
      if (lines.isLevelEnabled('silly')) write('silly', words(), undefined)
    },
    log,
  }
}

/** The same log, in which commands are adapted to a further network of the host. */
export function forNetwork(log: Logger, network: string | undefined): Logger {
  if (network === undefined) return log
  const adapted =
    (level: EventLevel): Log =>
    (text, what) =>
      log.log(level, commandsFor(network, text), what)
  return {
    error: adapted('error'),
    warn: adapted('warn'),
    info: adapted('info'),
    debug: adapted('debug'),
    silly: log.silly,
    log: (level, text, what) => log.log(level, commandsFor(network, text), what),
  }
}
