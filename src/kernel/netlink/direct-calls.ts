/**
 * Sends and reads without the event loop, through libc. The kernel works on a change within the system call
 * that sends it, and queues the answers before that call returns. The library would read them in another turn
 * of the event loop, behind all notifications of the same change.
 */
import { libc } from '../../native/libc'
import { HOST_LITTLE_ENDIAN, viewOf } from './bytes'

/** sys/socket.h, Linux. With MSG_TRUNC recvfrom(2) returns the whole size of a datagram. */
const MSG_TRUNC = 0x20
const MSG_DONTWAIT = 0x40

/** Bytes of struct sockaddr_nl (linux/netlink.h), and the place of nl_pid in it. */
const ADDRESS_SIZE = 12
const PORT_AT = 4

/** Bytes. The answer to a change is an errno, the header of the request, and a text for people. */
const MOST_READ = 8192

export type Answer =
  /** @property sender port id; 0 is the kernel */
  | { readonly kind: 'whole'; readonly datagram: Buffer; readonly sender: number }
  /** @property size in bytes, more than were read */
  | { readonly kind: 'truncated'; readonly size: number }

const buffer = Buffer.alloc(MOST_READ)
const sender = Buffer.alloc(ADDRESS_SIZE)
const senderSize = Buffer.alloc(4)
const NOBODY = Buffer.alloc(0)

/**
 * Sends to the kernel, which a socket that is connected to nobody does.
 * @returns false if nothing was sent
 */
export function sendToKernel(fd: number, datagram: Buffer): boolean {
  return libc().sendto(fd, datagram, datagram.length, MSG_DONTWAIT, NOBODY, 0) === datagram.length
}

/** Reads the next datagram; `undefined` if there is none. */
export function receiveAnswer(fd: number): Answer | undefined {
  viewOf(senderSize).setInt32(0, ADDRESS_SIZE, HOST_LITTLE_ENDIAN)
  const size = libc().recvfrom(fd, buffer, MOST_READ, MSG_DONTWAIT | MSG_TRUNC, sender, senderSize)
  if (size < 0) return undefined
  if (size > MOST_READ) return { kind: 'truncated', size }
  const port = viewOf(sender).getUint32(PORT_AT, HOST_LITTLE_ENDIAN)
  return { kind: 'whole', datagram: Buffer.from(buffer.subarray(0, size)), sender: port }
}
