/**
 * Refusals of the kernel, in terms that do not need netlink: the reason as a code, and the name of the errno.
 */
import { constants } from 'node:os'
import { isNativeError } from 'node:util/types'
import type { FailureCause, ObjectOperation, OperationFailure } from '../model/kernel/objects'
import type { BatchFailure } from './netlink/client'
import { NetlinkError } from './netlink/errors'

/** The kernel's answers when the object, or the link that it was on, is not there. */
const NOT_THERE: ReadonlySet<number> = new Set([
  constants.errno.ENOENT, // neighbour, forwarding entry, nexthop
  constants.errno.ESRCH, // route
  constants.errno.ENODEV, // link
  constants.errno.EADDRNOTAVAIL, // address
])

export function causeOf({ errno }: NetlinkError): FailureCause {
  if (errno === constants.errno.EEXIST) return 'taken'
  return NOT_THERE.has(errno) ? 'gone' : 'refused'
}

/** What is left to do: a deletion of an object that is not there is done. */
export const failuresOf = (refused: readonly BatchFailure<ObjectOperation>[]): OperationFailure[] =>
  refused
    .map(({ item, error }) => ({ operation: item, error, cause: causeOf(error), errno: errnoOf(error) }))
    .filter(({ operation, cause }) => operation.do === 'set' || cause !== 'gone')

/**
 * The name of the errno with which the kernel refused, such as `EEXIST`, or `errno-524` for one without a
 * name. Errors that explain a refusal have the refusal as their cause.
 */
export function errnoOf(error: unknown): string | undefined {
  if (error instanceof NetlinkError) return error.errnoName.replace(' ', '-')
  return isNativeError(error) ? errnoOf(error.cause) : undefined
}
