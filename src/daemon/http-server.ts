/** HTTP over TCP, for what a flag asks to be served there. */
import { createServer, type RequestListener, type Server, type ServerOptions } from 'node:http'
import { describeError, OverlayError } from '../model/errors'

export interface TcpAddress {
  /** An address or a name of this host; empty for all its addresses. */
  readonly ip: string
  readonly port: number
}

/** What for, for the words of an error. */
interface Purpose {
  readonly code: string
  /** Follows "cannot": `serve health checks`. */
  readonly serve: string
  /** The flags that say where; port 0 is none. */
  readonly flags: readonly string[]
}

/**
 * @returns the server; close it to stop
 * @throws {OverlayError} with the purpose's code, when it cannot listen there
 */
export async function serveHttp(
  { ip, port }: TcpAddress,
  { code, serve, flags }: Purpose,
  answer: RequestListener,
  options: ServerOptions = {},
): Promise<Server> {
  const server = createServer(options, answer)
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
