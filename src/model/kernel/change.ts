/** Hints of the kernel that something has changed. */
import type { Family } from '../address'
import type { Kind } from './objects'

/** The object that a hint is about. */
export type ChangeKind = 'link' | 'address' | 'settings' | Kind

/** A hint that something has changed; overlayd's own changes give no hints. */
export type KernelChange =
  | {
      /**
       * `neighbour` includes forwarding entries: the kernel notifies about both with the same messages.
       * `settings` are sysctls such as forwarding.
       */
      readonly kind: ChangeKind
      /**
       * `undefined` if the message names no single link: a route over several links or none, a setting of the
       * host.
       */
      readonly linkIndex: number | undefined
      readonly deleted: boolean
      /**
       * For addresses, routes, nexthops and neighbours. `undefined` if both families may be concerned, as
       * with forwarding entries.
       */
      readonly family?: Family
      /** Set if the object is on a link that is not ours, but may conflict with an object of ours. */
      readonly inOurPlace?: true
    }
  /** Notifications were lost: anything may have changed. */
  | { readonly kind: 'overrun' }
