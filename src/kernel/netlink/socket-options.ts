/** Socket options that the netlink library has no call for, set through libc on the descriptor. */
import { OverlayError } from '../../model/errors'
import { HOST_LITTLE_ENDIAN, viewOf } from './bytes'
import { SO_ATTACH_FILTER, SO_RCVBUF, SO_RCVBUFFORCE, SOL_SOCKET } from './constants'

/** setsockopt(2) and getsockopt(2) for options whose value is an `int`. */
export interface SocketOptions {
  /** @returns false when the kernel refuses */
  set(fd: number, level: number, option: number, value: number): boolean
  /** @returns undefined when the kernel refuses */
  get(fd: number, level: number, option: number): number | undefined
  /** Attaches a socket filter. @returns false when the kernel refuses */
  filter(fd: number, program: readonly FilterInstruction[]): boolean
}

/** struct sock_filter (linux/filter.h): an instruction of a classic BPF program. */
export interface FilterInstruction {
  readonly code: number
  readonly jt: number
  readonly jf: number
  readonly k: number
}

/** Bytes of a C int. */
const INT_SIZE = 4

/**
 * Binds the two calls of the C library this process already has.
 * @throws {OverlayError} `no-ffi` when the native part of koffi cannot be loaded
 */
export async function loadSocketOptions(): Promise<SocketOptions> {
  // koffi is typed as an ES module, which only a dynamic import can name here.
  const koffi = await import('koffi').catch((cause: unknown) => {
    throw new OverlayError(
      'no-ffi',
      'the native module koffi cannot be loaded, and netlink sockets are not safe without it',
      'install overlayd with the optional dependencies of this machine (npm install --include=optional)',
      { cause },
    )
  })
  // No path: the symbols of the running program, so glibc and musl alike.
  const libc = koffi.load(null)
  const setsockopt = libc.func('int setsockopt(int, int, int, const void *, uint32_t)')
  const getsockopt = libc.func('int getsockopt(int, int, int, void *, void *)')
  const instruction = koffi.struct(null, { code: 'uint16_t', jt: 'uint8_t', jf: 'uint8_t', k: 'uint32_t' })
  const program = koffi.struct(null, { len: 'uint16_t', filter: koffi.pointer(instruction) })
  const attach = libc.func('setsockopt', 'int', ['int', 'int', 'int', koffi.pointer(program), 'uint32_t'])
  return {
    filter(fd, instructions) {
      const value = { len: instructions.length, filter: instructions }
      const status: number = attach(fd, SOL_SOCKET, SO_ATTACH_FILTER, value, koffi.sizeof(program))
      return status === 0
    },
    set(fd, level, option, value) {
      const status: number = setsockopt(fd, level, option, intBytes(value), INT_SIZE)
      return status === 0
    },
    get(fd, level, option) {
      const value = intBytes(0)
      const status: number = getsockopt(fd, level, option, value, intBytes(INT_SIZE))
      return status === 0 ? viewOf(value).getInt32(0, HOST_LITTLE_ENDIAN) : undefined
    },
  }
}

/**
 * Sets an on/off option and reads it back.
 * @throws {OverlayError} `netlink-option` when it did not take
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
 * Asks for a receive queue of that many bytes: beyond net.core.rmem_max where we may (CAP_NET_ADMIN in the first user namespace), else as
 * much as that allows.
 * @returns what the kernel gives
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
 * Keeps notifications of what one socket changed from being queued at all. It only saves work: when the kernel refuses, they are delivered.
 * @param portId of the socket that makes the changes
 */
export function ignoreSender(options: SocketOptions, fd: number, portId: number): void {
  // A filter loads words in network order, and the port id stands there in the host's.
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
