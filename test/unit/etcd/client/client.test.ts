import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { openEtcd } from '../../../../src/etcd/client/client'
import { loadTls, TlsSource } from '../../../../src/etcd/client/tls'
import { CertificateAuthority } from '../../../lab/certificates'

test.each([
  [{ endpoints: '' }, 'no etcd endpoint'],
  [{ endpoints: 'https://a', tls: { caFile: '/nowhere/ca.pem' } }, '/nowhere/ca.pem'],
  [
    { endpoints: 'https://a', tls: { certFile: 'cert.pem' } },
    '--etcd-certfile is given without --etcd-keyfile',
  ],
  [{ endpoints: 'http://a', tls: { keyFile: 'key.pem' } }, '--etcd-keyfile is given without --etcd-certfile'],
  [{ endpoints: 'http://a', auth: { username: 'u', password: '' } }, 'without --etcd-password'],
  [{ endpoints: 'http://a', auth: { username: '', password: 'p' } }, 'without --etcd-username'],
])('%j is refused before anything is sent', async (options, message) => {
  await expect(openEtcd(options)).rejects.toMatchObject({
    code: 'etcd-options',
    message: expect.stringContaining(message),
  })
})

test('TLS files are not read for http:// endpoints, as with flannel, and a warning says so', async () => {
  const warnings: string[] = []
  const log = { info() {}, warn: (message: string) => warnings.push(message) }
  const client = await openEtcd({ endpoints: 'http://a', tls: { caFile: '/nowhere/ca.pem' } }, log)
  client.close()
  expect(client.endpoint).toBe('http://a:2379')
  expect(warnings).toEqual([expect.stringContaining('the connection to http://a:2379 is plain text')])
})

test('a call that fails at the end of its deadline says why, and is not tried again for the rest', async () => {
  const client = await openEtcd({ endpoints: 'http://127.0.0.1:1' })
  let tries = 0
  const attempt = async (_: unknown, options: { deadline?: Date | number }): Promise<never> => {
    tries += 1
    await sleep(Number(options.deadline) - Date.now() - 10)
    throw Object.assign(new Error('14 UNAVAILABLE: connect ETIMEDOUT 127.0.0.1:1'), { code: 14 })
  }
  try {
    await expect(client.call('read it', attempt, new AbortController().signal, 300)).rejects.toMatchObject({
      code: 'etcd-unreachable',
      message: expect.stringContaining('nothing listens on port 1 there'),
    })
    expect(tries).toBe(1)
  } finally {
    client.close()
  }
})

describe('TLS', () => {
  let directory: string
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'overlayd-tls-'))
  })
  afterAll(() => rmSync(directory, { recursive: true }))

  test('accepts a CA alone, or with a client certificate', () => {
    const { caFile, certFile, keyFile } = new CertificateAuthority(directory).sign('client')
    expect(loadTls({ caFile, certFile: '', keyFile: '' })).toEqual({ rootCertificate: readFileSync(caFile) })
    expect(loadTls({ caFile, certFile, keyFile })).toEqual({
      rootCertificate: readFileSync(caFile),
      certChain: readFileSync(certFile),
      privateKey: readFileSync(keyFile),
    })
  })

  test('refuses files that cannot be used, and names them', () => {
    const authority = new CertificateAuthority(directory)
    const { caFile, certFile } = authority.sign('client')
    const other = authority.sign('other')
    const garbage = join(directory, 'garbage.pem')
    writeFileSync(garbage, 'garbage')
    expect(() => loadTls({ caFile: garbage })).toThrow(`the CA file ${garbage} of etcd cannot be used`)
    expect(() => loadTls({ caFile, certFile, keyFile: other.keyFile })).toThrow(
      `the certificate ${certFile} with the key ${other.keyFile} of etcd cannot be used`,
    )
  })

  test('reads files again when they change; a broken file is reported once and changes nothing', () => {
    const authority = new CertificateAuthority(directory)
    const files = authority.sign('client')
    const source = new TlsSource(files)
    const first = source.credentials
    expect(source.refresh()).toBe(false)
    writeFileSync(files.keyFile, 'half a')
    expect(() => source.refresh()).toThrow('cannot be used')
    expect(source.refresh()).toBe(false)
    rmSync(files.keyFile)
    expect(() => source.refresh()).toThrow('cannot be read')
    expect(source.credentials).toBe(first)
    authority.sign('client')
    expect(source.refresh()).toBe(true)
    expect(source.credentials.certChain).not.toEqual(first.certChain)
    expect(source.refresh()).toBe(false)
  })

  test('notices a symlink that points elsewhere, which is how orchestrators replace files', () => {
    const authority = new CertificateAuthority(directory)
    const [one, two] = [authority.sign('one'), authority.sign('two')]
    const link = join(directory, 'link.pem')
    symlinkSync(one.caFile, link)
    const source = new TlsSource({ caFile: link })
    rmSync(link)
    symlinkSync(two.certFile, link)
    expect(source.refresh()).toBe(true)
  })

  test("uses the system's root certificates without a CA", () => {
    expect(loadTls({}).rootCertificate.toString()).toContain('BEGIN CERTIFICATE')
  })
})
