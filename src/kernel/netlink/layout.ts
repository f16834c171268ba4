/**
 * The building blocks of message tables: numbers, addresses, text, flags and nested attributes. Each
 * describes the memory layout of its value. `codec.ts` combines them, and the TypeScript types of messages
 * are inferred from them.
 */
import {
  formatIp,
  formatMac,
  type IpAddress,
  type Ipv4,
  type Ipv6,
  ipv4,
  type MacAddress,
  mac,
} from '../../model/address'
import { HOST_LITTLE_ENDIAN, type MessageWriter } from './bytes'
import { MalformedMessageError } from './errors'

/** A value that an attribute can contain. */
export interface Payload<T> {
  /** Writes a whole attribute with this type number. */
  write(writer: MessageWriter, type: number, value: T): void
  /**
   * Reads a payload of `length` bytes at `at`, which is within the view.
   * @param name the attribute's name, for the error
   * @returns undefined to treat the attribute as absent
   * @throws {MalformedMessageError} if a value of this kind cannot have that length
   */
  read(view: DataView, at: number, length: number, name: string): T | undefined
  /** The value for people, where `String(value)` is none. */
  text?(value: T): string
}

/** A value of fixed size, which a fixed header can contain too. */
export interface Scalar<T> extends Payload<T> {
  /** Bytes. */
  readonly size: number
  get(view: DataView, at: number): T
  set(view: DataView, at: number, value: T): void
}

/** Makes a value of fixed size. `get` and `set` stay within that many bytes. */
export function scalar<T>(
  size: number,
  get: (view: DataView, at: number) => T,
  set: (view: DataView, at: number, value: T) => void,
  text?: (value: T) => string,
): Scalar<T> {
  return {
    ...(text && { text }),
    size,
    get,
    set,
    write(writer, type, value) {
      // In this order, because reserving space may replace the view.
      const at = writer.attribute(type, size)
      set(writer.view, at, value)
    },
    read(view, at, length, name) {
      if (length !== size) throw wrongSize(name, length, `${size}`)
      return get(view, at)
    },
  }
}

function wrongSize(name: string, length: number, wanted: string): MalformedMessageError {
  return new MalformedMessageError(`attribute ${name} has ${length} bytes where ${wanted} are wanted`)
}

export const u8 = scalar<number>(
  1,
  (view, at) => view.getUint8(at),
  (view, at, value) => view.setUint8(at, value),
)

export const u16 = scalar<number>(
  2,
  (view, at) => view.getUint16(at, HOST_LITTLE_ENDIAN),
  (view, at, value) => view.setUint16(at, value, HOST_LITTLE_ENDIAN),
)

export const u32 = scalar<number>(
  4,
  (view, at) => view.getUint32(at, HOST_LITTLE_ENDIAN),
  (view, at, value) => view.setUint32(at, value, HOST_LITTLE_ENDIAN),
)

/** 64 bits, for counts that a double represents exactly. */
export const u64 = scalar<number>(
  8,
  (view, at) => Number(view.getBigUint64(at, HOST_LITTLE_ENDIAN)),
  (view, at, value) => view.setBigUint64(at, BigInt(value), HOST_LITTLE_ENDIAN),
)

/** Signed: declared as `int` by the kernel, for example an interface index. */
export const s32 = scalar<number>(
  4,
  (view, at) => view.getInt32(at, HOST_LITTLE_ENDIAN),
  (view, at, value) => view.setInt32(at, value, HOST_LITTLE_ENDIAN),
)

/** 16 bits in network byte order, for example a UDP port. */
export const be16 = scalar<number>(
  2,
  (view, at) => view.getUint16(at),
  (view, at, value) => view.setUint16(at, value),
)

/** An attribute of one byte that is 0 or 1. */
export const bool = scalar<boolean>(
  1,
  (view, at) => view.getUint8(at) !== 0,
  (view, at, value) => view.setUint8(at, value ? 1 : 0),
)

export const ipv4Address = scalar<Ipv4>(
  4,
  (view, at) => ipv4(view.getUint32(at)),
  (view, at, value) => view.setUint32(at, value),
  formatIp,
)

export const ipv6Address = scalar<Ipv6>(
  16,
  (view, at) => ((view.getBigUint64(at) << 64n) | view.getBigUint64(at + 8)) as Ipv6,
  (view, at, value) => {
    view.setBigUint64(at, value >> 64n)
    view.setBigUint64(at + 8, BigInt.asUintN(64, value))
  },
  formatIp,
)

/** An address whose family follows from its size; absent for any other size. */
export const ipAddress: Payload<IpAddress> = {
  text: formatIp,
  write(writer, type, value) {
    if (typeof value === 'number') ipv4Address.write(writer, type, value)
    else ipv6Address.write(writer, type, value)
  },
  read(view, at, length) {
    if (length === ipv4Address.size) return ipv4Address.get(view, at)
    return length === ipv6Address.size ? ipv6Address.get(view, at) : undefined
  },
}

export const macAddress = scalar<MacAddress>(
  6,
  (view, at) => mac(view.getUint16(at) * 2 ** 32 + view.getUint32(at + 2)),
  (view, at, value) => {
    view.setUint16(at, Math.floor(value / 2 ** 32))
    view.setUint32(at + 2, value % 2 ** 32)
  },
  formatMac,
)

/**
 * For an attribute whose size depends on something else, as a link-layer address depends on the kind of link:
 * read if the size fits, absent otherwise.
 */
export function ifSized<T>(payload: Scalar<T>): Payload<T> {
  return {
    ...(payload.text && { text: payload.text }),
    write: payload.write,
    read: (view, at, length) => (length === payload.size ? payload.get(view, at) : undefined),
  }
}

/** Text up to the first null byte or the end of the payload. Written with a final null byte. */
export const text: Payload<string> = {
  write(writer, type, value) {
    const at = writer.attribute(type, Buffer.byteLength(value) + 1)
    writer.text(at, value)
  },
  read(view, at, length) {
    const bytes = Buffer.from(view.buffer, view.byteOffset + at, length)
    const end = bytes.indexOf(0)
    return bytes.toString('utf8', 0, end === -1 ? length : end)
  },
}

/** An attribute without payload: true if present. False writes nothing. */
export const flag: Payload<boolean> = {
  write(writer, type, value) {
    if (value) writer.attribute(type, 0)
  },
  read(_view, _at, length, name) {
    if (length !== 0) throw wrongSize(name, length, 'none')
    return true
  },
}

/** An attribute of which only the presence matters; never written. */
export const present: Payload<true> = {
  write() {
    throw new TypeError('an attribute that is only looked for cannot be written')
  },
  read: () => true,
}
