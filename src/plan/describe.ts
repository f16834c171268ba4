import { formatIpv4, formatIpv4Prefix, formatMac } from '../model/address'
import type { LinkOperation, ObjectOperation } from '../model/kernel'

/** An operation as a person would say it; equal operations have equal texts. */
export function describeOperation(operation: LinkOperation | ObjectOperation): string {
  switch (operation.kind) {
    case 'create-link':
      return `create device ${operation.link.name} with ${formatMac(operation.link.mac)}`
    case 'delete-link':
      return `delete device ${operation.name}`
    case 'change-link':
      return `correct device ${operation.name}`
    case 'set-link-up':
      return `bring device ${operation.name} up`
    case 'add-address':
      return `add address ${formatIpv4Prefix(operation.address)}`
    case 'delete-address':
      return `delete address ${formatIpv4Prefix(operation.address)}`
    case 'set-neighbour':
      return `set neighbour ${formatIpv4(operation.address)} to ${formatMac(operation.mac)}`
    case 'delete-neighbour':
      return `delete neighbour ${formatIpv4(operation.address)}`
    case 'set-fdb':
      return `set FDB entry ${formatMac(operation.mac)} to ${formatIpv4(operation.destination)}`
    case 'delete-fdb':
      return `delete FDB entry ${formatMac(operation.mac)} to ${formatIpv4(operation.destination)}`
    case 'set-nexthop':
      return `set nexthop ${operation.id} to ${formatIpv4(operation.gateway)}`
    case 'delete-nexthop':
      return `delete nexthop ${operation.id}`
    case 'set-route':
      return `set route ${formatIpv4Prefix(operation.route.destination)}`
    case 'delete-route':
      return `delete route ${formatIpv4Prefix(operation.route.destination)}`
  }
}
