/**
 * With peers from a state file, which may be older than the objects in the kernel, objects are only added.
 */
import {
  type KernelObjects,
  type KeyOf,
  type Kind,
  objectsOf,
  type ValueOf,
} from '../../model/kernel/objects'
import { PLAN } from '../objects'
import type { Objects } from '../objects/kind'

/**
 * The observed objects, and the wanted ones of other identities: the diff with it only adds objects, and
 * replaces those that are outdated whatever etcd says.
 */
export const keepObserved = (desired: KernelObjects, observed: KernelObjects): KernelObjects =>
  objectsOf((kind) => merge(kind, desired[kind], observed[kind]))

function merge<K extends Kind>(
  kind: K,
  desired: Objects<K>,
  observed: Objects<K>,
): Map<KeyOf<K>, ValueOf<K>> {
  const { isOutdated } = PLAN[kind]
  const kept = new Map(desired)
  for (const [key, value] of observed) {
    const wanted = isOutdated === undefined ? undefined : desired.get(key)
    if (wanted === undefined || isOutdated?.(value, wanted) !== true) kept.set(key, value)
  }
  return kept
}
