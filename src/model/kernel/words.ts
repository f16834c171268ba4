/** Operations and what they change, in words for people. No code reads these words again. */
import { formatIp, formatMac, formatPrefix } from '../address'
import type { LinkOperation, LinkSpec } from './link'
import {
  type ForwardingTarget,
  isUnknownTarget,
  type KeyOf,
  type Kind,
  type ObjectOperation,
  type OperationOf,
  type ProxyKey,
} from './objects'
import { type Route, type RouteTarget, routePrefix, type SharedMember } from './route'
import { isObjectId, isObjectOperation, type Subject } from './subject'

interface KindWords<K extends Kind> {
  /** `routes` */
  readonly plural: string
  /** The object, whatever is done with it: `the route to 10.5.2.0/24`. */
  object(key: KeyOf<K>): string
  /** What is done, to follow "cannot": `add the route to 10.5.2.0/24 via 10.5.2.0 proto 79`. */
  operation(operation: OperationOf<K>): string
}

const WORDS: { readonly [K in Kind]: KindWords<K> } = {
  neighbour: {
    plural: 'neighbours',
    object: (key) => `the neighbour ${formatIp(key)}`,
    operation: (operation) =>
      operation.do === 'set'
        ? `set neighbour ${formatIp(operation.key)} to ${formatMac(operation.value)}`
        : `delete neighbour ${formatIp(operation.key)}`,
  },
  fdb: {
    plural: 'FDB entries',
    object: (key) => `the FDB entry of ${formatMac(key)}`,
    operation({ do: verb, key, value }) {
      if (verb === 'set') return `set the FDB entry of ${formatMac(key)} to ${describeTarget(value)}`
      return isUnknownTarget(value)
        ? `delete the FDB entry of ${formatMac(key)}, which is unlike ours`
        : `delete the FDB entry of ${formatMac(key)} to ${describeTarget(value)}`
    },
  },
  nexthop: {
    plural: 'nexthops',
    object: (key) => `the nexthop ${key}`,
    operation: (operation) =>
      operation.do === 'set'
        ? `${operation.replace ? 'replace' : 'add'} nexthop ${operation.key} via ${formatIp(operation.value)}`
        : `delete nexthop ${operation.key}`,
  },
  route: {
    plural: 'routes',
    object: (key) => `the route to ${formatPrefix(routePrefix(key))}`,
    operation(operation) {
      const verb = operation.do === 'delete' ? 'delete' : operation.replace ? 'replace' : 'add'
      return `${verb} the route to ${describeRoute(operation.value)}`
    },
  },
  proxy: {
    plural: 'proxy neighbours',
    object: (key) => `the proxy neighbour ${describeProxy(key)}`,
    operation: ({ do: verb, key }) =>
      `${verb === 'set' ? 'add' : 'delete'} the proxy neighbour ${describeProxy(key)}`,
  },
}

/** `10.5.240.7 on interface 7` */
export function describeProxy(key: ProxyKey): string {
  const [link = '', address = ''] = key.split(' ')
  return `${address} on interface ${link}`
}

/** Where a forwarding entry leads: `192.0.2.2`, or `192.0.2.2 via link 7`. */
export const describeTarget = ({ address, via }: ForwardingTarget): string =>
  via === 0 ? formatIp(address) : `${formatIp(address)} via link ${via}`

/** Objects of a kind, to follow a number: `routes`. */
export const pluralOf = (kind: Kind): string => WORDS[kind].plural

/** What a change is about, in words that follow "changes": `the route to 10.5.2.0/24`. */
export function describeSubject(subject: Subject): string {
  if (isObjectId(subject)) return describeId(subject)
  switch (subject.kind) {
    case 'device':
      return `the device ${subject.key}`
    case 'address':
      return `the address ${formatPrefix(routePrefix(subject.key))}`
    case 'setting':
      return subject.key
  }
}

const describeId = <K extends Kind>({ kind, key }: { readonly kind: K; readonly key: KeyOf<K> }): string =>
  WORDS[kind].object(key)

/** An operation in words that follow "cannot": `set neighbour 10.5.2.0 to 02:..`. */
export function describeOperation(operation: LinkOperation | ObjectOperation): string {
  return isObjectOperation(operation) ? describeObjectOperation(operation) : describeLinkOperation(operation)
}

const describeObjectOperation = <K extends Kind>(operation: OperationOf<K>): string =>
  WORDS[operation.kind].operation(operation)

function describeLinkOperation(operation: LinkOperation): string {
  switch (operation.kind) {
    case 'create-link':
      return `create the VXLAN device ${operation.link.name} with ${describeLinkSpec(operation.link)}`
    case 'create-wireguard':
      return `create the WireGuard device ${operation.link.name} with MTU ${operation.link.mtu}`
    case 'delete-link':
      return `delete the device ${operation.name}`
    case 'change-link':
      return `correct the device ${operation.name} (${describeLinkChange(operation)})`
    case 'rename-link':
      return `give the device ${operation.name} its name back`
    case 'set-link-up':
      return `bring the device ${operation.name} up`
    case 'add-address':
      return `add the address ${formatPrefix(operation.address)}`
    case 'delete-address':
      return `delete the address ${formatPrefix(operation.address)}`
  }
}

function describeLinkSpec({ mac, mtu, vni, port, local, parent, learning, gbp }: LinkSpec): string {
  return [
    formatMac(mac),
    `MTU ${mtu}`,
    `VNI ${vni}`,
    ...(port === undefined ? [] : [`port ${port}`]),
    `sending from ${formatIp(local)} over interface ${parent}`,
    ...(learning ? ['learning'] : []),
    ...(gbp ? ['GBP'] : []),
  ].join(', ')
}

/** The attributes that are set, by name: the reader of a refusal has to know which ones were refused. */
function describeLinkChange({
  mac,
  mtu,
  learning,
  local,
  parent,
  detach,
}: Extract<LinkOperation, { kind: 'change-link' }>): string {
  const words = [
    mac !== undefined && `MAC ${formatMac(mac)}`,
    mtu !== undefined && `MTU ${mtu}`,
    learning !== undefined && `learning ${learning ? 'on' : 'off'}`,
    local !== undefined && `sending from ${formatIp(local)}`,
    parent !== undefined && `over interface ${parent}`,
    detach && 'out of its bridge or bond',
  ]
  return words.filter((word) => typeof word === 'string').join(', ')
}

/** A route in words: `10.5.2.0/24 via 10.5.2.0 proto 79`. */
export function describeRoute({ destination, metric, tos, protocol, target, mtu }: Route): string {
  const words = [formatPrefix(destination)]
  words.push(...describeRouteTarget(target))
  if (metric !== 0) words.push(`metric ${metric}`)
  if (tos !== 0) words.push(`tos ${tos}`)
  if (mtu !== 0) words.push(`mtu ${mtu}`)
  return [...words, `proto ${protocol}`].join(' ')
}

function describeRouteTarget(target: RouteTarget): string[] {
  switch (target.kind) {
    case 'nexthop':
      return [`through nexthop ${target.id}`]
    case 'gateway':
      return [`via ${formatIp(target.gateway)}`, ...(target.onlink ? [] : ['not onlink'])]
    case 'direct':
      return [`via ${formatIp(target.gateway)} on interface ${target.link}`]
    case 'link':
      return [`on interface ${target.link}`]
    case 'blackhole':
      return ['to nowhere']
    case 'shared':
      return [target.members.map(describeMember).join(' or ')]
    case 'other':
      return []
  }
}

const describeMember = ({ target, weight }: SharedMember): string =>
  [...describeRouteTarget(target), ...(weight === 1 ? [] : [`weight ${weight}`])].join(' ')
