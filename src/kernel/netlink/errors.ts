/** Failures between us and the kernel, each with its own code. */
import { constants } from 'node:os'
import { getSystemErrorMap } from 'node:util'
import { OverlayError } from '../../model/errors'

const ERRNO_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.errno).map(([name, number]) => [number, name]),
)

/** The kernel refused a request. */
export class NetlinkError extends OverlayError {
  /** Name of the errno, such as `EEXIST`; `errno 524` for one that libc does not know. */
  readonly errnoName: string

  /**
   * @param errno positive number
   * @param attempted the action as text that follows "cannot": `add route 10.5.1.0/24`
   * @param detail the kernel's own message (NLMSGERR_ATTR_MSG), if it sent one
   */
  constructor(
    readonly errno: number,
    readonly attempted: string,
    readonly detail?: string,
  ) {
    const name = ERRNO_NAMES.get(errno) ?? `errno ${errno}`
    const reason = detail ?? getSystemErrorMap().get(-errno)?.[1]
    super('netlink-refused', `cannot ${attempted}: ${reason === undefined ? name : `${reason} (${name})`}`)
    this.errnoName = name
  }
}

/** Bytes that are not a netlink message, or an attribute whose size its type does not allow. */
export class MalformedMessageError extends OverlayError {
  constructor(problem: string) {
    super('netlink-malformed', `malformed netlink message: ${problem}`)
  }
}

/** The kernel did not answer in time. The request may have been carried out nevertheless. */
export class NetlinkTimeoutError extends OverlayError {
  constructor(attempted: string, milliseconds: number) {
    super('netlink-timeout', `cannot ${attempted}: the kernel did not answer within ${milliseconds} ms`)
  }
}

/** A dump that was never consistent, because the objects kept changing. */
export class DumpInterruptedError extends OverlayError {
  constructor(attempted: string, attempts: number) {
    super(
      'netlink-dump-interrupted',
      `cannot ${attempted}: the kernel's tables changed during each of ${attempts} tries`,
    )
  }
}

/** The socket was closed, by us or by a failure, before or during the request. */
export class NetlinkClosedError extends OverlayError {
  constructor(attempted: string) {
    super('netlink-closed', `cannot ${attempted}: the netlink socket is closed`)
  }
}
