/** One kind of object at the kernel edge. Each kind has a file here; `index.ts` has the table of all. */
import type { Family, Prefix } from '../../model/address'
import type { KeyOf, Kind, OperationOf, ValueOf } from '../../model/kernel/objects'
import type { Notification } from '../events/notification'
import type { MessageWriter } from '../netlink/bytes'
import type { Question } from '../netlink/client'

/** Places besides our link where objects of ours may be. */
export interface Elsewhere {
  /** Our network. */
  readonly network: Prefix | undefined
  /** Ranges outside of the network that routes of ours may lead to; absent for none. */
  readonly allowed?: readonly Prefix[]
  /** Whether routes of our protocol into the network are read wherever they lead. */
  readonly routes: boolean
  /** Whether proxy neighbours of our protocol in these ranges are read; absent for no. */
  readonly proxies?: boolean
  /**
   * Links whose routes and nexthops are read, so that they can be replaced in place: devices that ours
   * succeeds.
   */
  readonly links: readonly number[]
}

/** One reading of all objects of one family on one link. */
export interface Reading {
  dump<T>(question: Question<T>): Promise<T[]>
  readonly family: Family
  readonly link: number
  readonly elsewhere: Elsewhere
  /** Whether routes of this family go through nexthop objects. */
  readonly usesNexthops: boolean
}

export interface KernelKind<K extends Kind> {
  /**
   * Reads all objects of the kind.
   * @throws {NetlinkError} ENODEV when there is no such link
   */
  read(reading: Reading): Promise<Map<KeyOf<K>, ValueOf<K>>>
  /**
   * Appends exactly one message, with NLM_F_REQUEST.
   * @param link index of our device
   */
  encode(writer: MessageWriter, link: number, operation: OperationOf<K>): void
  /** Two kinds with the same messages have the same notification; it is announced as the first kind. */
  readonly notification: Notification
}
