/** The interface of a netlink socket for the rest of `kernel/`: datagrams go in, datagrams come out. */

/** Callbacks of a socket's owner. Both are called from the event loop; exceptions in them go to `onError`. */
export interface NetlinkHandlers {
  /** A whole datagram from the kernel, of one or more messages. */
  onDatagram(datagram: Buffer): void
  /** An error that no caller is waiting for. */
  onError(error: Error): void
}

export interface NetlinkSocket {
  /**
   * The kernel's id of this socket (sockaddr_nl.nl_pid), unsigned. It appears in messages caused by our
   * requests.
   */
  readonly portId: number
  /**
   * Size of the receive queue in bytes, as counted by the kernel: twice the requested size, including its
   * bookkeeping.
   */
  readonly receiveBuffer: number
  /**
   * Sends a datagram to the kernel, at once or, right after another send, in the next turn of the event loop.
   * Datagrams keep their order. The socket owns the buffer from now on. A failure to send goes to `onError`.
   * @param reading `now` for a change while nothing else is under way: the kernel has done the change when
   * the system call returns, so the answers go to `onDatagram` before this function returns. Answers that are
   * not there yet go there later, as without it.
   * @throws {NetlinkClosedError}
   */
  send(datagram: Buffer, reading?: 'now'): void
  /** Joins a multicast group (RTNLGRP_*). */
  addMembership(group: number): void
  /** Number of datagrams that this socket has lost so far because its receive queue was full. */
  drops(): number
  /** Idempotent. Nothing is delivered afterwards. */
  close(): void
}
