/** HTTP over TCP, for the servers that flags switch on. */
import { createServer, type RequestListener, type Server } from 'node:http'
import { describeError, OverlayError } from '../../model/errors'

export interface TcpAddress {
  /** An address or a name of this host; empty for all its addresses. */
  readonly ip: string
  readonly port: number
}

/** What a server is for: for the texts of errors. */
interface Purpose {
  readonly code: string
  /** Follows "cannot": `serve health checks`. */
  readonly serve: string
  /** The flags that set address and port; port 0 switches the server off. */
  readonly flags: readonly string[]
}

/** Bounds for clients: bytes, milliseconds, connections. */
const LIMITS = {
  maxHeaderSize: 8192,
  headersTimeout: 5000,
  requestTimeout: 5000,
  keepAliveTimeout: 5000,
  connectionsCheckingInterval: 1000,
}
const MOST_CONNECTIONS = 32

/**
 * Serves with bounds: requests are small and few. A client that connects and sends nothing is disconnected.
 * @returns the server; close it to stop
 * @throws {OverlayError} with the purpose's code when the server cannot listen on the address
 */
export async function serveHttp(
  { ip, port }: TcpAddress,
  { code, serve, flags }: Purpose,
  answer: RequestListener,
): Promise<Server> {
  const server = createServer(LIMITS, answer)
  server.maxConnections = MOST_CONNECTIONS
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen({ port, ...(ip !== '' && { host: ip }) }, resolve)
    })
  } catch (error) {
    throw new OverlayError(
      code,
      `cannot ${serve} on ${ip} port ${port}: ${describeError(error)}`,
      `choose another ${flags.map((flag) => `--${flag}`).join(' or ')}; port 0 switches them off`,
      { cause: error },
    )
  }
  return server
}
