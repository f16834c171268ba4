/**
 * {@link NetlinkSocket} over the library's raw socket, made safe. Two events would end the process without an
 * exception to catch: a full receive queue reported as ENOBUFS, and an exception inside a listener of the
 * library. So the kernel is told not to report the first (losses are counted in /proc instead), and the
 * listeners here let no exception out.
 */
import { RawNetlinkSocket } from 'node-netlink'
import { OverlayError } from '../../model/errors'
import { printable } from '../../model/printable'
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
import { receiveAnswer, sendToKernel } from './direct-calls'
import { NetlinkClosedError } from './errors'
import { findDescriptor, readNetlinkRow } from './proc-netlink'
import type { NetlinkHandlers, NetlinkSocket } from './socket'
import {
  enableOption,
  growReceiveBuffer,
  ignoreSender,
  type SocketOptions,
  socketOptions,
} from './socket-options'
import { type Trace, traceTo } from './trace'

export interface RawSocketOptions {
  /** NETLINK_*; default NETLINK_ROUTE. */
  readonly protocol?: number
  /**
   * Size in bytes of a read buffer used for each datagram. Without it, the size of each datagram is queried
   * first. Meant for dumps, whose datagrams are few and large; for small answers it would waste memory.
   */
  readonly readBuffer?: number
  /** Receive queue to request, in bytes; default: the system's (net.core.rmem_default). */
  readonly receiveBuffer?: number
  /** Port id of a socket whose changes must not be notified here. */
  readonly ignoreSender?: number
}

/**
 * Datagrams that are read at once: more than the failures of one batch. The event loop reads what is left.
 */
const MOST_ANSWERS = 128

/** Each is read back after it was set. The names are linux/netlink.h's. */
const REQUIRED_OPTIONS = [
  ['NETLINK_NO_ENOBUFS', NETLINK_NO_ENOBUFS],
  ['NETLINK_EXT_ACK', NETLINK_EXT_ACK],
  ['NETLINK_CAP_ACK', NETLINK_CAP_ACK],
  ['NETLINK_GET_STRICT_CHK', NETLINK_GET_STRICT_CHK],
] as const

/**
 * Opens a netlink socket. It does not keep the process alive.
 * @throws {OverlayError} `netlink-open` or `netlink-option`; the socket is closed then
 */
export async function openRawSocket(
  handlers: NetlinkHandlers,
  options: RawSocketOptions = {},
): Promise<NetlinkSocket> {
  const calls = socketOptions()
  const trace = tracer(options.protocol)
  const raw = openLibrarySocket(options)
  // First of all: without this listener the library would throw, which ends the process.
  raw.on('error', (error) => later(() => handlers.onError(error)))
  try {
    return trace === undefined
      ? guard(raw, handlers, options, calls)
      : trace(handlers, (traced) => guard(raw, traced, options, calls))
  } catch (error) {
    raw.close()
    throw error
  }
}

/** Set to anything but nothing or 0, all messages of all sockets are written to stderr; see trace.ts. */
const TRACE_VARIABLE = 'NLDEBUG'

function tracer(protocol = NETLINK_ROUTE): Trace | undefined {
  const value = process.env[TRACE_VARIABLE] ?? ''
  if (value === '' || value === '0') return undefined
  return traceTo((line) => void process.stderr.write(`${printable(line)}\n`), protocol)
}

function openLibrarySocket({ readBuffer, protocol = NETLINK_ROUTE }: RawSocketOptions): RawNetlinkSocket {
  try {
    return new RawNetlinkSocket(protocol, {
      ...(readBuffer === undefined ? {} : { messagePeeking: false, msgBufferSize: readBuffer }),
      // The library requires both; 0 keeps the system's default.
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
  const deliver = (datagram: Buffer, sender: number): void => {
    // Port 0 is the kernel. A process with the right capability could send to us too.
    if (!open || sender !== 0) return
    try {
      handlers.onDatagram(datagram)
    } catch (error) {
      later(() => handlers.onError(asError(error)))
    }
  }
  const truncated = (size: number): void => {
    if (!open) return
    const problem = `a netlink datagram of ${size} bytes did not fit into the read buffer`
    later(() => handlers.onError(new OverlayError('netlink-truncated', problem)))
  }
  raw.on('message', (datagram, sender) => deliver(datagram, sender.port))
  raw.on('truncatedMessage', (_datagram, sender) => truncated(sender.truncated ?? 0))
  const readNow = (): void => {
    for (let answers = 0; open && answers < MOST_ANSWERS; answers += 1) {
      const answer = receiveAnswer(fd)
      if (answer === undefined) return
      if (answer.kind === 'whole') deliver(answer.datagram, answer.sender)
      else truncated(answer.size)
    }
  }

  return {
    portId,
    receiveBuffer: size,
    send(datagram, reading) {
      if (!open) throw new NetlinkClosedError('send')
      if (reading === 'now' && sendToKernel(fd, datagram)) return readNow()
      // Where the kernel has no room now, the library waits until it has.
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

/** Runs outside of the library's callback, where an exception is an ordinary uncaught one. */
const later = (run: () => void): void => void setImmediate(run)

const asError = (thrown: unknown): Error => (thrown instanceof Error ? thrown : new Error(String(thrown)))
