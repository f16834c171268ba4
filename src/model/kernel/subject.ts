/**
 * The identity of everything that the daemon maintains in the kernel: objects of peers, the device, its
 * addresses, settings.
 */
import type { Family } from '../address'
import type { LinkOperation } from './link'
import { isKind, KINDS, type Kind, type ObjectId, type ObjectOperation } from './objects'
import { type RouteKey, routeKey } from './route'

/** A setting of the host or of one device, in words that follow "changes". */
export type Setting = `forwarding of ${Family}` | `rp_filter of ${string}` | `IPv6 of ${string}`

export type Subject =
  | ObjectId
  /** `key`: name of the device. */
  | { readonly kind: 'device'; readonly key: string }
  /** An interface address. `key`: the key that a route to the same prefix has. */
  | { readonly kind: 'address'; readonly key: RouteKey }
  | { readonly kind: 'setting'; readonly key: Setting }

/** The kinds of subjects that operations change. */
export const SUBJECT_KINDS: readonly ('device' | 'address' | Kind)[] = ['device', 'address', ...KINDS]

/** Whether the subject is an object of a peer, or one of the host that has the form of a peer's. */
export const isObjectId = (subject: Subject): subject is ObjectId => isKind(subject.kind)

export const isObjectOperation = (operation: LinkOperation | ObjectOperation): operation is ObjectOperation =>
  'do' in operation

/** What an operation changes. */
export function subjectOf(operation: LinkOperation | ObjectOperation): Subject {
  if (isObjectOperation(operation)) return operation
  switch (operation.kind) {
    case 'create-link':
    case 'create-wireguard':
      return { kind: 'device', key: operation.link.name }
    case 'delete-link':
    case 'change-link':
    case 'rename-link':
    case 'set-link-up':
      return { kind: 'device', key: operation.name }
    case 'add-address':
    case 'delete-address':
      return { kind: 'address', key: routeKey(operation.address) }
  }
}
