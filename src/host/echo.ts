/**
 * ICMP echo messages as a ping socket takes and gives them (icmp(7): SOCK_DGRAM with IPPROTO_ICMP, RFC 792
 * and RFC 4443). The kernel writes identifier and checksum, and lets only answers to this socket in.
 */
import type { Family } from '../model/address'

/** Bytes of the ICMP header: type, code, checksum, identifier, sequence number. */
const HEADER = 8
/** Bytes of the payload that are read back: the token of the run, and the number of the message. */
const PAYLOAD = 8
/** Bytes of the IP header without options (RFC 791, RFC 8200). */
const IP_HEADER: Readonly<Record<Family, number>> = { IPv4: 20, IPv6: 40 }
/** Types of echo request and echo reply: RFC 792, RFC 4443. */
const TYPES: Readonly<Record<Family, { readonly request: number; readonly reply: number }>> = {
  IPv4: { request: 8, reply: 0 },
  IPv6: { request: 128, reply: 129 },
}

/** The smallest request, as bytes of the whole IP packet. */
export const leastEcho = (family: Family): number => IP_HEADER[family] + HEADER + PAYLOAD

/** What a request says, and its answer repeats. */
export interface Echo {
  /** Unsigned 32 bits, random for each run: an answer to another program is told by it. */
  readonly token: number
  /** Unsigned 32 bits. Its lower 16 are the sequence number. */
  readonly id: number
}

/**
 * A request.
 * @param size bytes of the whole IP packet; {@link leastEcho} at least
 */
export function encodeEcho(family: Family, { token, id }: Echo, size: number): Buffer {
  const message = Buffer.alloc(Math.max(size, leastEcho(family)) - IP_HEADER[family])
  message[0] = TYPES[family].request
  message.writeUInt16BE(id & 0xffff, 6)
  message.writeUInt32BE(token, HEADER)
  message.writeUInt32BE(id, HEADER + 4)
  return message
}

/** Reads a message; `undefined` if it is no answer to {@link encodeEcho}. */
export function decodeEcho(family: Family, message: Uint8Array): Echo | undefined {
  if (message.length < HEADER + PAYLOAD) return undefined
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength)
  const id = view.getUint32(HEADER + 4)
  const isAnswer = view.getUint8(0) === TYPES[family].reply && view.getUint8(1) === 0
  if (!isAnswer || view.getUint16(6) !== (id & 0xffff)) return undefined
  return { token: view.getUint32(HEADER), id }
}
