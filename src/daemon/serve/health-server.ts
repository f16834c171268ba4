/**
 * The health server: HTTP over TCP for load balancers and orchestrators, with flannel's paths and texts
 * (main.go).
 */
import type { Server } from 'node:http'
import { printable } from '../../model/printable'
import { serveHttp, type TcpAddress } from './http-server'

interface Answer {
  readonly status: 200 | 404 | 503
  readonly body: string
}

/**
 * Serves `/healthz`, which answers 200 as long as the process runs, and `/readyz`.
 * @param notReady why this host is not ready; `undefined` if it is ready, an empty text if the reason is not
 * known
 * @returns the server; close it to stop
 * @throws {OverlayError} `health-server` when it cannot listen on the address
 */
export async function serveHealth(address: TcpAddress, notReady: () => string | undefined): Promise<Server> {
  const purpose = {
    code: 'health-server',
    serve: 'serve health checks',
    flags: ['healthz-ip', 'healthz-port'],
  }
  return serveHttp(address, purpose, (request, response) => {
    const [path = ''] = (request.url ?? '').split('?')
    const { status, body } = answer(path, notReady)
    response.writeHead(status, {
      'content-type': 'text/plain; charset=utf-8',
      'content-length': Buffer.byteLength(body),
    })
    response.end(body)
  })
}

function answer(path: string, notReady: () => string | undefined): Answer {
  if (path === '/healthz') return { status: 200, body: 'flanneld is running' }
  // The text of Go's net/http.
  if (path !== '/readyz') return { status: 404, body: '404 page not found\n' }
  const reason = notReady()
  if (reason === undefined) return { status: 200, body: 'flanneld is ready' }
  return { status: 503, body: `flanneld is not ready${reason === '' ? ' yet' : `: ${printable(reason)}`}` }
}
