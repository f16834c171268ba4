/** Health checks over IPv6. Every sandbox has IPv6; the unit tests cover what does not depend on IPv6. */
import { type AddressInfo, connect } from 'node:net'
import { serveHealth } from '../../../src/daemon/serve/health-server'
import { assertSandbox } from '../../lab/namespace'
import { patient } from '../../lab/patience'

jest.setTimeout(patient(30_000))

beforeAll(assertSandbox)

test.each([
  ['an IPv6 address', '::1', ['[::1]']],
  ['all there are', '', ['127.0.0.1', '[::1]']],
])('%s', async (_what, ip, hosts) => {
  const server = await serveHealth({ ip, port: 0 }, () => undefined)
  try {
    const { port } = server.address() as AddressInfo
    for (const host of hosts) {
      const answer = await fetch(`http://${host}:${port}/healthz`)
      expect([host, answer.status, await answer.text()]).toEqual([host, 200, 'flanneld is running'])
    }
  } finally {
    server.close()
    server.closeAllConnections()
  }
})

test('half a request is ended, however many there are, and others are answered', async () => {
  const server = await serveHealth({ ip: '::1', port: 0 }, () => undefined)
  const { port } = server.address() as AddressInfo
  const halves = Array.from({ length: 100 }, () => connect(port, '::1'))
  try {
    const ended = halves.map((half) => {
      half.on('error', () => undefined).resume()
      half.write('GET /healthz HTTP/1.1\r\nHost: a\r\n')
      return new Promise((resolve) => half.once('close', resolve))
    })
    await Promise.all(ended)
    expect((await fetch(`http://[::1]:${port}/healthz`)).status).toBe(200)
  } finally {
    for (const half of halves) half.destroy()
    server.close()
    server.closeAllConnections()
  }
})
