import type { Server } from 'node:http'
import { request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { serveHealth } from '../../../../src/daemon/serve/health-server'

let reason: string | undefined = ''
const servers: Server[] = []
afterEach(() => {
  for (const server of servers.splice(0)) server.close()
})

async function serve(ip = '127.0.0.1', port = 0): Promise<number> {
  const server = await serveHealth({ ip, port }, () => reason)
  servers.push(server)
  return (server.address() as AddressInfo).port
}

const ask = (port: number, path: string, { method = 'GET' } = {}) =>
  new Promise<{ status: number | undefined; type: string | undefined; body: string }>((resolve, reject) => {
    request({ host: '127.0.0.1', port, path, method, agent: false }, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (chunk) => {
        body += chunk
      })
      response.on('end', () =>
        resolve({ status: response.statusCode, type: response.headers['content-type'], body }),
      )
    })
      .on('error', reject)
      .end()
  })

test.each([
  ['/healthz', '', 200, 'flanneld is running'],
  ['/healthz?verbose', 'lease conflict', 200, 'flanneld is running'],
  ['/readyz', '', 503, 'flanneld is not ready yet'],
  ['/readyz', undefined, 200, 'flanneld is ready'],
  ['/readyz', 'lease conflict', 503, 'flanneld is not ready: lease conflict'],
  ['/readyz', 'key a\u001b[2J\n\u202e', 503, 'flanneld is not ready: key a\\x1b[2J\\x0a\\u202e'],
  ['/', undefined, 404, '404 page not found\n'],
  ['/healthz/', undefined, 404, '404 page not found\n'],
])('%s, not ready for %j: %d', async (path, notReady, status, body) => {
  reason = notReady
  expect(await ask(await serve(), path)).toEqual({ status, body, type: 'text/plain; charset=utf-8' })
})

test('any HTTP method is answered', async () => {
  reason = undefined
  const port = await serve()
  expect(await ask(port, '/readyz', { method: 'POST' })).toMatchObject({
    status: 200,
    body: 'flanneld is ready',
  })
  expect(await ask(port, '/readyz', { method: 'HEAD' })).toMatchObject({ status: 200, body: '' })
})

test.each([
  ['a port that is taken', '127.0.0.1', /cannot serve health checks on 127.0.0.1 port \d+: .*EADDRINUSE/],
  ['an address of another host', '192.0.2.1', /on 192.0.2.1 port \d+: .*EADDRNOTAVAIL/],
])('%s is a clear error', async (_, ip, message) => {
  const port = await serve()
  await expect(serve(ip, port)).rejects.toMatchObject({
    code: 'health-server',
    message: expect.stringMatching(message),
    fix: expect.stringContaining('--healthz-port'),
  })
})
