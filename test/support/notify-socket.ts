/**
 * The receiving end of sd_notify (man 3 sd_notify): a unix datagram socket, which node does not have, so libc's own calls
 * are made through koffi.
 */
import { rmSync } from 'node:fs'
import { Pending, type WaitOptions, waitFor } from './wait'

// koffi's types are declared for ES modules only, its CommonJS half has the same shape.
const koffi: typeof import('koffi', { with: { 'resolution-mode': 'import' }}) = require('koffi')

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

  /** Binds the socket; its path is what NOTIFY_SOCKET has to say. */
  constructor(readonly path: string) {
    const address = Buffer.alloc(110)
    address.writeUInt16LE(AF_UNIX, 0)
    address.write(path, 2)
    this.#fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
    if (bind(this.#fd, address, address.length) !== 0) throw new Error(`cannot bind ${path}`)
  }

  /** Every assignment received so far, e.g. `READY=1`. */
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
