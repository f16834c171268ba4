/**
 * The calls of the C library that Node has no function for. One binding serves all of overlayd; koffi is
 * loaded on the first use, because it costs start-up time and memory.
 */
import { OverlayError } from '../model/errors'

// koffi declares its types for ES modules only; its CommonJS half has the same shape.
type Koffi = typeof import('koffi', { with: { 'resolution-mode': 'import' }})

/** struct sock_filter (linux/filter.h): an instruction of a classic BPF program. */
export interface FilterInstruction {
  readonly code: number
  readonly jt: number
  readonly jf: number
  readonly k: number
}

/** Each function is the system call of its name. A failure is -1; its number is {@link Libc.errno}. */
export interface Libc {
  socket(family: number, type: number, protocol: number): number
  bind(fd: number, address: Buffer, size: number): number
  connect(fd: number, address: Buffer, size: number): number
  sendto(fd: number, data: Buffer, size: number, flags: number, address: Buffer, addressSize: number): number
  /** @param addressSize an `int`: the size of `address`, and the size of the sender's after the call */
  recvfrom(
    fd: number,
    data: Buffer,
    size: number,
    flags: number,
    address: Buffer,
    addressSize: Buffer,
  ): number
  setsockopt(fd: number, level: number, option: number, value: Buffer, size: number): number
  /** @param size an `int`: the size of `value`, and the size of the answer after the call */
  getsockopt(fd: number, level: number, option: number, value: Buffer, size: Buffer): number
  close(fd: number): number
  /** setsockopt(2) with a value of struct sock_fprog (linux/filter.h), which holds a pointer. */
  setFilter(fd: number, level: number, option: number, program: readonly FilterInstruction[]): number
  /**
   * When the kernel received the datagram that was read last: ioctl(2) with SIOCGSTAMPNS. The first call for
   * a socket makes the kernel note the times.
   * @returns milliseconds of the wall clock since 1970, with fractions; `undefined` where there is no time
   */
  receivedAt(fd: number): number | undefined
  /** The wall clock of {@link receivedAt}: clock_gettime(2). Milliseconds since 1970, with fractions. */
  wallClock(): number
  /** The error number of the last call that failed. */
  errno(): number
}

/** asm-generic/sockios.h: SIOCGSTAMPNS_OLD, whose struct timespec has two longs. */
const SIOCGSTAMPNS = 0x8907
/** linux/time.h. */
const CLOCK_REALTIME = 0

let loaded: Libc | undefined

/**
 * The binding.
 * @throws {OverlayError} `no-ffi` when the native part of koffi cannot be loaded
 */
export function libc(): Libc {
  loaded ??= load()
  return loaded
}

function load(): Libc {
  const koffi = requireKoffi()
  // No path: the symbols of the running program, so glibc and musl alike.
  const library = koffi.load(null)
  const instruction = koffi.struct(null, { code: 'uint16_t', jt: 'uint8_t', jf: 'uint8_t', k: 'uint32_t' })
  const program = koffi.struct(null, { len: 'uint16_t', filter: koffi.pointer(instruction) })
  const attach = library.func('setsockopt', 'int', ['int', 'int', 'int', koffi.pointer(program), 'uint32_t'])
  const timespec = koffi.struct(null, { seconds: 'long', nanoseconds: 'long' })
  const written = koffi.out(koffi.pointer(timespec))
  const stamp = library.func('ioctl', 'int', ['int', 'unsigned long', written])
  const clock = library.func('clock_gettime', 'int', ['int', written])
  const time = { seconds: 0, nanoseconds: 0 }
  const milliseconds = (): number => time.seconds * 1000 + time.nanoseconds / 1e6
  return {
    socket: library.func('int socket(int, int, int)'),
    bind: library.func('int bind(int, const void *, uint32_t)'),
    connect: library.func('int connect(int, const void *, uint32_t)'),
    // ssize_t is a long on Linux.
    sendto: library.func('long sendto(int, const void *, size_t, int, const void *, uint32_t)'),
    recvfrom: library.func('long recvfrom(int, void *, size_t, int, void *, void *)'),
    setsockopt: library.func('int setsockopt(int, int, int, const void *, uint32_t)'),
    getsockopt: library.func('int getsockopt(int, int, int, void *, void *)'),
    close: library.func('int close(int)'),
    setFilter: (fd, level, option, instructions) =>
      attach(fd, level, option, { len: instructions.length, filter: instructions }, koffi.sizeof(program)),
    receivedAt: (fd) => (stamp(fd, SIOCGSTAMPNS, time) === 0 ? milliseconds() : undefined),
    wallClock: () => (clock(CLOCK_REALTIME, time) === 0 ? milliseconds() : Date.now()),
    errno: () => koffi.errno(),
  }
}

function requireKoffi(): Koffi {
  try {
    // Not an import: it would be loaded with this file.
    return require('koffi')
  } catch (cause) {
    throw new OverlayError(
      'no-ffi',
      'the native module koffi cannot be loaded, and netlink sockets are not safe without it',
      'install overlayd with the optional dependencies of this machine (npm install --include=optional)',
      { cause },
    )
  }
}
