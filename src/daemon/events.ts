/**
 * What happened, for whoever asks: each line of the log that is worth it says its kind besides, and is kept here for a while. The last ones of
 * each kind, so that ten thousand joins take the place of older joins and of nothing else.
 */
import { z } from 'zod'
import { Tally } from './meters'
import { printable } from './printable'

/** All there are. Within one version of the program a kind is never renamed, only added. */
export const EVENT_KINDS = [
  'started',
  'ready',
  'stopping',
  'peer-joined',
  'peer-left',
  'peer-changed',
  'peer-rejected',
  'peer-accepted',
  'peers-held',
  'peers-let-go',
  'kernel-repair',
  'kernel-contest',
  'kernel-refusal',
  'kernel-retry',
  'kernel-overrun',
  'device-change',
  'device-problem',
  'etcd-connected',
  'etcd-lost',
  'etcd-compacted',
  'etcd-listed',
  'lease-taken',
  'lease-changed',
  'lease-renewal-problem',
  'lease-renewed-again',
  'lease-lost',
  'lease-none-free',
  'lease-regained',
  'lease-conflict',
  'lease-drained',
  'lease-undrained',
  'config-change',
  'config-problem',
  'underlay-change',
  'underlay-problem',
  'firewall-change',
  'firewall-repair',
  'firewall-problem',
  'forwarding-repair',
  'multicast-on',
  'multicast-off',
  'multicast-flooding',
  'multicast-selective',
  'multicast-problem',
  'state-in-use',
  'state-problem',
] as const

export type EventKind = (typeof EVENT_KINDS)[number]

/** No event, but that there were more of them. */
export const EVENTS_LOST = 'events-lost'

export const EVENT_LEVELS = ['error', 'warn', 'info', 'debug'] as const
export type EventLevel = (typeof EVENT_LEVELS)[number]

/** What a line of the log says, for those who cannot read. */
export interface Happening {
  readonly kind: EventKind
  /** Names under which it is found: a peer's subnet and PublicIP, an object of the kernel's. */
  readonly about?: readonly string[]
  /** Name of the kernel's refusal: `EEXIST`. */
  readonly errno?: string | undefined
  /** Label -> how many, of a line that tells of several. */
  readonly tally?: Readonly<Record<string, number>>
}

/** One event as the control socket tells it: a line of JSON. Fields are only added. */
export const eventSchema = z.object({
  /** Counts all events of this run of the daemon from 1; 0 for `events-lost`, which tells of others. */
  seq: z.int().min(0),
  /** Wall clock. */
  time: z.iso.datetime(),
  level: z.enum(EVENT_LEVELS),
  kind: z.enum([...EVENT_KINDS, EVENTS_LOST]),
  about: z.array(z.string()),
  errno: z.string().optional(),
  text: z.string(),
})

export type OverlayEvent = z.infer<typeof eventSchema>

/** The same as it is kept. */
interface Kept extends Omit<OverlayEvent, 'time' | 'about'> {
  /** Milliseconds since 1970. */
  readonly at: number
  readonly about: readonly string[]
}

/** Bounds for what is kept: with texts of a usual length about 2 MB if every kind were full. */
export const MOST_OF_A_KIND = 200
const LONGEST_TEXT = 600
const MOST_NAMES = 16
const LONGEST_NAME = 80

/** The last events of one kind. */
class Ring {
  total = 0
  /** Full, its oldest is at `total % MOST_OF_A_KIND`. */
  readonly kept: Kept[] = []
  /** When the last of those that are no more was told. */
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

  /** Takes in what happened; texts are cut where they are too long, and lose their control characters. */
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
    for (const listener of this.#listeners) listener(told(event))
  }

  /** What is kept, the oldest first; before it, of each kind that had more, how many those were. */
  past(): OverlayEvent[] {
    const rings = [...this.#rings.values()]
    const kept = rings.flatMap((ring) => ring.kept).sort((a, b) => a.seq - b.seq)
    const lost = [...this.#rings].flatMap(([kind, { total, kept: rest, overwrittenAt }]) =>
      total === rest.length
        ? []
        : lostEvents(total - rest.length, `older ones of kind ${kind} are no more`, overwrittenAt, [kind]),
    )
    return [...lost.sort((a, b) => a.time.localeCompare(b.time)), ...kept.map(told)]
  }

  /**
   * Tells each event as it happens. The listener must neither throw nor wait.
   * @returns ends it
   */
  follow(listener: EventListener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** How many of that kind there have been, those no longer kept included. */
  count(kind: EventKind): number {
    return this.#rings.get(kind)?.total ?? 0
  }

  /** What all events of that kind together told to have happened, by label. */
  tally(kind: EventKind): Tally {
    return this.#tallies.get(kind) ?? new Tally()
  }

  #count(kind: EventKind, counts: Readonly<Record<string, number>>): void {
    const tally = this.tally(kind)
    this.#tallies.set(kind, tally)
    for (const [label, count] of Object.entries(counts)) tally.add(count, label)
  }
}

/** That there were more than are told. */
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

function told({ at, about, ...event }: Kept): OverlayEvent {
  const { seq, ...rest } = event
  return { seq, time: new Date(at).toISOString(), ...rest, about: [...about] }
}

const shorten = (text: string, most: number): string =>
  text.length <= most ? text : `${text.slice(0, most - 3)}...`
