/**
 * How the kernel notifies changes of one kind: messages, groups, and the attributes that decide whether a
 * change matters.
 */
import { type IpAddress, type Ipv6, ipv4 } from '../../model/address'
import { HOST_LITTLE_ENDIAN } from '../netlink/bytes'
import { AF_INET } from '../netlink/constants'

export interface Notification {
  /** RTM_NEW*: made or changed. */
  readonly made: number
  /** RTM_DEL*; `undefined` for settings, which are never deleted. */
  readonly deleted: number | undefined
  /** RTNLGRP_* of the messages. */
  readonly groups: readonly number[]
  /** Offset of the interface index in the fixed header, or its attribute after a header of that size. */
  readonly index: { readonly at: number } | { readonly attribute: number; readonly after: number }
  /**
   * For kinds whose objects by others can be in the way of ours: the attribute with the place, after a header
   * of that size. A place is an address.
   */
  readonly place?: { readonly attribute: number; readonly after: number; readonly read: AddressReader }
  /**
   * Whether the header says whose request caused the message (nlmsg_pid). If not, our own changes are
   * recognized by their content: see `Echoes`.
   */
  readonly namesSender: boolean
}

/**
 * Reads an address from a payload.
 * @param family first byte of the message's body
 * @returns undefined if the payload is too short
 */
export type AddressReader = (view: DataView, at: number, end: number, family: number) => IpAddress | undefined

/** A number of 32 bits in the host's byte order; undefined if the message is too short. */
export const readU32 = (view: DataView, at: number, end: number): number | undefined =>
  at + 4 > end ? undefined : view.getUint32(at, HOST_LITTLE_ENDIAN)

/** An address of either family, in network order. */
export function readAddress(view: DataView, at: number, end: number, family: number): IpAddress | undefined {
  if (family === AF_INET) return at + 4 > end ? undefined : ipv4(view.getUint32(at))
  if (at + 16 > end) return undefined
  return ((view.getBigUint64(at) << 64n) | view.getBigUint64(at + 8)) as Ipv6
}
