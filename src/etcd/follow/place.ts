/** How far a follower has come in the history of etcd, and the transitions of that. Pure. */
import type { Revision } from '../../model/lease'

/** A point in the history of one cluster. */
export interface Position {
  readonly revision: Revision
  readonly clusterId: string
}

export type Place =
  /**
   * No watch can go on: a listing is next. `told` is the position that the consumer was told last, if any.
   */
  | { readonly kind: 'unlisted'; readonly told: Position | undefined }
  /** The consumer was told everything up to the position. A watch goes on from there. */
  | {
      readonly kind: 'at'
      readonly position: Position
      /** How many leases the last listing had. */
      readonly leases: number
      /** The revision that the present watch began at, or reported last. */
      readonly reported: Revision
      /** Whether the consumer was told that the connection is lost, and nothing since. */
      readonly isLost: boolean
    }

export type At = Extract<Place, { kind: 'at' }>

export const UNLISTED: Place = { kind: 'unlisted', told: undefined }

/** The position that the consumer was told last. */
export const toldOf = (place: Place): Position | undefined =>
  place.kind === 'at' ? place.position : place.told

/** Whether the one can be what became of the other: a later state of the same cluster. */
export const isSuccessor = (found: Position, known: Position): boolean =>
  found.clusterId === known.clusterId && found.revision >= known.revision

/**
 * The place after a listing, also beside a watch. `isReplaced`: the listing is no successor of what the
 * consumer was told.
 */
export function afterListing(
  place: Place,
  position: Position,
  leases: number,
): { readonly place: At; readonly isReplaced: boolean } {
  const told = toldOf(place)
  const reported = place.kind === 'at' ? place.reported : position.revision
  return {
    place: { kind: 'at', position, leases, reported, isLost: false },
    isReplaced: told !== undefined && !isSuccessor(position, told),
  }
}

/** The place of a new watch. */
export const beginWatch = (place: At): At => ({ ...place, reported: place.position.revision })

/** The place after the watch has reported a revision, of which the consumer may know more from a listing. */
export const afterReport = (place: At, revision: Revision): At =>
  revision > place.reported ? { ...place, reported: revision } : place

/** The place after everything up to a revision was told. */
export const moveTo = (place: At, revision: Revision): At => ({
  ...place,
  position: { ...place.position, revision },
})

/** The place after the consumer was told events. */
export const afterEvents = (place: At): At => (place.isLost ? { ...place, isLost: false } : place)

/**
 * The place after the connection was lost.
 * @param isResumable whether the history may well be whole, so that a watch can go on
 */
export function afterLoss(place: Place, isResumable: boolean): Place {
  if (place.kind === 'at' && isResumable) return { ...place, isLost: true }
  return { kind: 'unlisted', told: toldOf(place) }
}
