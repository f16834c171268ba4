/**
 * The receiving end of sd_notify(3): a UNIX datagram socket. Node.js has no such sockets, so this calls libc
 * through koffi.
 */
import { rmSync } from 'node:fs'
import { Pending, type WaitOptions, waitFor } from './wait'

// koffi declares its types for ES modules only; its CommonJS module has the same shape.
const koffi: typeof import('koffi', { with: { 'resolution-mode': 'import' }}) = require('koffi')

// Linux: sys/socket.h and its bits/socket_type.h.
const AF_UNIX = 1
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0o2000000
const MSG_DONTWAIT = 0x40

const libc = koffi.load('libc.so.6')
const socket = libc.func('int socket(int domain, int type, int protocol)')
const bind = libc.func('int bind(int fd, const void *address, uint32_t length)')
const recv = libc.func('long recv(int fd, _Out_ void *buffer, size_t length, int flags)')
const close = libc.func('int close(int fd)')

export class NotifySocket {
  readonly #fd: number
  #received: string[] = []

  /** @param path of the socket, for NOTIFY_SOCKET */
  constructor(readonly path: string) {
    // struct sockaddr_un (unix(7)): 2 bytes of family, 108 bytes of path.
    const address = Buffer.alloc(110)
    address.writeUInt16LE(AF_UNIX, 0)
    address.write(path, 2)
    this.#fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
    if (bind(this.#fd, address, address.length) !== 0) throw new Error(`cannot bind ${path}`)
  }

  /** All assignments received so far, such as `READY=1`. */
  received(): readonly string[] {
    const buffer = Buffer.alloc(4096)
    for (;;) {
      const length = Number(recv(this.#fd, buffer, buffer.length, MSG_DONTWAIT))
      if (length < 0) return this.#received
      this.#received.push(...buffer.toString('utf8', 0, length).split('\n').filter(Boolean))
    }
  }

  async waitFor(assignment: string, options?: WaitOptions): Promise<void> {
    await waitFor(
      assignment,
      () => {
        const received = this.received()
        return received.includes(assignment) || new Pending(JSON.stringify(received))
      },
      options,
    )
  }

  close(): void {
    close(this.#fd)
    rmSync(this.path, { force: true })
  }
}
