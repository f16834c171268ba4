/**
 * The kernel's verdict on a request: NLMSG_ERROR (also used as acknowledgement), or the end of a dump,
 * NLMSG_DONE.
 */
import {
  ATTRIBUTE_HEADER_SIZE,
  align,
  HOST_LITTLE_ENDIAN,
  MESSAGE_HEADER_SIZE,
  type MessageCursor,
} from './bytes'
import { findAttribute } from './codec'
import { NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSGERR_ATTR_MSG } from './constants'
import { MalformedMessageError } from './errors'
import { text } from './layout'

export interface Verdict {
  /** Positive; 0 is success. */
  readonly errno: number
  /** The kernel's own message, if it sent one. */
  readonly detail: string | undefined
}

/** Bytes of the `int` that both messages begin with. */
const ERRNO_SIZE = 4

/**
 * Reads an NLMSG_ERROR: struct nlmsgerr (linux/netlink.h), which is an errno and the request's header; then
 * the rest of the request, if it failed and is not capped; then attributes.
 * @throws {MalformedMessageError}
 */
export function readError(cursor: MessageCursor): Verdict {
  const { view, start, end, flags } = cursor
  if (end - start < ERRNO_SIZE + MESSAGE_HEADER_SIZE)
    throw new MalformedMessageError('an error reply is cut short')
  const errno = -view.getInt32(start, HOST_LITTLE_ENDIAN)
  if ((flags & NLM_F_ACK_TLVS) === 0) return { errno: errno || 0, detail: undefined }
  const echoed =
    errno === 0 || (flags & NLM_F_CAPPED) !== 0
      ? MESSAGE_HEADER_SIZE
      : Math.max(view.getUint32(start + ERRNO_SIZE, HOST_LITTLE_ENDIAN), MESSAGE_HEADER_SIZE)
  if (echoed > end - start) throw new MalformedMessageError('an error reply echoes more than it holds')
  return { errno: errno || 0, detail: readDetail(view, start + ERRNO_SIZE + align(echoed), end) }
}

/**
 * Reads an NLMSG_DONE: the errno that the dump ended with, then attributes.
 * @throws {MalformedMessageError}
 */
export function readDone(cursor: MessageCursor): Verdict {
  const { view, start, end, flags } = cursor
  if (end - start < ERRNO_SIZE) throw new MalformedMessageError('the end of a dump is cut short')
  const errno = Math.max(-view.getInt32(start, HOST_LITTLE_ENDIAN), 0)
  const detail = (flags & NLM_F_ACK_TLVS) === 0 ? undefined : readDetail(view, start + ERRNO_SIZE, end)
  return { errno, detail }
}

function readDetail(view: DataView, start: number, end: number): string | undefined {
  const at = findAttribute(view, start, end, NLMSGERR_ATTR_MSG)
  if (at === -1) return undefined
  const payload = at + ATTRIBUTE_HEADER_SIZE
  const length = view.getUint16(at, HOST_LITTLE_ENDIAN) - ATTRIBUTE_HEADER_SIZE
  return text.read(view, payload, length, 'message')
}
