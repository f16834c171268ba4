/** `overlayctl events` and `overlayctl metrics`: what the daemon says of what it does. */
import { once } from 'node:events'
import type { Readable } from 'node:stream'
import { styleText } from 'node:util'
import { EVENT_KINDS, EVENTS_LOST, type EventKind, eventSchema, type OverlayEvent } from '../daemon/events'
import { UsageError } from '../daemon/options'
import { printable } from '../daemon/printable'
import { OverlayError, systemErrorCode } from '../model/errors'
import { askDaemon, daemonIsDown, readDaemon } from './daemon-socket'
import { EXIT } from './exit'

export interface EventsRequest {
  readonly follow: boolean
  readonly output: 'text' | 'json'
  /** `10m`: not older than that; empty for all. */
  readonly since: string
  /** Of these kinds only, each perhaps several, comma separated; none for all. */
  readonly kind: readonly string[]
  /** Only about the peer with that subnet, PublicIP or address of the subnet; empty for all. */
  readonly peer: string
}

/**
 * Prints events, the oldest first.
 * @returns the exit code
 * @throws {UsageError}
 * @throws {OverlayError} `control-socket`
 */
export async function runEvents(runDirectory: string, request: EventsRequest): Promise<number> {
  const isWanted = eventFilter(request, Date.now())
  const path = request.follow ? '/events?follow' : '/events'
  const response = await askDaemon(runDirectory, path, { isLive: request.follow })
  if (response === undefined) throw daemonIsDown(runDirectory)
  const colour = process.stdout.isTTY === true
  try {
    for await (const event of readEvents(response)) {
      if (!isWanted(event)) continue
      await print(request.output === 'json' ? JSON.stringify(event) : renderEvent(event, colour))
    }
  } catch (error) {
    // So a daemon ends that is followed; else something is missing.
    if (!request.follow || systemErrorCode(error) !== 'ECONNRESET') throw error
  }
  if (!request.follow) return EXIT.healthy
  process.stderr.write('overlayctl: overlayd has ended\n')
  return EXIT.degraded
}

/**
 * Prints the metrics in Prometheus's text format.
 * @throws {OverlayError} `control-socket`
 */
export async function runMetrics(runDirectory: string): Promise<number> {
  const text = await readDaemon(runDirectory, '/metrics')
  if (text === undefined) throw daemonIsDown(runDirectory)
  process.stdout.write(text)
  return EXIT.healthy
}

/** Bytes; far above what the longest event takes. */
const LONGEST_LINE = 65_536

/**
 * The events of a stream of JSON lines.
 * @throws {OverlayError} `control-socket` where a line is none
 */
export async function* readEvents(stream: Readable): AsyncGenerator<OverlayEvent> {
  let rest = ''
  for await (const text of stream.setEncoding('utf8')) {
    const lines = (rest + text).split('\n')
    rest = lines.pop() ?? ''
    if (rest.length > LONGEST_LINE) throw strange('a line without an end')
    for (const line of lines) yield parseEvent(line)
  }
}

function parseEvent(line: string): OverlayEvent {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    throw strange(JSON.stringify(line.slice(0, 80)))
  }
  const result = eventSchema.safeParse(value)
  if (!result.success) throw strange(JSON.stringify(line.slice(0, 80)))
  return result.data
}

const strange = (what: string): OverlayError =>
  new OverlayError(
    'control-socket',
    `the daemon tells its events in a form this overlayctl does not know: ${what}`,
    'use the overlayctl of the same version',
  )

/** Which events are asked for. What is no event but says that some are lost is always told. */
export function eventFilter(
  { since, kind, peer }: Pick<EventsRequest, 'since' | 'kind' | 'peer'>,
  now: number,
): (event: OverlayEvent) => boolean {
  const from = since === '' ? Number.NEGATIVE_INFINITY : now - parseAge(since)
  const kinds = kind.flatMap((text) => text.split(',')).map(parseKind)
  const isOfKind = (of: string): boolean => kinds.length === 0 || (kinds as string[]).includes(of)
  return (event) => {
    if (Date.parse(event.time) < from) return false
    if (event.kind === EVENTS_LOST) return event.about.every(isOfKind)
    return isOfKind(event.kind) && (peer === '' || event.about.some((name) => isNamed(name, peer)))
  }
}

/** A subnet is also named by its address alone. */
const isNamed = (name: string, wanted: string): boolean => name === wanted || name.startsWith(`${wanted}/`)

/** Milliseconds. */
const UNITS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

function parseAge(text: string): number {
  const [, number = '', unit = ''] = /^(\d{1,9})([smhd])$/.exec(text) ?? []
  const milliseconds = UNITS[unit]
  if (milliseconds === undefined)
    throw new UsageError(
      `the flag --since is ${JSON.stringify(text)}: a number with s, m, h or d is wanted, as in 10m`,
    )
  return Number(number) * milliseconds
}

function parseKind(text: string): EventKind {
  const found = EVENT_KINDS.find((kind) => kind === text)
  if (found !== undefined) return found
  throw new UsageError(`the flag --kind is ${JSON.stringify(text)}: there are ${EVENT_KINDS.join(', ')}`)
}

const WIDTH = Math.max(...EVENT_KINDS.map((kind) => kind.length))
const STYLES = { error: 'red', warn: 'yellow', debug: 'dim' } as const

/** One line for a person, in colour only when `colour` says so. Whatever the daemon sent, nothing in it steers the terminal. */
export function renderEvent({ time, level, kind, text }: OverlayEvent, colour: boolean): string {
  const line = `${time}  ${kind.padEnd(WIDTH)}  ${printable(text)}`
  return colour && level !== 'info' ? styleText(STYLES[level], line, { validateStream: false }) : line
}

/** Waits where the reader is slower than we are, and ends with it. */
async function print(line: string): Promise<void> {
  if (!process.stdout.write(`${line}\n`)) await once(process.stdout, 'drain')
}
