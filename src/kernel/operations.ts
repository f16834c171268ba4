/** Operations on the peers' objects as messages, and what counts as done. */
import { constants } from 'node:os'
import { describeOperation } from '../model/describe-operation'
import type { ObjectOperation } from '../model/kernel'
import { encodeDeleteForwarding, encodeSetForwarding } from './fdb'
import { encodeDeleteNeighbour, encodeSetNeighbour } from './neighbours'
import type { MessageWriter } from './netlink/bytes'
import type { RequestFormat } from './netlink/client'
import type { NetlinkError } from './netlink/errors'
import { encodeDeleteNexthop, encodeSetNexthop } from './nexthops'
import { encodeDeleteRoute, encodeSetRoute } from './routes'

/** How the operations on the link with that index are told to the kernel. */
export const objectFormat = (index: number): RequestFormat<ObjectOperation> => ({
  encode: (writer, operation) => encodeOperation(writer, index, operation),
  describe: describeOperation,
})

function encodeOperation(writer: MessageWriter, index: number, operation: ObjectOperation): void {
  switch (operation.kind) {
    case 'set-neighbour':
      encodeSetNeighbour(writer, index, operation)
      break
    case 'delete-neighbour':
      encodeDeleteNeighbour(writer, index, operation.address)
      break
    case 'set-fdb':
      encodeSetForwarding(writer, index, operation)
      break
    case 'delete-fdb':
      encodeDeleteForwarding(writer, index, operation)
      break
    case 'set-nexthop':
      encodeSetNexthop(writer, index, operation)
      break
    case 'delete-nexthop':
      encodeDeleteNexthop(writer, operation.id)
      break
    case 'set-route':
      encodeSetRoute(writer, index, operation)
      break
    case 'delete-route':
      encodeDeleteRoute(writer, index, operation.route)
      break
  }
}

/** What the kernel answers when the thing to delete, or the link it was on, is not there. */
const NOT_THERE: ReadonlySet<number> = new Set([
  constants.errno.ENOENT, // neighbour, forwarding entry, nexthop
  constants.errno.ESRCH, // route
  constants.errno.ENODEV, // link
  constants.errno.EADDRNOTAVAIL, // address
])

/** Deleting what is not there is no failure. */
export function isAlreadyGone(operation: { readonly kind: string }, error: NetlinkError): boolean {
  return operation.kind.startsWith('delete-') && NOT_THERE.has(error.errno)
}
