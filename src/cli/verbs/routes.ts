/** `overlayctl routes`: the objects of the overlay in the kernel, compared with the desired ones. */

import type { RoutesDocument } from '../../api/documents'
import type { Status } from '../../api/status'
import { OBJECT_STATES, type ObjectState } from '../../api/words'
import { readDaemon } from '../../client/daemon-socket'
import type { Options } from '../../options/schema'
import { UsageError } from '../../options/usage-error'
import type { ComparedObject } from '../../plan/reconcile/compare'
import { compareLocally, type LocalComparison, worstFirst } from '../ask/local-objects'
import { EXIT } from '../exit'
import { type Output, printDocument } from '../show/output'
import { renderRoutes } from '../show/render-routes'
import { screenOf } from '../show/screen'
import { whyPeersUnknown } from '../show/unknown'
import { readStatus } from './status'

export interface RoutesFlags {
  readonly output: Output
  /** Comma list; empty for all. */
  readonly state: string
  /** A part of an object's line; empty for all. */
  readonly match: string
}

/**
 * Prints the objects.
 * @returns the exit code: 1 when a desired object is missing or wrong, or when an undesired one exists
 */
export async function runRoutes(options: Options, { output, state, match }: RoutesFlags): Promise<number> {
  const states = readStates(state)
  const all = await readRoutes(options)
  const objects = all.objects
    .filter((each) => states.length === 0 || states.includes(each.state))
    .filter(({ object, found = '' }) => object.includes(match) || found.includes(match))
  const document: RoutesDocument = { ...all, objects }
  printDocument(document, output, (wide) => renderRoutes(document, screenOf(), wide))
  if (all.unknown !== undefined) return EXIT.unreachable
  const isBad = all.objects.some(
    (each) => each.state === 'missing' || each.state === 'wrong' || each.state === 'extra',
  )
  return isBad ? EXIT.degraded : EXIT.healthy
}

/** All objects, the worst first. */
export async function readRoutes(options: Options): Promise<RoutesDocument> {
  // Of a daemon's peers none are needed: the daemon compares by itself.
  const status = await readStatus(options, true)
  const unknown = whyPeersUnknown(status)
  const compared = await compare(options, status)
  const objects = worstFirst(compared.objects).map((each) =>
    // Where the peers are not known, an object may well be desired.
    unknown !== undefined && each.state === 'extra' ? { ...each, state: 'unknown' as const } : each,
  )
  return {
    schema: 1,
    daemonRunning: status.daemon.running,
    ...(unknown !== undefined && { unknown }),
    ...(compared.unprobed.length > 0 && { unprobed: [...compared.unprobed] }),
    counts: countStates(objects),
    objects,
  }
}

function readStates(text: string): readonly ObjectState[] {
  const names = text.split(',').flatMap((name) => name.trim() || [])
  const isState = (name: string): name is ObjectState => (OBJECT_STATES as readonly string[]).includes(name)
  const unknown = names.find((name) => !isState(name))
  if (unknown === undefined) return names.filter(isState)
  throw new UsageError(
    `--state is ${JSON.stringify(unknown)}, and no object is ever in that state`,
    `the states are ${OBJECT_STATES.join(', ')}`,
  )
}

function countStates(objects: readonly ComparedObject[]): RoutesDocument['counts'] {
  const counts: RoutesDocument['counts'] = {}
  for (const { state } of objects) counts[state] = (counts[state] ?? 0) + 1
  return counts
}

/** A daemon with a network compares by its own decisions; else the decisions follow from the status. */
async function compare(options: Options, status: Status): Promise<LocalComparison> {
  const hasDesired = status.daemon.running && status.network !== undefined
  if (!hasDesired) return compareLocally(options, status)
  const told = await readDaemon(options['run-dir'], 'objects')
  // The daemon has ended meanwhile, and the status at hand has only some of the peers.
  if (told === undefined) return compareLocally(options, await readStatus(options))
  return { objects: told.objects, unprobed: [] }
}
