/** Health checks over IPv6, which the sandbox has wherever it runs; what does not depend on it is a unit test. */
import type { AddressInfo } from 'node:net'
import { serveHealth } from '../../../src/daemon/health-server'
import { assertSandbox } from '../../support/namespace'

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
