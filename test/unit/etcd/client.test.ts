import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openEtcd } from '../../../src/etcd/client'
import { loadTls } from '../../../src/etcd/tls'

test.each([
  [{ endpoints: '' }, 'no etcd endpoint'],
  [{ endpoints: 'https://a', tls: { caFile: '/nowhere/ca.pem' } }, '/nowhere/ca.pem'],
  [{ endpoints: 'https://a', tls: { certFile: 'cert.pem' } }, 'only one of'],
])('%j is refused before anything is sent', async (options, message) => {
  await expect(openEtcd(options)).rejects.toMatchObject({
    code: 'etcd-options',
    message: expect.stringContaining(message),
  })
})

test('TLS files are not read for http:// endpoints, as with flannel', async () => {
  const client = await openEtcd({ endpoints: 'http://a', tls: { caFile: '/nowhere/ca.pem' } })
  client.close()
  expect(client.endpoint).toBe('http://a:2379')
})

describe('TLS', () => {
  let directory: string
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'overlayd-tls-'))
  })
  afterAll(() => rmSync(directory, { recursive: true }))
  const file = (name: string) => {
    const path = join(directory, name)
    writeFileSync(path, name)
    return path
  }

  test('takes a CA alone, or with a client certificate', () => {
    const [caFile, certFile, keyFile] = [file('ca'), file('cert'), file('key')]
    expect(loadTls({ caFile, certFile: '', keyFile: '' })).toEqual({ rootCertificate: Buffer.from('ca') })
    expect(loadTls({ caFile, certFile, keyFile })).toEqual({
      rootCertificate: Buffer.from('ca'),
      certChain: Buffer.from('cert'),
      privateKey: Buffer.from('key'),
    })
  })

  test("without a CA takes the system's roots", () => {
    expect(loadTls({}).rootCertificate.toString()).toContain('BEGIN CERTIFICATE')
  })
})
