/** Socket options that the netlink library cannot set. They are set through libc on the descriptor. */
import { OverlayError } from '../../model/errors'
import { type FilterInstruction, libc } from '../../native/libc'
import { HOST_LITTLE_ENDIAN, viewOf } from './bytes'
import { SO_ATTACH_FILTER, SO_RCVBUF, SO_RCVBUFFORCE, SOL_SOCKET } from './constants'

/** setsockopt(2) and getsockopt(2) for options whose value is an `int`. */
export interface SocketOptions {
  /** @returns false if the kernel refuses */
  set(fd: number, level: number, option: number, value: number): boolean
  /** @returns undefined if the kernel refuses */
  get(fd: number, level: number, option: number): number | undefined
  /** Attaches a socket filter. @returns false if the kernel refuses */
  filter(fd: number, program: readonly FilterInstruction[]): boolean
}

/** Bytes of a C int. */
const INT_SIZE = 4

/**
 * The socket options of the C library that this process has loaded.
 * @throws {OverlayError} `no-ffi` if the native part of koffi cannot be loaded
 */
export function socketOptions(): SocketOptions {
  const { setsockopt, getsockopt, setFilter } = libc()
  return {
    filter: (fd, program) => setFilter(fd, SOL_SOCKET, SO_ATTACH_FILTER, program) === 0,
    set: (fd, level, option, value) => setsockopt(fd, level, option, intBytes(value), INT_SIZE) === 0,
    get(fd, level, option) {
      const value = intBytes(0)
      const status = getsockopt(fd, level, option, value, intBytes(INT_SIZE))
      return status === 0 ? viewOf(value).getInt32(0, HOST_LITTLE_ENDIAN) : undefined
    },
  }
}

/**
 * Sets an on/off option and reads it back.
 * @throws {OverlayError} `netlink-option` if it was not set
 */
export function enableOption(
  options: SocketOptions,
  fd: number,
  level: number,
  option: number,
  name: string,
): void {
  if (options.set(fd, level, option, 1) && options.get(fd, level, option) === 1) return
  throw new OverlayError(
    'netlink-option',
    `the kernel does not accept the socket option ${name}`,
    'use Linux 4.20 or newer',
  )
}

/**
 * Requests a receive queue of that many bytes: beyond net.core.rmem_max if allowed (CAP_NET_ADMIN in the
 * initial user namespace), else up to it.
 * @returns the size that the kernel granted
 */
export function growReceiveBuffer(options: SocketOptions, fd: number, size: number): number {
  if (!options.set(fd, SOL_SOCKET, SO_RCVBUFFORCE, size)) options.set(fd, SOL_SOCKET, SO_RCVBUF, size)
  return options.get(fd, SOL_SOCKET, SO_RCVBUF) ?? 0
}

/** Offset of nlmsg_pid in struct nlmsghdr. */
const PORT_ID_AT = 12
/** Opcodes of linux/bpf_common.h. */
const LOAD_WORD = 0x20 // BPF_LD | BPF_W | BPF_ABS
const JUMP_IF_EQUAL = 0x15 // BPF_JMP | BPF_JEQ | BPF_K
const RETURN = 0x06 // BPF_RET | BPF_K
const WHOLE_MESSAGE = 0xffffffff

/**
 * Prevents notifications about one socket's changes from being queued. This only saves work: if the kernel
 * refuses the filter, they are delivered.
 * @param portId port id of the socket that makes the changes
 */
export function ignoreSender(options: SocketOptions, fd: number, portId: number): void {
  // A filter loads words in network byte order; the port id is stored in host byte order.
  const loaded = viewOf(intBytes(portId | 0)).getUint32(0)
  options.filter(fd, [
    { code: LOAD_WORD, jt: 0, jf: 0, k: PORT_ID_AT },
    { code: JUMP_IF_EQUAL, jt: 0, jf: 1, k: loaded },
    { code: RETURN, jt: 0, jf: 0, k: 0 },
    { code: RETURN, jt: 0, jf: 0, k: WHOLE_MESSAGE },
  ])
}

function intBytes(value: number): Buffer {
  const bytes = Buffer.alloc(INT_SIZE)
  viewOf(bytes).setInt32(0, value, HOST_LITTLE_ENDIAN)
  return bytes
}
