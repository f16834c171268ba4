/** Operations on the peers' objects as messages, in words, and what counts as done. */
import { constants } from 'node:os'
import { formatIpv4, formatIpv4Prefix, formatMac } from '../model/address'
import type { ObjectOperation, Route } from '../model/kernel'
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

/** What an operation does, to follow "cannot": `set the route to 10.5.1.0/24 through nexthop 7`. */
export function describeOperation(operation: ObjectOperation): string {
  switch (operation.kind) {
    case 'set-neighbour':
      return `set neighbour ${formatIpv4(operation.address)} to ${formatMac(operation.mac)}`
    case 'delete-neighbour':
      return `delete neighbour ${formatIpv4(operation.address)}`
    case 'set-fdb':
      return `set the forwarding entry of ${formatMac(operation.mac)} to ${formatIpv4(operation.destination)}`
    case 'delete-fdb':
      return `delete the forwarding entry of ${formatMac(operation.mac)} to ${formatIpv4(operation.destination)}`
    case 'set-nexthop':
      return `${operation.replace ? 'replace' : 'add'} nexthop ${operation.id} via ${formatIpv4(operation.gateway)}`
    case 'delete-nexthop':
      return `delete nexthop ${operation.id}`
    case 'set-route':
      return `${operation.replace ? 'replace' : 'add'} the route to ${describeRoute(operation.route)}`
    case 'delete-route':
      return `delete the route to ${describeRoute(operation.route)}`
  }
}

function describeRoute({ destination, metric, target }: Route): string {
  const words = [formatIpv4Prefix(destination)]
  if (target.kind === 'nexthop') words.push(`through nexthop ${target.id}`)
  if (target.kind === 'gateway') words.push(`via ${formatIpv4(target.gateway)}`)
  if (metric !== 0) words.push(`with metric ${metric}`)
  return words.join(' ')
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
