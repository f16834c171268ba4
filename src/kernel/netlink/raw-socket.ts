/**
 * {@link NetlinkSocket} over the library's raw socket, made safe. Two things end the process without an exception to catch: a full receive
 * queue reported as ENOBUFS, and an exception thrown inside one of the library's listeners. So the kernel is told not to report the first
 * (losses are counted in /proc instead), and no listener here lets the second out.
 */
import { RawNetlinkSocket } from 'node-netlink'
import { OverlayError } from '../../model/errors'
import {
  NETLINK_CAP_ACK,
  NETLINK_EXT_ACK,
  NETLINK_GET_STRICT_CHK,
  NETLINK_NO_ENOBUFS,
  NETLINK_ROUTE,
  SO_RCVBUF,
  SOL_NETLINK,
  SOL_SOCKET,
} from './constants'
import { NetlinkClosedError } from './errors'
import { findDescriptor, readNetlinkRow } from './proc-netlink'
import type { NetlinkHandlers, NetlinkSocket } from './socket'
import {
  enableOption,
  growReceiveBuffer,
  ignoreSender,
  loadSocketOptions,
  type SocketOptions,
} from './socket-options'

export interface RawSocketOptions {
  /** NETLINK_*; default NETLINK_ROUTE. */
  readonly protocol?: number
  /**
   * Bytes of a read buffer to use for each datagram; without it the size of each is asked first. For dumps, whose datagrams are large and few;
   * small answers would waste memory.
   */
  readonly readBuffer?: number
  /** Bytes of receive queue to ask for; without it the system's default (net.core.rmem_default). */
  readonly receiveBuffer?: number
  /** Port id of a socket whose changes shall not be notified here. */
  readonly ignoreSender?: number
}

/** Each is verified after it was set; the names are linux/netlink.h's. */
const REQUIRED_OPTIONS = [
  ['NETLINK_NO_ENOBUFS', NETLINK_NO_ENOBUFS],
  ['NETLINK_EXT_ACK', NETLINK_EXT_ACK],
  ['NETLINK_CAP_ACK', NETLINK_CAP_ACK],
  ['NETLINK_GET_STRICT_CHK', NETLINK_GET_STRICT_CHK],
] as const

/**
 * Opens a netlink socket. It never keeps the process alive by itself.
 * @throws {OverlayError} `netlink-open` or `netlink-option`; nothing stays open
 */
export async function openRawSocket(
  handlers: NetlinkHandlers,
  options: RawSocketOptions = {},
): Promise<NetlinkSocket> {
  const socketOptions = await loadSocketOptions()
  const raw = openLibrarySocket(options)
  // Before anything can arrive: without a listener the library would throw, and that ends the process.
  raw.on('error', (error) => later(() => handlers.onError(error)))
  try {
    return guard(raw, handlers, options, socketOptions)
  } catch (error) {
    raw.close()
    throw error
  }
}

function openLibrarySocket({ readBuffer, protocol = NETLINK_ROUTE }: RawSocketOptions): RawNetlinkSocket {
  try {
    return new RawNetlinkSocket(protocol, {
      ...(readBuffer === undefined ? {} : { messagePeeking: false, msgBufferSize: readBuffer }),
      // The library wants both named; 0 leaves the system's default.
      recvBufferSize: 0,
      sendBufferSize: 0,
    })
  } catch (cause) {
    throw new OverlayError('netlink-open', 'cannot open a netlink socket', undefined, { cause })
  }
}

function guard(
  raw: RawNetlinkSocket,
  handlers: NetlinkHandlers,
  { receiveBuffer, ignoreSender: ignored, protocol }: RawSocketOptions,
  options: SocketOptions,
): NetlinkSocket {
  const portId = raw.address().port >>> 0
  const fd = descriptorOf(portId, protocol)
  for (const [name, option] of REQUIRED_OPTIONS) enableOption(options, fd, SOL_NETLINK, option, name)
  const size =
    receiveBuffer === undefined
      ? (options.get(fd, SOL_SOCKET, SO_RCVBUF) ?? 0)
      : growReceiveBuffer(options, fd, receiveBuffer)
  if (ignored !== undefined) ignoreSender(options, fd, ignored)
  raw.unref()

  let open = true
  raw.on('message', (datagram, sender) => {
    // Only port 0 is the kernel; another process could write to us if it has the right.
    if (!open || sender.port !== 0) return
    try {
      handlers.onDatagram(datagram)
    } catch (error) {
      later(() => handlers.onError(asError(error)))
    }
  })
  raw.on('truncatedMessage', (_datagram, sender) => {
    if (!open) return
    const problem = `a netlink datagram of ${sender.truncated ?? 0} bytes did not fit into the read buffer`
    later(() => handlers.onError(new OverlayError('netlink-truncated', problem)))
  })

  return {
    portId,
    receiveBuffer: size,
    send(datagram) {
      if (!open) throw new NetlinkClosedError('send')
      raw.send(datagram, {}, (error) => {
        if (error !== undefined) later(() => handlers.onError(error))
      })
    },
    addMembership: (group) => raw.addMembership(group),
    drops: () => readNetlinkRow(portId, protocol)?.drops ?? 0,
    close() {
      if (!open) return
      open = false
      raw.close()
    },
  }
}

function descriptorOf(portId: number, protocol: number | undefined): number {
  const row = readNetlinkRow(portId, protocol)
  const fd = row === undefined ? undefined : findDescriptor(row.inode)
  if (fd !== undefined) return fd
  throw new OverlayError(
    'netlink-open',
    `the netlink socket with port id ${portId} is not found in /proc`,
    'run overlayd where /proc is mounted and is that of its own process and network namespace',
  )
}

/** Runs outside the library's callback, where an exception is an ordinary uncaught one. */
const later = (run: () => void): void => void setImmediate(run)

const asError = (thrown: unknown): Error => (thrown instanceof Error ? thrown : new Error(String(thrown)))
