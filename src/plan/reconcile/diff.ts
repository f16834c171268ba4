/**
 * From the objects that are there to those that should be, in an order that never removes what carries
 * traffic before its successor is there: neighbour, FDB, nexthop, route; then removals in the opposite order.
 */
import {
  type KernelObjects,
  KINDS,
  KINDS_REVERSED,
  type Kind,
  type ObjectMemory,
  type ObjectOperation,
  type OperationOf,
} from '../../model/kernel/objects'
import { PLAN } from '../objects'

/** The changes that make the objects on our device what they should be. */
export function diffObjects(desired: KernelObjects, observed: KernelObjects): ObjectOperation[] {
  const operations: ObjectOperation[] = []
  for (const kind of KINDS) make(kind, desired, observed, operations)
  for (const kind of KINDS_REVERSED) remove(kind, desired, observed, operations)
  return operations
}

const make = <K extends Kind>(
  kind: K,
  desired: KernelObjects,
  observed: KernelObjects,
  operations: ObjectOperation[],
): void => PLAN[kind].make(desired[kind], observed[kind], operations)

const remove = <K extends Kind>(
  kind: K,
  desired: KernelObjects,
  observed: KernelObjects,
  operations: ObjectOperation[],
): void => PLAN[kind].remove(desired[kind], observed[kind], operations)

/** Changes the memory as the kernel changes when the operation succeeds. */
export const applyOperation = (memory: ObjectMemory, operation: ObjectOperation): void =>
  remember(memory, operation)

const remember = <K extends Kind>(memory: ObjectMemory, operation: OperationOf<K>): void =>
  PLAN[operation.kind].remember(memory[operation.kind], operation)
