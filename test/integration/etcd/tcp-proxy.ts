/** A TCP proxy between a client and etcd, with faults on demand. */
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer, TLSSocket, type TlsOptions } from 'node:tls'

export class TcpProxy {
  /** While false, each new connection is closed at once. */
  open = true
  /** Bytes from the server after which a connection is cut. */
  cutAfter = Number.POSITIVE_INFINITY
  /** Delay of each direction, in milliseconds. */
  delayMs = 0
  /** A request with this text passes once. The connection is cut instead of the answer. */
  loseAnswerTo: string | undefined
  /** The names in the certificates that clients have shown, in the order of their connections. */
  readonly clientNames: string[] = []
  /** Number of connections that were made and served. */
  connections = 0
  readonly #sockets = new Set<Socket>()

  private constructor(
    private readonly server: Server,
    private readonly target: URL,
  ) {}

  /**
   * @param tls makes it speak TLS towards the client
   * @param ip to listen on
   */
  static async start(target: string, tls?: TlsOptions, ip = '127.0.0.1'): Promise<TcpProxy> {
    const server = tls === undefined ? createServer() : createTlsServer({ ...tls, ALPNProtocols: ['h2'] })
    const proxy = new TcpProxy(server, new URL(target))
    server.on(tls === undefined ? 'connection' : 'secureConnection', (client: Socket) => proxy.#serve(client))
    await new Promise<void>((resolve) => server.listen(0, ip, resolve))
    return proxy
  }

  get address(): string {
    const { address, port } = this.server.address() as AddressInfo
    return `${address}:${port}`
  }

  get endpoint(): string {
    return `http://${this.address}`
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  /** Ends all connections with a RST, as a router does that has lost its state. */
  reset(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy()
  }

  close(): void {
    this.server.close()
    this.cut()
  }

  #serve(client: Socket): void {
    if (!this.open) {
      client.destroy()
      return
    }
    this.connections++
    if (client instanceof TLSSocket) this.clientNames.push(String(client.getPeerCertificate().subject?.CN))
    const server = connect(Number(this.target.port), this.target.hostname)
    const both = [client, server]
    const end = () => {
      for (const socket of both) socket.destroy()
    }
    for (const socket of both) {
      this.#sockets.add(socket.setNoDelay())
      socket.on('error', end).on('close', () => {
        this.#sockets.delete(socket)
        end()
      })
    }
    let received = 0
    let mute = false
    client.on('data', (chunk) => {
      if (this.loseAnswerTo !== undefined && chunk.includes(this.loseAnswerTo)) {
        this.loseAnswerTo = undefined
        mute = true
        setTimeout(end, 100)
      }
      this.#later(() => server.write(chunk))
    })
    server.on('data', (chunk) => {
      received += chunk.length
      if (!mute) this.#later(() => client.write(chunk))
      if (received > this.cutAfter) end()
    })
  }

  /** The chunks keep the order of the calls as long as the delay does not shrink. */
  #later(send: () => void): void {
    if (this.delayMs === 0) send()
    else setTimeout(send, this.delayMs)
  }
}
