/** `overlayctl events` and `overlayctl metrics`: reports of the daemon about its work. */
import type { Readable } from 'node:stream'
import { styleText } from 'node:util'
import { EVENT_KINDS, EVENTS_LOST, type EventKind, eventSchema, type OverlayEvent } from '../../api/events'
import { askDaemon, daemonIsDown, readDaemon } from '../../client/daemon-socket'
import { complain, print, printSlowly } from '../../host/streams'
import { parseIp, parseIpPrefix } from '../../model/address'
import { OverlayError, systemErrorCode } from '../../model/errors'
import { printable, toJson } from '../../model/printable'
import { UsageError } from '../../options/usage-error'
import { findBehind, holds, subnetsBehind } from '../ask/whereabouts'
import { EXIT } from '../exit'
import { hang, screenOf } from '../show/screen'

export interface EventsRequest {
  readonly follow: boolean
  readonly output: 'text' | 'json'
  /** Oldest age, such as `10m`; empty: no limit. */
  readonly since: string
  /** Kinds to show; each item may be a comma list. Empty: all kinds. */
  readonly kind: readonly string[]
  /** Show only events about the peer with that subnet, PublicIP or container address; empty: all. */
  readonly peer: string
}

/**
 * Prints events, oldest first.
 * @returns the exit code
 * @throws {UsageError}
 * @throws {OverlayError} `control-socket`
 */
export async function runEvents(runDirectory: string, request: EventsRequest): Promise<number> {
  const { behind } = await findBehind(runDirectory, request.peer)
  const isWanted = eventFilter(request, Date.now(), behind === undefined ? [] : subnetsBehind(behind))
  const name = request.follow ? 'followEvents' : 'events'
  const response = await askDaemon(runDirectory, name, { isLive: request.follow })
  if (response === undefined) throw daemonIsDown(runDirectory)
  const { colour, width } = screenOf()
  try {
    for await (const event of readEvents(response)) {
      if (!isWanted(event)) continue
      const line = request.output === 'json' ? toJson(event) : renderEvent(event, colour, width)
      await printSlowly(`${line}\n`)
    }
  } catch (error) {
    // ECONNRESET while following means that the daemon stopped: not an error.
    if (!request.follow || systemErrorCode(error) !== 'ECONNRESET') throw error
  }
  if (!request.follow) return EXIT.healthy
  complain('overlayctl: overlayd has ended')
  return EXIT.degraded
}

/**
 * Prints the metrics in Prometheus's text format.
 * @throws {OverlayError} `control-socket`
 */
export async function runMetrics(runDirectory: string): Promise<number> {
  const text = await readDaemon(runDirectory, 'metrics')
  if (text === undefined) throw daemonIsDown(runDirectory)
  print(text)
  return EXIT.healthy
}

/** Bytes; far more than the longest event has. */
const LONGEST_LINE = 65_536

/**
 * Reads the events of a stream of JSON lines.
 * @throws {OverlayError} `control-socket` if a line is not an event
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
    `the daemon sent an event that this overlayctl does not understand: ${what}`,
    'use the overlayctl of the same version',
  )

/**
 * The filter for the requested events. Markers that events were lost pass the filter for a peer.
 * @param announcers subnets of the hosts that announce the address of the peer
 */
export function eventFilter(
  { since, kind, peer }: Pick<EventsRequest, 'since' | 'kind' | 'peer'>,
  now: number,
  announcers: readonly string[] = [],
): (event: OverlayEvent) => boolean {
  const from = since === '' ? Number.NEGATIVE_INFINITY : now - parseAge(since)
  const kinds = kind.flatMap((text) => text.split(',')).map(parseKind)
  const isOfPeer = peerFilter(peer, announcers)
  const isOfKind = (of: string): boolean => kinds.length === 0 || (kinds as string[]).includes(of)
  return (event) => {
    if (Date.parse(event.time) < from) return false
    if (event.kind === EVENTS_LOST) return event.about.every(isOfKind)
    return isOfKind(event.kind) && (peer === '' || event.about.some(isOfPeer))
  }
}

/** A subnet may be named by its address alone, or by another one in it. */
function peerFilter(wanted: string, announcers: readonly string[]): (name: string) => boolean {
  const address = parseIp(wanted)
  return (name) =>
    name === wanted ||
    name.startsWith(`${wanted}/`) ||
    announcers.includes(name) ||
    holds(parseIpPrefix(name), address)
}

/** Milliseconds. */
const UNITS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

function parseAge(text: string): number {
  const [, number = '', unit = ''] = /^(\d{1,9})([smhd])$/.exec(text) ?? []
  const milliseconds = UNITS[unit]
  if (milliseconds === undefined)
    throw new UsageError(
      `the flag --since is ${JSON.stringify(text)}: expected a number with s, m, h or d, as in 10m`,
    )
  return Number(number) * milliseconds
}

function parseKind(text: string): EventKind {
  const found = EVENT_KINDS.find((kind) => kind === text)
  if (found !== undefined) return found
  throw new UsageError(`the flag --kind is ${JSON.stringify(text)}: there are ${EVENT_KINDS.join(', ')}`)
}

const WIDTH = Math.max(...EVENT_KINDS.map((kind) => kind.length))
/** Least columns of a screen on which the text fits beside time and kind. */
const LEAST_BESIDE = 100
const STYLES = { error: 'red', warn: 'yellow', debug: 'dim' } as const

/**
 * An event for people: one line, or several on a narrow screen. Foreign text in it is made printable.
 * @param colour whether to colour it by level
 */
export function renderEvent(
  { time, level, kind, text }: OverlayEvent,
  colour: boolean,
  width = Number.POSITIVE_INFINITY,
): string {
  const head = `${time}  ${kind.padEnd(WIDTH)}  `
  const message = printable(text)
  // On a narrow screen the message stands below the head.
  const line = Number.isFinite(width)
    ? width >= LEAST_BESIDE
      ? hang(head, message, width, head.length).join('\n')
      : [head.trimEnd(), ...hang('', message, width - 4, 0).map((each) => `    ${each}`)].join('\n')
    : `${head}${message}`
  return colour && level !== 'info' ? styleText(STYLES[level], line, { validateStream: false }) : line
}
