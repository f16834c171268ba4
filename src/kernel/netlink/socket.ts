/** A netlink socket as the rest of `kernel/` sees it: datagrams go in, datagrams come out. */

/** What a socket tells its owner. Both are called from the event loop; what they throw goes to `onError`. */
export interface NetlinkHandlers {
  /** A whole datagram from the kernel, of one or more messages. */
  onDatagram(datagram: Buffer): void
  /** Something went wrong that no call is there to throw at. */
  onError(error: Error): void
}

export interface NetlinkSocket {
  /** What the kernel calls this socket (sockaddr_nl.nl_pid), unsigned; it stands in the messages that our requests cause. */
  readonly portId: number
  /** Size of the receive queue in bytes, as the kernel counts it (twice what was asked: it includes its own bookkeeping). */
  readonly receiveBuffer: number
  /**
   * Gives a datagram to the kernel, now or, right after another send, in the next turn of the event loop; datagrams keep their order. The
   * buffer belongs to the socket from now on. A failure to send goes to `onError`.
   * @throws {NetlinkClosedError}
   */
  send(datagram: Buffer): void
  /** Joins a multicast group (RTNLGRP_*). */
  addMembership(group: number): void
  /** How many datagrams this socket has lost so far because its receive queue was full. */
  drops(): number
  /** Idempotent. Nothing is delivered after it. */
  close(): void
}
