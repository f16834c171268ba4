/**
 * Netlink messages as bytes: a writer that packs many messages into one growing buffer, and a cursor over the
 * messages of a datagram. Both know only the frame: `struct nlmsghdr` (linux/netlink.h), followed by
 * attributes of a 16-bit length, a 16-bit type and a payload, each padded to four bytes. Numbers are in host
 * byte order.
 */
import { endianness } from 'node:os'
import { MalformedMessageError } from './errors'

/** The host's byte order, as a DataView argument. */
export const HOST_LITTLE_ENDIAN = endianness() === 'LE'

/** sizeof(struct nlmsghdr) */
export const MESSAGE_HEADER_SIZE = 16
/** sizeof(struct nlattr) */
export const ATTRIBUTE_HEADER_SIZE = 4

/** The next multiple of four (NLMSG_ALIGN, NLA_ALIGN). */
export const align = (size: number): number => (size + 3) & ~3

/** A view of a buffer's bytes; no copy. */
export const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** Packs messages one after another. A length is filled in when its message or nest ends. */
export class MessageWriter {
  /** View for setting payloads. It is replaced when the buffer grows, so never keep it. */
  view: DataView
  private bytes: Buffer
  private end = 0
  private messageStart = 0

  constructor(capacity = 8192) {
    this.bytes = Buffer.alloc(capacity)
    this.view = viewOf(this.bytes)
  }

  /** Number of bytes written. */
  get length(): number {
    return this.end
  }

  /** Discards the content and keeps the memory. */
  reset(): void {
    this.end = 0
  }

  /** Discards the content and overwrites the memory, as far as it was not replaced by a larger one. */
  wipe(): void {
    this.bytes.fill(0)
    this.end = 0
  }

  /** Starts a message. Sequence number and sender stay 0 until {@link stamp}. */
  begin(type: number, flags: number): void {
    const start = this.reserve(MESSAGE_HEADER_SIZE)
    this.messageStart = start
    this.view.setUint16(start + 4, type, HOST_LITTLE_ENDIAN)
    this.view.setUint16(start + 6, flags, HOST_LITTLE_ENDIAN)
  }

  /** Ends the message and fills in its length. */
  finish(): void {
    this.view.setUint32(this.messageStart, this.end - this.messageStart, HOST_LITTLE_ENDIAN)
  }

  /**
   * Completes the header of the last message.
   * @param sequence sequence number, which the answer will carry
   * @param flags flags to add, such as NLM_F_ACK
   */
  stamp(sequence: number, flags: number): void {
    const at = this.messageStart + 6
    this.view.setUint16(at, this.view.getUint16(at, HOST_LITTLE_ENDIAN) | flags, HOST_LITTLE_ENDIAN)
    this.view.setUint32(this.messageStart + 8, sequence, HOST_LITTLE_ENDIAN)
  }

  /**
   * Reserves a zeroed block, padded to four bytes.
   * @returns its offset in {@link view}
   */
  reserve(size: number): number {
    const start = this.end
    const end = start + align(size)
    if (end > this.bytes.length) this.grow(end)
    // Word by word: for so few bytes, Buffer.fill costs more than all the rest.
    for (let at = start; at < end; at += 4) this.view.setUint32(at, 0)
    this.end = end
    return start
  }

  /**
   * Writes an attribute's header and reserves `size` bytes for its payload.
   * @returns the payload's offset in {@link view}
   */
  attribute(type: number, size: number): number {
    const start = this.reserve(ATTRIBUTE_HEADER_SIZE + size)
    this.view.setUint16(start, ATTRIBUTE_HEADER_SIZE + size, HOST_LITTLE_ENDIAN)
    this.view.setUint16(start + 2, type, HOST_LITTLE_ENDIAN)
    return start + ATTRIBUTE_HEADER_SIZE
  }

  /**
   * Ends an attribute that contains everything written since its payload began.
   * @throws {RangeError} if that is more than the 16 bits of its length can say
   */
  closeNest(payload: number): void {
    const start = payload - ATTRIBUTE_HEADER_SIZE
    if (this.end - start > 0xffff) throw new RangeError(`an attribute of ${this.end - start} bytes`)
    this.view.setUint16(start, this.end - start, HOST_LITTLE_ENDIAN)
  }

  /** Writes text at an offset of the view; the space must be reserved. */
  text(at: number, text: string): void {
    this.bytes.write(text, at, 'utf8')
  }

  /** A copy of the content. The socket may keep it until the kernel has received it. */
  take(): Buffer {
    return Buffer.from(this.bytes.subarray(0, this.end))
  }

  private grow(needed: number): void {
    const larger = Buffer.alloc(Math.max(needed, this.bytes.length * 2))
    this.bytes.copy(larger, 0, 0, this.end)
    this.bytes = larger
    this.view = viewOf(larger)
  }
}

/** Iterates over the messages of one datagram. The fields describe the current message. */
export class MessageCursor {
  type = 0
  flags = 0
  sequence = 0
  /** Port id of the socket whose request caused the message; 0 for the kernel. */
  portId = 0
  /** Offsets in {@link view} of the message's body, after the header. */
  start = 0
  end = 0
  readonly view: DataView
  private position = 0

  constructor(datagram: Uint8Array) {
    this.view = viewOf(datagram)
  }

  /**
   * Goes to the next message.
   * @returns false at the end of the datagram
   * @throws {MalformedMessageError} if a header, or the length it states, exceeds the datagram
   */
  next(): boolean {
    const { view, position } = this
    const rest = view.byteLength - position
    if (rest <= 0) return false
    if (rest < MESSAGE_HEADER_SIZE)
      throw new MalformedMessageError(`${rest} bytes are left where a header begins`)
    const length = view.getUint32(position, HOST_LITTLE_ENDIAN)
    if (length < MESSAGE_HEADER_SIZE || length > rest) {
      throw new MalformedMessageError(`a message says it has ${length} bytes, the datagram has ${rest}`)
    }
    this.type = view.getUint16(position + 4, HOST_LITTLE_ENDIAN)
    this.flags = view.getUint16(position + 6, HOST_LITTLE_ENDIAN)
    this.sequence = view.getUint32(position + 8, HOST_LITTLE_ENDIAN)
    this.portId = view.getUint32(position + 12, HOST_LITTLE_ENDIAN)
    this.start = position + MESSAGE_HEADER_SIZE
    this.end = position + length
    this.position = position + align(length)
    return true
  }
}
