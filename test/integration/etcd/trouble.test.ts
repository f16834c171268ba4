/** Servers that are slow, wrong or refuse: every call ends with a helpful error. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer as createHttpServer, type Server as HttpServer } from 'node:http'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describeError } from '../../../src/model/errors'
import { CertificateAuthority } from '../../lab/certificates'
import { clusterTimes, startEtcd } from '../../lab/etcd'
import { patient } from '../../lab/patience'
import { ever, PREFIX, peerValue, Site } from './site'
import { TcpProxy } from './tcp-proxy'

jest.setTimeout(patient(60_000))

let site: Site
beforeAll(async () => {
  site = await Site.start()
})
afterAll(() => site.stop())

describe('a server that accepts and says nothing', () => {
  const sockets = new Set<Socket>()
  let mute: Server
  let endpoint: string
  beforeAll(async () => {
    mute = createServer((socket) => sockets.add(socket.on('error', () => {}).resume()))
    await new Promise<void>((resolve) => mute.listen(0, '127.0.0.1', resolve))
    const address = mute.address()
    endpoint = `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`
  })
  afterAll(() => {
    mute.close()
    // gRPC does not close the connection to a server that never answered.
    for (const socket of sockets) socket.destroy()
  })

  test('is given up after 3 s', async () => {
    const registry = await site.registry({ endpoints: endpoint })
    const started = performance.now()
    await expect(registry.status(ever)).rejects.toMatchObject({
      code: 'etcd-timeout',
      message: expect.stringContaining(endpoint),
    })
    expect(performance.now() - started).toBeLessThan(patient(3500))
  })

  test('is not waited for after an abort', async () => {
    const registry = await site.registry({ endpoints: endpoint })
    const controller = new AbortController()
    const started = performance.now()
    setTimeout(() => controller.abort(), 50)
    await expect(registry.status(controller.signal)).rejects.toMatchObject({ name: 'AbortError' })
    expect(performance.now() - started).toBeLessThan(patient(250))
    const follow = site.follow(registry)
    expect(await follow.end()).toBeLessThan(patient(200))
  })

  test('is left for the next endpoint', async () => {
    const registry = await site.registry({ endpoints: `${endpoint},${site.etcd.endpoint}` })
    await registry.status(ever).catch(() => {})
    expect((await registry.status(ever)).endpoint).toBe(site.etcd.endpoint)
  })
})

test("flannel's default of two endpoints works with only one of them there", async () => {
  for (let i = 0; i < 10; i++) {
    const registry = await site.registry({ endpoints: `http://127.0.0.1:4001,${site.etcd.endpoint}` })
    expect((await registry.status(ever)).endpoint).toBe(site.etcd.endpoint)
  }
})

test('a member that has lost its cluster is noticed, and followed again when it is back', async () => {
  const times = clusterTimes()
  const members = ['a', 'b'].map((name, index) => ({
    clientPort: 12_379 + index,
    peerPort: 12_381 + index,
    flags: [
      ...['--name', name, '--initial-cluster', 'a=http://127.0.0.1:12381,b=http://127.0.0.1:12382'],
      ...times,
    ],
  }))
  const [a, b] = await Promise.all(members.map((member) => startEtcd(member)))
  if (a === undefined || b === undefined) throw new Error('no cluster')
  try {
    const registry = await site.registry({ endpoints: a.endpoint })
    const follow = site.follow(registry)
    await follow.waitFor('snapshot')
    await a.etcdctl('put', `${PREFIX}/subnets/10.5.1.0-24`, peerValue(1))
    await follow.waitForEvents(1)
    b.pause()
    expect((await follow.waitFor('lost')).error.message).toContain('no leader')
    b.resume()
    await waitUntilBack(a)
    await follow.waitForEvents(2)
    await follow.end()
  } finally {
    await Promise.all([a.stop(), b.stop()])
  }

  async function waitUntilBack(etcd: typeof a): Promise<void> {
    for (let tries = 0; ; tries++) {
      try {
        await etcd?.etcdctl('put', `${PREFIX}/subnets/10.5.2.0-24`, peerValue(2))
        return
      } catch (error) {
        if (tries === 10) throw error
      }
    }
  }
})

test('a call that is given up closes no connection, and so costs no watch', async () => {
  const proxy = await TcpProxy.start(site.etcd.endpoint)
  site.onStop(() => proxy.close())
  const registry = await site.registry({ endpoints: proxy.endpoint })
  const follow = site.follow(registry)
  await follow.waitFor('snapshot')
  proxy.delayMs = 300
  await expect(registry.status(AbortSignal.timeout(100))).rejects.toMatchObject({ name: 'TimeoutError' })
  await registry.status(ever)
  expect(proxy.connections).toBe(1)
  await follow.end()
})

describe('TLS', () => {
  let directory: string
  const path = (name: string) => join(directory, name)
  let proxy: TcpProxy

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'overlayd-tls-'))
    const authority = new CertificateAuthority(directory)
    for (const name of ['server', 'client']) authority.sign(name)
    const file = (name: string) => readFileSync(path(name))
    proxy = await TcpProxy.start(site.etcd.endpoint, {
      ca: file('ca.pem'),
      cert: file('server.pem'),
      key: file('server.key'),
      requestCert: true,
    })
  })
  afterAll(() => {
    proxy.close()
    rmSync(directory, { recursive: true })
  })

  test('with a client certificate', async () => {
    const tls = { caFile: path('ca.pem'), certFile: path('client.pem'), keyFile: path('client.key') }
    const registry = await site.registry({ endpoints: `https://${proxy.address}`, tls })
    expect((await registry.status(ever)).endpoint).toBe(`https://${proxy.address}`)
    const follow = site.follow(registry)
    await follow.waitFor('snapshot')
    await site.put('subnets/10.5.9.0-24', peerValue(9))
    await follow.waitForEvents(1)
    await follow.end()
  })

  test.each([
    ['without the CA', {}],
    ['with a client certificate missing', 'ca'],
  ])('%s fails, and says so', async (_, files) => {
    const tls = files === 'ca' ? { caFile: path('ca.pem') } : {}
    const registry = await site.registry({ endpoints: `https://${proxy.address}`, tls })
    await expect(registry.status(ever)).rejects.toMatchObject({
      code: 'etcd-tls',
      fix: expect.stringContaining('--etcd-cafile'),
    })
  })

  test('does not touch http:// endpoints, as with flannel', async () => {
    const tls = { caFile: path('ca.pem'), certFile: path('client.pem'), keyFile: path('client.key') }
    const registry = await site.registry({ tls })
    expect((await registry.status(ever)).endpoint).toBe(site.etcd.endpoint)
  })
})

describe('what speaks at an endpoint is told in words, without those of gRPC', () => {
  let web: HttpServer
  let busy: HttpServer
  let secret: TcpProxy
  let directory: string
  const portOf = (server: HttpServer): number => {
    const address = server.address()
    return typeof address === 'object' ? (address?.port ?? 0) : 0
  }
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'overlayd-words-'))
    new CertificateAuthority(directory).sign('server')
    const file = (name: string) => readFileSync(join(directory, name))
    secret = await TcpProxy.start(site.etcd.endpoint, {
      ca: file('ca.pem'),
      cert: file('server.pem'),
      key: file('server.key'),
    })
    const serve = (status: number): Promise<HttpServer> =>
      new Promise((resolve) => {
        const server = createHttpServer((_, response) =>
          response.writeHead(status, { server: 'x/1' }).end('hi'),
        )
        server.listen(0, '127.0.0.1', () => resolve(server))
      })
    web = await serve(200)
    busy = await serve(503)
  })
  afterAll(() => {
    secret.close()
    for (const server of [web, busy]) {
      server.close()
      server.closeAllConnections()
    }
    rmSync(directory, { recursive: true })
  })

  const cases: Readonly<Record<string, () => readonly [string, RegExp]>> = {
    'plain text to TLS': () => [`http://${secret.address}`, /speaks TLS there.*; write https:\/\//],
    'TLS to plain text': () => [
      site.etcd.endpoint.replace('http', 'https'),
      /etcd speaks plain text there.*; write http:\/\//,
    ],
    'another HTTP server': () => [
      `http://127.0.0.1:${portOf(web)}`,
      /is not etcd, but another HTTP server \(x\/1\)/,
    ],
    'a proxy without etcd': () => [
      `http://127.0.0.1:${portOf(busy)}`,
      /a proxy \(x\/1\) answers there and does not reach etcd \(HTTP 503\)/,
    ],
    'a port where nothing listens': () => ['http://127.0.0.1:4001', /nothing listens .*4001/],
    'a name that is none': () => [
      'http://nowhere.invalid:2379',
      /the name nowhere\.invalid does not resolve/,
    ],
    'a CA that is not known': () => [
      `https://${secret.address}`,
      /signed by a CA that this host does not know; give the CA of etcd/,
    ],
  }
  test.each(Object.keys(cases))('%s', async (name) => {
    const [endpoint, words] = cases[name]?.() ?? ['', /x/]
    const registry = await site.registry({ endpoints: endpoint })
    const error: unknown = await registry.status(ever).catch((reason: unknown) => reason)
    const said = describeError(error)
    expect(said).toMatch(words)
    expect(said).toContain(endpoint)
    expect(said).not.toMatch(/LB pick|Protocol error|RST_STREAM|UNAVAILABLE|Last error/)
  })
})

/** The last test, because it locks all other users out. */
describe('with users', () => {
  beforeAll(async () => {
    await site.etcd.etcdctl('user', 'add', 'root:hunter2')
    await site.etcd.etcdctl('user', 'grant-role', 'root', 'root')
    await site.etcd.etcdctl('auth', 'enable')
  })

  test('the right password is let in, to follow as well', async () => {
    const registry = await site.registry({ auth: { username: 'root', password: 'hunter2' } })
    const follow = site.follow(registry)
    await follow.waitFor('snapshot')
    await site.etcd.etcdctl('--user', 'root:hunter2', 'put', `${PREFIX}/subnets/10.5.1.0-24`, peerValue(1))
    await follow.waitForEvents(1)
    await follow.end()
  })

  test.each([
    ['none', undefined],
    ['a wrong one', { username: 'root', password: 'hunter3' }],
  ])('with %s it is refused', async (_, auth) => {
    const registry = await site.registry({ auth })
    const error: unknown = await registry.status(ever).catch((reason: unknown) => reason)
    expect(error).toMatchObject({ code: 'etcd-refused' })
    expect(describeError(error)).toContain('--etcd-password')
    expect(describeError(error)).not.toContain('hunter')
  })
})
