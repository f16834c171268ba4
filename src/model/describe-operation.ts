import { formatIp, formatMac, formatPrefix } from './address'
import { type LinkOperation, type ObjectOperation, ODD_DESTINATION, type Route } from './kernel'

/** An operation in words that follow "cannot": `set neighbour 10.5.2.0 to 02:..`. Different operations on objects have different words. */
export function describeOperation(operation: LinkOperation | ObjectOperation): string {
  switch (operation.kind) {
    case 'create-link':
      return `create the VXLAN device ${operation.link.name} with ${formatMac(operation.link.mac)}`
    case 'delete-link':
      return `delete the device ${operation.name}`
    case 'change-link':
      return `correct the device ${operation.name}`
    case 'rename-link':
      return `give the device ${operation.name} its name back`
    case 'set-link-up':
      return `bring the device ${operation.name} up`
    case 'add-address':
      return `add the address ${formatPrefix(operation.address)}`
    case 'delete-address':
      return `delete the address ${formatPrefix(operation.address)}`
    case 'set-neighbour':
      return `set neighbour ${formatIp(operation.address)} to ${formatMac(operation.mac)}`
    case 'delete-neighbour':
      return `delete neighbour ${formatIp(operation.address)}`
    case 'set-fdb':
      return `set the FDB entry of ${formatMac(operation.mac)} to ${formatIp(operation.destination)}`
    case 'delete-fdb':
      return operation.destination === ODD_DESTINATION
        ? `delete the FDB entry of ${formatMac(operation.mac)}, which is unlike ours`
        : `delete the FDB entry of ${formatMac(operation.mac)} to ${formatIp(operation.destination)}`
    case 'set-nexthop':
      return `${operation.replace ? 'replace' : 'add'} nexthop ${operation.id} via ${formatIp(operation.gateway)}`
    case 'delete-nexthop':
      return `delete nexthop ${operation.id}`
    case 'set-route':
      return `${operation.replace ? 'replace' : 'add'} the route to ${describeRoute(operation.route)}`
    case 'delete-route':
      return `delete the route to ${describeRoute(operation.route)}`
  }
}

/** What an operation changes, in words that are the same for all changes of it: `the route to 10.5.2.0/24`. */
export function describeObject(operation: LinkOperation | ObjectOperation): string {
  switch (operation.kind) {
    case 'create-link':
      return `the device ${operation.link.name}`
    case 'delete-link':
    case 'change-link':
    case 'rename-link':
    case 'set-link-up':
      return `the device ${operation.name}`
    case 'add-address':
    case 'delete-address':
      return `the address ${formatPrefix(operation.address)}`
    case 'set-neighbour':
    case 'delete-neighbour':
      return `the neighbour ${formatIp(operation.address)}`
    case 'set-fdb':
    case 'delete-fdb':
      return `the FDB entry of ${formatMac(operation.mac)}`
    case 'set-nexthop':
    case 'delete-nexthop':
      return `the nexthop ${operation.id}`
    case 'set-route':
    case 'delete-route':
      return `the route to ${formatPrefix(operation.route.destination)}`
  }
}

/** What kinds of objects there are of ours in the kernel. */
export const OBJECT_KINDS = ['device', 'address', 'neighbour', 'fdb', 'nexthop', 'route'] as const

type ObjectKind = (typeof OBJECT_KINDS)[number]

/** What kind of object an operation changes. */
export function objectKind({ kind }: LinkOperation | ObjectOperation): ObjectKind {
  switch (kind) {
    case 'create-link':
    case 'delete-link':
    case 'change-link':
    case 'rename-link':
    case 'set-link-up':
      return 'device'
    case 'add-address':
    case 'delete-address':
      return 'address'
    case 'set-neighbour':
    case 'delete-neighbour':
      return 'neighbour'
    case 'set-fdb':
    case 'delete-fdb':
      return 'fdb'
    case 'set-nexthop':
    case 'delete-nexthop':
      return 'nexthop'
    case 'set-route':
    case 'delete-route':
      return 'route'
  }
}

/** Whether it changes what a peer has on a device, and not the device. */
export function isObjectOperation(operation: LinkOperation | ObjectOperation): operation is ObjectOperation {
  return !['device', 'address'].includes(objectKind(operation))
}

/** A route in words: `10.5.2.0/24 via 10.5.2.0 proto 79`. */
export function describeRoute({ destination, metric, tos, protocol, target }: Route): string {
  const words = [formatPrefix(destination)]
  if (target.kind === 'nexthop') words.push(`through nexthop ${target.id}`)
  if (target.kind === 'gateway') words.push(`via ${formatIp(target.gateway)}`)
  if (target.kind === 'gateway' && !target.onlink) words.push('not onlink')
  if (target.kind === 'direct') words.push(`via ${formatIp(target.gateway)} on interface ${target.link}`)
  if (target.kind === 'blackhole') words.push('to nowhere')
  if (metric !== 0) words.push(`metric ${metric}`)
  if (tos !== 0) words.push(`tos ${tos}`)
  return [...words, `proto ${protocol}`].join(' ')
}
