/**
 * Notifies systemd of the service's state (sd_notify(3)). The protocol is one datagram on a unix socket. Node
 * cannot send one, and the program `systemd-notify` would send it with another PID; so this module calls
 * libc.
 */
import { constants } from 'node:os'
import { OverlayError } from '../model/errors'
import { printable } from '../model/printable'
import { libc } from '../native/libc'

/** sys/socket.h, Linux. */
const AF_UNIX = 1
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0o2000000
const MSG_NOSIGNAL = 0x4000

/** struct sockaddr_un has room for a path of this many bytes (sys/un.h). */
const LONGEST_PATH = 108

/**
 * Characters. systemd drops a datagram longer than a page (NOTIFY_BUFFER_MAX), and with it a READY=1 inside.
 */
const LONGEST_STATE = 800

/**
 * Sends states such as `READY=1`, one per line. Line ends within a state are replaced, because a line end
 * separates states in the protocol. Does nothing if systemd did not ask for notifications (no NOTIFY_SOCKET).
 * @returns whether a notification was sent
 * @throws {OverlayError} `sd-notify` if the socket does not accept it
 */
export function notifySystemd(states: readonly string[], socketPath = process.env['NOTIFY_SOCKET']): boolean {
  if (socketPath === undefined || socketPath === '') return false
  const address = socketAddress(socketPath)
  const { socket, sendto, close, errno } = libc()
  const fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
  if (fd < 0) throw notifyError(socketPath, errno())
  try {
    const message = Buffer.from(states.map((state) => printable(state).slice(0, LONGEST_STATE)).join('\n'))
    const sent = sendto(fd, message, message.length, MSG_NOSIGNAL, address, address.length)
    if (sent !== message.length) throw notifyError(socketPath, errno())
    return true
  } finally {
    close(fd)
  }
}

/**
 * The watchdog interval that systemd expects (sd_watchdog_enabled(3)).
 * @returns milliseconds without a sign of life after which systemd kills the service; `undefined` without
 *   watchdog
 */
export function watchdogMilliseconds(env: NodeJS.ProcessEnv = process.env): number | undefined {
  const microseconds = Number(env['WATCHDOG_USEC'])
  const watched = env['WATCHDOG_PID'] ?? String(process.pid)
  if (!(microseconds > 0) || watched !== String(process.pid)) return undefined
  return microseconds / 1000
}

/**
 * struct sockaddr_un: the family in host byte order (all supported machines are little-endian), then the
 * path.
 */
function socketAddress(path: string): Buffer {
  const name = Buffer.from(path)
  if (name.length >= LONGEST_PATH || (name[0] !== 0x2f && name[0] !== 0x40)) {
    throw new OverlayError(
      'sd-notify',
      `NOTIFY_SOCKET=${path} is neither an absolute path nor an abstract @name ` +
        `of less than ${LONGEST_PATH} bytes`,
    )
  }
  // A leading @ stands for the NUL byte of the abstract namespace.
  if (name[0] === 0x40) name[0] = 0
  return Buffer.concat([Buffer.from(Uint16Array.of(AF_UNIX).buffer), name])
}

function notifyError(path: string, errno: number): OverlayError {
  const name = Object.entries(constants.errno).find(([, number]) => number === errno)?.[0] ?? `errno ${errno}`
  return new OverlayError('sd-notify', `systemd's socket ${path} refuses a notification: ${name}`)
}
