/**
 * Netlink messages as bytes: a writer that packs many of them into one growing buffer, and a cursor that walks over those of a datagram.
 * Both know the frame only: `struct nlmsghdr` (linux/netlink.h), then attributes of a 16-bit length, a 16-bit type and a payload, each
 * padded to four bytes. Numbers are in the host's byte order.
 */
import { endianness } from 'node:os'
import { MalformedMessageError } from './errors'

/** The host's byte order, as DataView wants it. */
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

/** Packs messages one after another. Lengths are filled in when a message or a nest ends. */
export class MessageWriter {
  /** Where payloads are set; a new one after the buffer grew, so never keep it. */
  view: DataView
  private bytes: Buffer
  private end = 0
  private messageStart = 0

  constructor(capacity = 8192) {
    this.bytes = Buffer.alloc(capacity)
    this.view = viewOf(this.bytes)
  }

  /** Bytes written. */
  get length(): number {
    return this.end
  }

  /** Forgets what was written and keeps the memory. */
  reset(): void {
    this.end = 0
  }

  /** Starts a message; sequence number and sender stay 0 until {@link stamp}. */
  begin(type: number, flags: number): void {
    const start = this.reserve(MESSAGE_HEADER_SIZE)
    this.messageStart = start
    this.view.setUint16(start + 4, type, HOST_LITTLE_ENDIAN)
    this.view.setUint16(start + 6, flags, HOST_LITTLE_ENDIAN)
  }

  /** Ends the message: its length is known now. */
  finish(): void {
    this.view.setUint32(this.messageStart, this.end - this.messageStart, HOST_LITTLE_ENDIAN)
  }

  /**
   * Completes the header of the message that was written last.
   * @param sequence the number its answer will carry
   * @param flags flags to add, such as NLM_F_ACK
   */
  stamp(sequence: number, flags: number): void {
    const at = this.messageStart + 6
    this.view.setUint16(at, this.view.getUint16(at, HOST_LITTLE_ENDIAN) | flags, HOST_LITTLE_ENDIAN)
    this.view.setUint32(this.messageStart + 8, sequence, HOST_LITTLE_ENDIAN)
  }

  /**
   * Makes room for a zeroed block, padded to four bytes.
   * @returns its offset in {@link view}
   */
  reserve(size: number): number {
    const start = this.end
    const end = start + align(size)
    if (end > this.bytes.length) this.grow(end)
    // Word by word: for these few bytes Buffer.fill costs more than all the rest.
    for (let at = start; at < end; at += 4) this.view.setUint32(at, 0)
    this.end = end
    return start
  }

  /**
   * Writes an attribute's header and makes room for its payload of `size` bytes.
   * @returns the payload's offset in {@link view}
   */
  attribute(type: number, size: number): number {
    const start = this.reserve(ATTRIBUTE_HEADER_SIZE + size)
    this.view.setUint16(start, ATTRIBUTE_HEADER_SIZE + size, HOST_LITTLE_ENDIAN)
    this.view.setUint16(start + 2, type, HOST_LITTLE_ENDIAN)
    return start + ATTRIBUTE_HEADER_SIZE
  }

  /** Ends an attribute that holds all that was written since its payload began. */
  closeNest(payload: number): void {
    const start = payload - ATTRIBUTE_HEADER_SIZE
    this.view.setUint16(start, this.end - start, HOST_LITTLE_ENDIAN)
  }

  /** Writes text at an offset of the view; the room must have been reserved. */
  text(at: number, text: string): void {
    this.bytes.write(text, at, 'utf8')
  }

  /** A copy of what was written: the socket may keep it until the kernel has taken it. */
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

/** Walks over the messages of one datagram; its fields are those of the current message. */
export class MessageCursor {
  type = 0
  flags = 0
  sequence = 0
  /** Port id of the socket whose request caused the message; 0 is the kernel itself. */
  portId = 0
  /** Offsets in {@link view} of the message's body: what follows the header. */
  start = 0
  end = 0
  readonly view: DataView
  private position = 0

  constructor(datagram: Uint8Array) {
    this.view = viewOf(datagram)
  }

  /**
   * Steps to the next message.
   * @returns false at the datagram's end
   * @throws {MalformedMessageError} when a header or what it announces is not all there
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
