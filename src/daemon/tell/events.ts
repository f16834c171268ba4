/**
 * The event log: each log line that has a kind is also kept as an event, for readers who ask later. The last
 * events of each kind are kept, so that ten thousand joins displace older joins and nothing else.
 */
import {
  EVENTS_LOST,
  type EventKind,
  type EventLevel,
  type Happening,
  type OverlayEvent,
} from '../../api/events'
import { printable } from '../../model/printable'
import { Tally } from './meters'

/** An event as it is kept: the time as a number. */
interface Kept extends Omit<OverlayEvent, 'time' | 'about'> {
  /** Milliseconds since 1970. */
  readonly at: number
  readonly about: readonly string[]
}

/** Bounds of what is kept: with texts of usual length about 2 MB if every kind is full. */
export const MOST_OF_A_KIND = 200
const LONGEST_TEXT = 600
const MOST_NAMES = 16
const LONGEST_NAME = 80

/** The last events of one kind, as a ring. */
class Ring {
  total = 0
  /** Once the ring is full, its oldest event is at `total % MOST_OF_A_KIND`. */
  readonly kept: Kept[] = []
  /** When the last event that was overwritten had been recorded; milliseconds since 1970. */
  overwrittenAt = 0

  push(event: Kept): void {
    const place = this.total % MOST_OF_A_KIND
    this.overwrittenAt = this.kept[place]?.at ?? 0
    this.kept[place] = event
    this.total += 1
  }
}

export type EventListener = (event: OverlayEvent) => void

export class EventLog {
  #seq = 0
  readonly #rings = new Map<EventKind, Ring>()
  readonly #tallies = new Map<EventKind, Tally>()
  readonly #listeners = new Set<EventListener>()

  /** Records an event. Texts are cut to the bounds, and control characters are escaped. */
  record(level: EventLevel, text: string, { kind, about = [], errno, tally }: Happening): void {
    this.#seq += 1
    const event: Kept = {
      seq: this.#seq,
      at: Date.now(),
      level,
      kind,
      about: about.slice(0, MOST_NAMES).map((name) => shorten(printable(name), LONGEST_NAME)),
      ...(errno !== undefined && { errno }),
      text: shorten(printable(text), LONGEST_TEXT),
    }
    ringOf(this.#rings, kind).push(event)
    if (tally !== undefined) this.#count(kind, tally)
    for (const listener of this.#listeners) listener(asEvent(event))
  }

  /** The kept events, the oldest first. Before them one {@link lostEvents} for each kind that had more. */
  past(): OverlayEvent[] {
    const rings = [...this.#rings.values()]
    const kept = rings.flatMap((ring) => ring.kept).sort((a, b) => a.seq - b.seq)
    const lost = [...this.#rings].flatMap(([kind, { total, kept: rest, overwrittenAt }]) =>
      total === rest.length
        ? []
        : lostEvents(total - rest.length, `older ones of kind ${kind} are no longer kept`, overwrittenAt, [
            kind,
          ]),
    )
    return [...lost.sort((a, b) => a.time.localeCompare(b.time)), ...kept.map(asEvent)]
  }

  /**
   * Calls the listener for each event from now on. The listener must neither throw nor block.
   * @returns a function that ends it
   */
  follow(listener: EventListener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Number of events of the kind since the start, including those no longer kept. */
  count(kind: EventKind): number {
    return this.#rings.get(kind)?.total ?? 0
  }

  /** The sum of the tallies of all events of the kind, by label. */
  tally(kind: EventKind): Tally {
    return this.#tallies.get(kind) ?? new Tally()
  }

  #count(kind: EventKind, counts: Readonly<Record<string, number>>): void {
    const tally = this.tally(kind)
    this.#tallies.set(kind, tally)
    for (const [label, count] of Object.entries(counts)) tally.add(count, label)
  }
}

/** The event that stands for events a reader does not get; none if the count is 0. */
export function lostEvents(
  count: number,
  what: string,
  at = Date.now(),
  about: string[] = [],
): OverlayEvent[] {
  if (count === 0) return []
  const time = new Date(at).toISOString()
  return [{ seq: 0, time, level: 'warn', kind: EVENTS_LOST, about, text: `events: ${count} ${what}` }]
}

function ringOf(rings: Map<EventKind, Ring>, kind: EventKind): Ring {
  const known = rings.get(kind)
  if (known !== undefined) return known
  const ring = new Ring()
  rings.set(kind, ring)
  return ring
}

function asEvent({ at, about, ...event }: Kept): OverlayEvent {
  const { seq, ...rest } = event
  return { seq, time: new Date(at).toISOString(), ...rest, about: [...about] }
}

const shorten = (text: string, most: number): string =>
  text.length <= most ? text : `${text.slice(0, most - 3)}...`
