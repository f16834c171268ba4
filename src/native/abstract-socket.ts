/**
 * Abstract unix sockets (unix(7)): earlier versions of overlayd locked a device by binding such a name. The
 * names have no owner: any process of the network namespace may bind one. So a taken name counts only if the
 * process behind it belongs to us or to root.
 */
import { readFileSync } from 'node:fs'
import { libc } from './libc'

/** sys/socket.h, Linux. */
const AF_UNIX = 1
const SOCK_STREAM = 1
const SOCK_NONBLOCK = 0o4000
const SOCK_CLOEXEC = 0o2000000
const SOL_SOCKET = 1
const SO_PEERCRED = 17
/** sizeof(sun_path). libuv before 1.48 pads an abstract name to this length; later versions do not pad. */
const PATH_SIZE = 108
/** sizeof(struct ucred): pid, uid, gid. */
const CREDENTIALS_SIZE = 12

/** The two addresses a name has had: unpadded and padded. */
function addresses(name: string): Buffer[] {
  const exact = Buffer.concat([Buffer.from(Uint16Array.of(AF_UNIX).buffer), Buffer.from(`\0${name}`)])
  return [exact, Buffer.concat([exact, Buffer.alloc(2 + PATH_SIZE - exact.length)])]
}

/**
 * Binds the name, so that an older version finds it taken. The socket does not listen, so nobody can connect.
 * @returns whether both addresses were free
 */
export function bindAbstract(name: string): boolean {
  const { socket, bind, close } = libc()
  return addresses(name)
    .map((address) => {
      const fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
      if (fd < 0) return false
      // Held until the process ends.
      if (bind(fd, address, address.length) === 0) return true
      close(fd)
      return false
    })
    .every(Boolean)
}

/** Whether a process of root or of this user that runs the program listens under the name. */
export function listensAbstract(name: string, program: string): boolean {
  const { socket, connect, getsockopt, close } = libc()
  return addresses(name).some((address) => {
    const fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    if (fd < 0) return false
    try {
      if (connect(fd, address, address.length) !== 0) return false
      const [peer, size] = [
        Buffer.alloc(CREDENTIALS_SIZE),
        Buffer.from(Uint32Array.of(CREDENTIALS_SIZE).buffer),
      ]
      if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, size) !== 0) return false
      const [pid, uid] = [peer.readInt32LE(0), peer.readUInt32LE(4)]
      return (uid === 0 || uid === process.geteuid?.()) && runs(pid, program)
    } finally {
      close(fd)
    }
  })
}

/** Leading words of a command line that may name the program: interpreter, its options, script. */
const NAMING_WORDS = 4

function runs(pid: number, program: string): boolean {
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, NAMING_WORDS)
    return words.some((word) => word.split('/').some((name) => name.replace(/\.c?js$/, '') === program))
  } catch {
    return false
  }
}
