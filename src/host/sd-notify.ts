/**
 * Tells systemd what the service is doing (sd_notify(3)). The protocol is one datagram on a unix socket, which Node cannot send,
 * and the `systemd-notify` program would be another process with another PID; so libc is called.
 */
import { constants } from 'node:os'
import koffi from 'koffi'
import { OverlayError } from '../model/errors'

/** sys/socket.h, Linux. */
const AF_UNIX = 1
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0o2000000
const MSG_NOSIGNAL = 0x4000

/** struct sockaddr_un has room for a path of this many bytes (sys/un.h). */
const LONGEST_PATH = 108

interface Libc {
  socket(family: number, type: number, protocol: number): number
  sendto(fd: number, data: Buffer, size: number, flags: number, address: Buffer, addressSize: number): number
  close(fd: number): number
}

let loaded: Libc | undefined

function loadLibc(): Libc {
  const libc = koffi.load('libc.so.6')
  loaded ??= {
    socket: libc.func('int socket(int, int, int)'),
    // ssize_t is a long on Linux.
    sendto: libc.func('long sendto(int, const void*, size_t, int, const void*, unsigned int)'),
    close: libc.func('int close(int)'),
  }
  return loaded
}

/**
 * Sends states such as `READY=1`. Does nothing when systemd did not ask for it (no NOTIFY_SOCKET).
 * @returns whether there was someone to tell
 * @throws {OverlayError} `sd-notify` when the socket does not take it
 */
export function notifySystemd(states: readonly string[], socketPath = process.env['NOTIFY_SOCKET']): boolean {
  if (socketPath === undefined || socketPath === '') return false
  const address = socketAddress(socketPath)
  const libc = loaded ?? loadLibc()
  const fd = libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
  if (fd < 0) throw notifyError(socketPath, koffi.errno())
  try {
    const message = Buffer.from(states.join('\n'))
    const sent = libc.sendto(fd, message, message.length, MSG_NOSIGNAL, address, address.length)
    if (sent !== message.length) throw notifyError(socketPath, koffi.errno())
    return true
  } finally {
    libc.close(fd)
  }
}

/**
 * How often systemd wants a sign of life (sd_watchdog_enabled(3)).
 * @returns milliseconds after which it gives us up; `undefined` when it does not watch us
 */
export function watchdogMilliseconds(env: NodeJS.ProcessEnv = process.env): number | undefined {
  const microseconds = Number(env['WATCHDOG_USEC'])
  const watched = env['WATCHDOG_PID'] ?? String(process.pid)
  if (!(microseconds > 0) || watched !== String(process.pid)) return undefined
  return microseconds / 1000
}

/** struct sockaddr_un: the family in host order (all supported machines are little-endian), then the path. */
function socketAddress(path: string): Buffer {
  const name = Buffer.from(path)
  if (name.length >= LONGEST_PATH || (name[0] !== 0x2f && name[0] !== 0x40)) {
    throw new OverlayError(
      'sd-notify',
      `NOTIFY_SOCKET=${path} is neither an absolute path nor an abstract @name of less than ${LONGEST_PATH} bytes`,
    )
  }
  // A leading @ stands for the NUL of the abstract name space.
  if (name[0] === 0x40) name[0] = 0
  return Buffer.concat([Buffer.from(Uint16Array.of(AF_UNIX).buffer), name])
}

function notifyError(path: string, errno: number): OverlayError {
  const name = Object.entries(constants.errno).find(([, number]) => number === errno)?.[0] ?? `errno ${errno}`
  return new OverlayError('sd-notify', `systemd's socket ${path} does not take a notification: ${name}`)
}
