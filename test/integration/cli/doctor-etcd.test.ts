/**
 * What the doctor says of etcd: absent, mute, slow, forbidden, with an expiring certificate, with another
 * clock.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CertificateAuthority } from '../../lab/certificates'
import { type Etcd, startEtcd } from '../../lab/etcd'
import { assertSandbox } from '../../lab/namespace'
import { patient } from '../../lab/patience'
import { run } from '../../lab/process'
import { OVERLAYCTL } from '../../lab/programs'
import { codesOf, readReport, withSwiftEtcd } from '../../support/doctor'

jest.setTimeout(patient(60_000))

const closing: (() => unknown)[] = []

let etcd: Etcd
beforeAll(async () => {
  assertSandbox()
  etcd = await startEtcd()
  closing.push(() => etcd.stop())
})
afterAll(async () => {
  for (const close of closing.reverse()) await close()
})

/** The doctor examines etcd alone: these tests have no host. */
const examine = (endpoint: string, ...flags: string[]) => withSwiftEtcd(() => examineOnce(endpoint, ...flags))

async function examineOnce(endpoint: string, ...flags: string[]) {
  const { code, stdout, stderr } = await run([
    process.execPath,
    OVERLAYCTL,
    ...['doctor', '-o', 'json', '--only=etcd,certificates,clock', `--etcd-endpoints=${endpoint}`],
    ...flags,
  ])
  return readReport(code, stdout, stderr)
}

/** A server in front of etcd that changes or delays etcd's answers. */
async function before(target: string, answer: (chunk: Buffer, pass: (chunk: Buffer) => void) => void) {
  const { hostname, port } = new URL(target)
  const server: Server = createServer((client) => {
    const upstream = connect(Number(port), hostname)
    const end = () => {
      client.destroy()
      upstream.destroy()
    }
    for (const socket of [client, upstream]) socket.on('error', end).on('close', end)
    client.on('data', (chunk) => upstream.write(chunk))
    upstream.on('data', (chunk) => answer(chunk, (changed) => client.write(changed)))
  })
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  closing.push(() => server.close())
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

test('well', async () => {
  const report = await examine(etcd.endpoint)
  expect(codesOf(report)).toEqual([])
  expect(report.checks.map(({ state }) => state)).toEqual(['ok', 'ok', 'ok'])
})

test('not there', async () => {
  expect(codesOf(await examine('http://127.0.0.1:1'))).toEqual(['etcd-unreachable'])
})

test('there, and mute', async () => {
  etcd.pause()
  try {
    expect(codesOf(await examine(etcd.endpoint))).toEqual(['etcd-timeout'])
  } finally {
    etcd.resume()
  }
})

test('slow', async () => {
  const slow = await before(etcd.endpoint, (chunk, pass) => setTimeout(() => pass(chunk), 150))
  expect(codesOf(await examineOnce(slow))).toEqual(['etcd-slow'])
})

test('of another time', async () => {
  const late = await before(etcd.endpoint, (chunk, pass) => {
    // An hour before the answer, however long the doctor took until the question.
    const past = new Date(Date.now() - 3_600_000).toUTCString()
    const answer = chunk.toString('latin1').replace(/^Date: .*?\r$/m, `Date: ${past}\r`)
    pass(Buffer.from(answer, 'latin1'))
  })
  const report = await examine(late)
  expect(codesOf(report)).toEqual(['clock-skew'])
  expect(report.checks.at(-1)?.findings[0]?.what).toMatch(/clock is 3(599|600|601) s before that of etcd/)
})

describe('with TLS', () => {
  const directory = mkdtempSync(join(tmpdir(), 'doctor-'))
  const authority = new CertificateAuthority(directory)
  const server = authority.sign('server')
  const client = authority.sign('client')
  let secure: Etcd
  beforeAll(async () => {
    closing.push(() => rmSync(directory, { recursive: true, force: true }))
    secure = await startEtcd({ tls: { server, client } })
    closing.push(() => secure.stop())
  })

  test('certificates that end soon, those of both sides', async () => {
    const files = [
      `--etcd-cafile=${client.caFile}`,
      `--etcd-certfile=${client.certFile}`,
      `--etcd-keyfile=${client.keyFile}`,
    ]
    const report = await examine(secure.endpoint, ...files)
    expect(codesOf(report)).toEqual(Array(3).fill('certificate-near-expiry'))
    expect(report.verdict).toBe('warn')
    expect(report.checks.map(({ name, state }) => [name, state])).toEqual([
      ['etcd', 'ok'],
      ['certificates', 'warn'],
      ['clock', 'ok'],
    ])
  })

  test('an authority that we do not know', async () => {
    const other = new CertificateAuthority(directory, 'other')
    expect(codesOf(await examine(secure.endpoint, `--etcd-cafile=${other.caFile}`))).toContain('etcd-tls')
  })
})

test('closed to who has no password', async () => {
  await etcd.etcdctl('user', 'add', 'root:secret')
  await etcd.etcdctl('user', 'grant-role', 'root', 'root')
  await etcd.etcdctl('auth', 'enable')
  const report = await examine(etcd.endpoint)
  expect(codesOf(report)).toEqual(['etcd-refused'])
  const right = await examine(etcd.endpoint, '--etcd-username=root', '--etcd-password=secret')
  expect(codesOf(right)).toEqual([])
})
