import { formatIp, formatMac, formatPrefix } from './address'
import type { LinkOperation, ObjectOperation, Route } from './kernel'

/** An operation in words that follow "cannot": `set neighbour 10.5.2.0 to 02:..`. Different operations on objects have different words. */
export function describeOperation(operation: LinkOperation | ObjectOperation): string {
  switch (operation.kind) {
    case 'create-link':
      return `create the VXLAN device ${operation.link.name} with ${formatMac(operation.link.mac)}`
    case 'delete-link':
      return `delete the device ${operation.name}`
    case 'change-link':
      return `correct the device ${operation.name}`
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
      return `delete the FDB entry of ${formatMac(operation.mac)} to ${formatIp(operation.destination)}`
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

function describeRoute({ destination, metric, tos, protocol, target }: Route): string {
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
