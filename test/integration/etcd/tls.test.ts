/**
 * TLS with a real etcd: trust in both directions, certificates that are replaced under way, several members.
 */
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { certificateLives } from '../../../src/etcd/client/tls'
import type { OverlayError } from '../../../src/model/errors'
import { CertificateAuthority, type SignedFiles } from '../../lab/certificates'
import { clusterTimes, type Etcd, startEtcd } from '../../lab/etcd'
import { patient } from '../../lab/patience'
import { Pending, waitFor } from '../../lab/wait'
import { ever, PREFIX, peerValue, Site } from './site'
import { TcpProxy } from './tcp-proxy'

jest.setTimeout(patient(60_000))

let directory: string
let authority: CertificateAuthority
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'overlayd-tls-'))
  authority = new CertificateAuthority(directory)
})
afterAll(() => rmSync(directory, { recursive: true }))

const key = (subnet: string) => `${PREFIX}/subnets/${subnet}`

/** A log that keeps its lines. */
function record() {
  const lines: string[] = []
  const push = (line: string) => lines.push(line)
  return { lines, log: { info: push, warn: push } }
}

describe('an etcd that asks nobody for a certificate', () => {
  let site: Site
  beforeAll(async () => {
    site = await Site.start({ tls: { server: authority.sign('server') } })
  })
  afterAll(() => site.stop())

  test('is reached with its CA alone', async () => {
    const registry = await site.registry({ tls: { caFile: authority.caFile } })
    expect((await registry.status(ever)).endpoint).toBe(site.etcd.endpoint)
    const follow = site.follow(registry)
    await follow.waitFor('snapshot')
    await site.etcd.etcdctl('put', key('10.5.1.0-24'), peerValue(1))
    await follow.waitForEvents(1)
    await follow.end()
  })

  test('is not trusted without it, nor with another one', async () => {
    const other = new CertificateAuthority(directory, 'other-ca')
    for (const tls of [{}, { caFile: other.caFile }]) {
      const registry = await site.registry({ tls })
      await expect(registry.status(ever)).rejects.toMatchObject({
        code: 'etcd-tls',
        fix: expect.stringContaining('--etcd-cafile'),
      })
    }
  })
})

describe('an etcd that asks for a certificate', () => {
  let etcd: Etcd
  let site: Site
  let client: SignedFiles
  beforeAll(async () => {
    client = authority.sign('client')
    site = await Site.start({ tls: { server: authority.sign('server'), client } })
    etcd = site.etcd
  })
  afterAll(() => site.stop())

  test('lets in who shows one, by several endpoints of which one is dead', async () => {
    for (let i = 0; i < 5; i++) {
      const registry = await site.registry({ endpoints: `https://127.0.0.1:1,${etcd.endpoint}`, tls: client })
      expect((await registry.status(ever)).endpoint).toBe(etcd.endpoint)
    }
  })

  test('lets nobody else in', async () => {
    const registry = await site.registry({ tls: { caFile: authority.caFile } })
    await expect(registry.status(ever)).rejects.toMatchObject({ code: 'etcd-tls' })
  })

  test('takes the name in the certificate for a user', async () => {
    await etcd.etcdctl('user', 'add', 'root:hunter2')
    await etcd.etcdctl('user', 'grant-role', 'root', 'root')
    await etcd.etcdctl('auth', 'enable')
    try {
      const registry = await site.registry({ tls: authority.sign('named', 'root') })
      expect((await registry.snapshot(ever)).leases).toEqual([])
      const nobody = await site.registry({ tls: client })
      await expect(nobody.snapshot(ever)).rejects.toMatchObject({ code: 'etcd-refused' })
    } finally {
      await etcd.etcdctl('--user=root:hunter2', 'auth', 'disable')
    }
  })
})

test('the ends of certificates are read from the files, and files that are none cost nothing', () => {
  const files = authority.sign('short-lived')
  const lives = certificateLives(files)
  expect(lives.map(({ file, subject }) => [file, subject])).toEqual([
    ['client', 'CN=short-lived'],
    ['ca', 'CN=ca'],
  ])
  // The certificate is valid for two days.
  for (const { notAfter } of lives) expect(notAfter * 1000 - Date.now()).toBeGreaterThan(86_400_000)
  for (const { notAfter } of lives) expect(notAfter * 1000 - Date.now()).toBeLessThan(3 * 86_400_000)
  writeFileSync(files.certFile, 'no certificate')
  expect(certificateLives({ ...files, caFile: join(directory, 'missing.pem') })).toEqual([])
})

test('nothing below TLS 1.2 is spoken', async () => {
  const site = await Site.start()
  const { certFile, keyFile } = authority.sign('server')
  const start = (version: 'TLSv1.1' | 'TLSv1.2') =>
    TcpProxy.start(site.etcd.endpoint, {
      cert: readFileSync(certFile),
      key: readFileSync(keyFile),
      minVersion: version,
      maxVersion: version,
      ciphers: 'ALL:@SECLEVEL=0',
    })
  const proxies = [await start('TLSv1.1'), await start('TLSv1.2')] as const
  try {
    const [old, good] = await Promise.all(
      proxies.map(({ address }) =>
        site.registry({ endpoints: `https://${address}`, tls: { caFile: authority.caFile } }),
      ),
    )
    await expect(good?.status(ever)).resolves.toBeDefined()
    await expect(old?.status(ever)).rejects.toMatchObject({ code: 'etcd-tls' })
  } finally {
    for (const proxy of proxies) proxy.close()
    await site.stop()
  }
})

describe('certificates that are replaced', () => {
  let site: Site
  let proxy: TcpProxy
  const files = () => ({
    caFile: join(directory, 'used-ca.pem'),
    certFile: join(directory, 'used.pem'),
    keyFile: join(directory, 'used.key'),
  })
  /** Writes a key pair and the CA to the files that the client reads. */
  const install = (pair: SignedFiles) => {
    copyFileSync(pair.caFile, files().caFile)
    copyFileSync(pair.certFile, files().certFile)
    copyFileSync(pair.keyFile, files().keyFile)
  }

  beforeAll(async () => {
    site = await Site.start()
    const server = authority.sign('server')
    proxy = await TcpProxy.start(site.etcd.endpoint, {
      ca: readFileSync(server.caFile),
      cert: readFileSync(server.certFile),
      key: readFileSync(server.keyFile),
      requestCert: true,
    })
  })
  afterAll(async () => {
    proxy.close()
    await site.stop()
  })

  test('are taken up by what is open already too, and nothing is lost or told twice', async () => {
    install(authority.sign('one'))
    const { lines, log } = record()
    const registry = await site.registry(
      { endpoints: `https://${proxy.address}`, tls: files(), tlsLookMs: 20 },
      log,
    )
    const follow = site.follow(registry)
    await follow.waitFor('snapshot')
    await site.put('subnets/10.5.1.0-24', peerValue(1))
    await follow.waitForEvents(1)
    expect(new Set(proxy.clientNames)).toEqual(new Set(['one']))

    install(authority.sign('two'))
    await waitFor('a connection with the new certificate', () =>
      proxy.clientNames.includes('two') ? true : new Pending(proxy.clientNames.join(' ')),
    )
    await site.put('subnets/10.5.2.0-24', peerValue(2))
    await follow.waitForEvents(2)
    expect(follow.updates.map(({ kind }) => kind)).toEqual(['snapshot', 'events', 'events'])
    expect(lines.at(-1)).toContain('the TLS files have changed')
    await registry.status(ever)
    expect(proxy.clientNames.at(-1)).toBe('two')
    await follow.end()
  })

  test('and cannot be used change nothing, and that is told', async () => {
    install(authority.sign('one'))
    const { lines, log } = record()
    const registry = await site.registry(
      { endpoints: `https://${proxy.address}`, tls: files(), tlsLookMs: 20 },
      log,
    )
    await registry.status(ever)
    writeFileSync(files().certFile, 'half of a')
    await waitFor('a warning', () =>
      lines.some((line) => line.includes('the previous certificates stay in use'))
        ? true
        : new Pending(lines.join(' ')),
    )
    const before = proxy.clientNames.length
    proxy.cut()
    await waitFor('a connection all the same', async () => {
      await registry.status(ever).catch(() => {})
      return proxy.clientNames.length > before ? true : new Pending('none')
    })
    expect(proxy.clientNames.at(-1)).toBe('one')
  })

  test('on both sides: a new authority is trusted without a restart', async () => {
    const next = new CertificateAuthority(directory, 'next-ca')
    const server = authority.sign('rotating')
    const etcd = await startEtcd({ tls: { server } })
    install(authority.sign('one'))
    try {
      const registry = await site.registry({
        endpoints: etcd.endpoint,
        tls: { caFile: files().caFile },
        tlsLookMs: 20,
      })
      const follow = site.follow(registry)
      await follow.waitFor('snapshot')
      // etcd reads its own certificate at each handshake.
      next.sign('rotating')
      await etcd.restart()
      const { error } = await follow.waitFor('lost')
      expect(['etcd-unreachable', 'etcd-tls']).toContain(error.code)
      // A connection that was refused while etcd started is tried again after a while.
      await waitFor('a refusal of the certificate', async () => {
        const code = await registry.status(ever).then(
          () => 'none',
          (refusal: OverlayError) => refusal.code,
        )
        return code === 'etcd-tls' || new Pending(code)
      })
      const from = follow.updates.length
      copyFileSync(next.caFile, files().caFile)
      await follow.waitFor('events', { from })
      await registry.status(ever)
      await follow.end()
    } finally {
      await etcd.stop()
    }
  })
})

test('of three members one may die, also the one in use', async () => {
  const names = ['a', 'b', 'c']
  const cluster = names.map((name, i) => `${name}=http://127.0.0.1:${13_382 + i}`).join(',')
  const server = authority.sign('member')
  const times = clusterTimes()
  const members = await Promise.all(
    names.map((name, i) =>
      startEtcd({
        clientPort: 13_379 + i,
        peerPort: 13_382 + i,
        tls: { server },
        flags: ['--name', name, '--initial-cluster', cluster, ...times],
      }),
    ),
  )
  const site = await Site.start()
  try {
    const endpoints = members.map(({ endpoint }) => endpoint).join(',')
    const registry = await site.registry({ endpoints, tls: { caFile: authority.caFile } })
    const follow = site.follow(registry)
    await follow.waitFor('snapshot')
    const { endpoint } = await registry.status(ever)
    const used = members.find((member) => member.endpoint === endpoint)
    const other = members.find((member) => member !== used)
    await used?.kill()
    await waitFor('a write by the others', async () => {
      try {
        await other?.etcdctl('put', key('10.5.7.0-24'), peerValue(7))
        return true
      } catch (error) {
        return new Pending(String(error))
      }
    })
    await follow.waitForEvents(1)
    expect((await registry.status(ever)).endpoint).not.toBe(endpoint)
    expect(follow.updates.filter(({ kind }) => kind === 'snapshot')).toHaveLength(1)
    await follow.end()
  } finally {
    await Promise.all(members.map((member) => member.stop()))
    await site.stop()
  }
})
