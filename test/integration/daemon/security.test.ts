/**
 * Permissions: the control socket, the files, and an etcd that gives each host the rights to its own key
 * alone.
 */
import { statSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { ETCD_PREFIX, Lab } from '../../lab/lab'
import { leaseKey } from '../../lab/leases'
import { patient } from '../../lab/patience'
import { Pending, waitFor } from '../../lab/wait'

jest.setTimeout(patient(60_000))

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

/** The answer to some bytes, until the other side ends the connection. */
function answerTo(bytes: string | Buffer, name = 'overlayd.sock'): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(join(lab.host(1).runDirectory, name))
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

test.each([
  ['GET /status', 200],
  ['GET /events', 200],
  ['GET /metrics', 200],
  ['GET /settings', 403],
  ['POST /drain', 403],
  ['POST /rotate-key', 403],
  ['POST /identity', 403],
])('the socket of the group answers %s with %i', async (request, status) => {
  expect(mode(join(lab.host(1).runDirectory, 'status.sock'))).toBe('660')
  const bytes = `${request} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`
  expect(await answerTo(bytes, 'status.sock')).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `))
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
  let subnet: string
  let key: string

  beforeAll(async () => {
    const host = lab.host(2)
    await host.stop()
    for (const each of await lab.client.getAll().prefix(`${ETCD_PREFIX}/subnets/`).keys())
      await lab.client.delete().key(each)
    // The other host makes its own key anew.
    await waitFor('the key of the other host', async () => {
      const keys = await lab.client.getAll().prefix(`${ETCD_PREFIX}/subnets/`).keys()
      return keys.length === 1 || new Pending(keys.join(' '))
    })
    subnet = await lab.freeSubnet()
    key = leaseKey(ETCD_PREFIX, `${subnet}-24`)
    const reserve = await host.overlayctl('reserve', `--public-ip=${host.address}`, `--subnet=${subnet}/24`)
    expect(reserve.code).toBe(0)
    for (const command of [
      'user add root:hunter2',
      'user grant-role root root',
      'role add host2',
      // The host may read everything of the network, and write one key.
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
    await host.startByEtcd({
      flags: { 'etcd-username': 'host2' },
      env: { FLANNELD_ETCD_PASSWORD: 'secret' },
    })
    // The other host has made its own key anew.
    await host.waitConverged(1)
    expect((await host.subnetEnv()).subnet).toBe(`${subnet.replace(/0$/, '1')}/24`)
    const value = await asRoot('get', '--print-value-only', key)
    expect(value).toContain((await host.link()).mac)
    expect(host.daemon.output).not.toContain('secret')
  })

  test('and has no other', async () => {
    const asHost = (...args: string[]) => lab.etcd.etcdctl('--user=host2:secret', ...args)
    for (const [other, value] of [
      [`${ETCD_PREFIX}/config`, '{}'],
      [leaseKey(ETCD_PREFIX, '10.5.143.0-24'), '{}'],
    ] as const) {
      await expect(asHost('put', other, value)).rejects.toThrow('permission denied')
    }
    await expect(asHost('del', '--prefix', `${ETCD_PREFIX}/subnets/`)).rejects.toThrow('permission denied')
  })
})
