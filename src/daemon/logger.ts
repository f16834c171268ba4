/** Logging: one line per event, on standard error, as flannel does. */
import winston from 'winston'

export type Logger = winston.Logger

/** Control characters, which text from etcd may hold and a terminal or a log reader must not get. */
const CONTROL = /\p{Cc}/gu

/**
 * Makes the logger.
 * @param verbosity 0: events (info). 1: details (debug). 2 and above: everything (silly)
 * @param output `underJournald`: the journal has its own time stamps
 */
export function createLogger(
  verbosity: number,
  output: { readonly underJournald: boolean; readonly stream: NodeJS.WritableStream } = {
    underJournald: process.env['JOURNAL_STREAM'] !== undefined,
    stream: process.stderr,
  },
): Logger {
  const { combine, printf, timestamp } = winston.format
  const line = printf(({ level, message, timestamp: time }) => {
    const text = `${level.padEnd(5)} ${String(message).replace(CONTROL, escapeControl)}`
    return time === undefined ? text : `${String(time)} ${text}`
  })
  return winston.createLogger({
    level: verbosity === 0 ? 'info' : verbosity === 1 ? 'debug' : 'silly',
    format: output.underJournald ? line : combine(timestamp(), line),
    transports: [new winston.transports.Stream({ stream: output.stream })],
  })
}

const escapeControl = (character: string): string =>
  `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`
