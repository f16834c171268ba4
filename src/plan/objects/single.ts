/** The half that kinds share whose objects have one entry each: a number or bigint, compared by value. */
import type { EntryOf, KeyOf, Kind, ObjectOperation, OperationOf, ValueOf } from '../../model/kernel/objects'
import type { Comparison, Objects, PlanKind } from './kind'

/** Kinds with one entry for each key. */
export type SingleKind = { [K in Kind]: ValueOf<K> extends EntryOf<K> ? K : never }[Kind]

/** @param line the object as people see it */
export function single<K extends SingleKind>(
  kind: K,
  line: (key: KeyOf<K>, value: ValueOf<K>) => string,
): Pick<PlanKind<K>, 'make' | 'remove' | 'remember' | 'same' | 'compare'> {
  return {
    make(desired, observed, operations) {
      for (const [key, value] of desired) {
        const current = observed.get(key)
        if (current !== value)
          operations.push({ do: 'set', kind, key, value, replace: current !== undefined } as ObjectOperation)
      }
    },
    remove(desired, observed, operations) {
      for (const [key, value] of observed) {
        if (!desired.has(key)) operations.push({ do: 'delete', kind, key, value } as ObjectOperation)
      }
    },
    remember(memory, { do: verb, key, value }: OperationOf<K>) {
      if (verb === 'set') memory.set(key, value)
      else memory.delete(key)
    },
    same: (a, b) => a === b,
    compare: (desired, observed) => compareWhole<K>(desired, observed, line, (a, b) => a === b),
  }
}

/** Compares objects of which all under a key is one line. */
export function* compareWhole<K extends Kind>(
  desired: Objects<K>,
  observed: Objects<K>,
  line: (key: KeyOf<K>, value: ValueOf<K>) => string,
  isSame: (a: ValueOf<K>, b: ValueOf<K>) => boolean,
): Generator<Comparison> {
  for (const [key, value] of desired) {
    const there = observed.get(key)
    const object = line(key, value)
    if (there === undefined) yield { object, state: 'missing' }
    else if (isSame(there, value)) yield { object, state: 'in-sync' }
    else yield { object, state: 'wrong', found: line(key, there) }
  }
  for (const [key, value] of observed) {
    if (!desired.has(key)) yield { object: line(key, value), state: 'extra' }
  }
}
