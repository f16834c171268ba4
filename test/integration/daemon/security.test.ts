/** Who may do what: the control socket, the files, and an etcd that gives each host the rights to its own key alone. */
import { statSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { ETCD_ADDRESS, ETCD_PREFIX, Lab } from '../../support/lab'
import { Pending, waitFor } from '../../support/wait'

jest.setTimeout(60_000)

let lab: Lab

beforeAll(async () => {
  lab = await Lab.create({ hosts: 2 })
  await lab.startAll()
})
afterAll(() => lab?.close())

const mode = (path: string): string => (statSync(path).mode & 0o777).toString(8)

test('the control socket is of this user alone, and the file that Docker reads is of everyone', () => {
  const host = lab.host(1)
  expect(mode(join(host.runDirectory, 'overlayd.sock'))).toBe('600')
  expect(mode(host.subnetFile)).toBe('644')
})

/** What comes back for some bytes, until the other side ends it. */
function answerTo(bytes: string | Buffer): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(join(lab.host(1).runDirectory, 'overlayd.sock'))
    let answer = ''
    socket.on('data', (chunk) => {
      answer += chunk
    })
    socket.on('error', () => undefined)
    socket.on('close', () => resolve(answer))
    socket.write(bytes)
  })
}

test.each([
  ['no HTTP', 'hello\r\n\r\n', /^HTTP\/1\.1 400/],
  ['another path', 'GET /secrets HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n', /^HTTP\/1\.1 404/],
  ['another method', 'POST /status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n', /^HTTP\/1\.1 404/],
  [
    'a request to drain that is none',
    'POST /drain HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}',
    /^HTTP\/1\.1 400/,
  ],
  [
    'a request to drain without an end',
    `POST /drain HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\nConnection: close\r\n\r\n${'{'.repeat(5000)}`,
    /^HTTP\/1\.1 400/,
  ],
  ['endless headers', `GET /status HTTP/1.1\r\nA: ${'a'.repeat(100_000)}`, /^HTTP\/1\.1 431/],
  ['a request that never ends', 'GET /status HTTP/1.1\r\n', /^(HTTP\/1\.1 408|$)/],
])('%s at the control socket is refused and ends', async (_what, bytes, expected) => {
  expect(await answerTo(bytes)).toMatch(expected)
  await lab.waitConverged()
})

test('many who hold the control socket open do not keep it from an operator for long', async () => {
  const path = join(lab.host(1).runDirectory, 'overlayd.sock')
  const sockets = Array.from({ length: 100 }, () => connect(path).on('error', () => undefined))
  try {
    const answered = async () => {
      const { stdout } = await lab.host(1).overlayctl('status')
      return stdout.includes('healthy') ? true : new Pending(stdout)
    }
    await waitFor('an answer to the operator', answered, { timeoutMs: 20_000 })
  } finally {
    for (const socket of sockets) socket.destroy()
  }
})

describe('in an etcd with users', () => {
  const asRoot = (...args: string[]) => lab.etcd.etcdctl('--user=root:hunter2', ...args)
  const key = `${ETCD_PREFIX}/subnets/10.5.42.0-24`

  beforeAll(async () => {
    const host = lab.host(2)
    await host.stop()
    for (const each of await lab.client.getAll().prefix(`${ETCD_PREFIX}/subnets/`).keys())
      await lab.client.delete().key(each)
    const reserve = await host.overlayctl(
      'reserve',
      `--public-ip=${host.address}`,
      '--subnet=10.5.42.0/24',
      `--etcd-endpoints=http://${ETCD_ADDRESS}:2379`,
    )
    expect(reserve.code).toBe(0)
    for (const command of [
      'user add root:hunter2',
      'user grant-role root root',
      'role add host2',
      // All of the network may be read, and one key written.
      `role grant-permission host2 read --prefix=true ${ETCD_PREFIX}/`,
      `role grant-permission host2 readwrite ${key}`,
      'user add host2:secret',
      'user grant-role host2 host2',
      'auth enable',
    ]) {
      await lab.etcd.etcdctl(...command.split(' '))
    }
  })
  afterAll(() => asRoot('auth', 'disable'))

  test('a host with the rights to read the network and to write its reserved key takes part', async () => {
    const host = lab.host(2)
    host.start({ flags: { 'etcd-username': 'host2' }, env: { FLANNELD_ETCD_PASSWORD: 'secret' } })
    // The other one has made its key anew.
    await host.waitConverged(1)
    expect((await host.subnetEnv()).subnet).toBe('10.5.42.1/24')
    const value = await asRoot('get', '--print-value-only', key)
    expect(value).toContain((await host.link()).mac)
    expect(host.daemon.output).not.toContain('secret')
  })

  test('and has no other', async () => {
    const asHost = (...args: string[]) => lab.etcd.etcdctl('--user=host2:secret', ...args)
    for (const [other, value] of [
      [`${ETCD_PREFIX}/config`, '{}'],
      [`${ETCD_PREFIX}/subnets/10.5.43.0-24`, '{}'],
    ] as const) {
      await expect(asHost('put', other, value)).rejects.toThrow('permission denied')
    }
    await expect(asHost('del', '--prefix', `${ETCD_PREFIX}/subnets/`)).rejects.toThrow('permission denied')
  })
})
