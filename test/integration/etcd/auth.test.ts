/**
 * An etcd with users: tokens expire under calls, watch and KeepAlive. Refusals end when an operator removes
 * their cause.
 */

import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Registry } from '../../../src/etcd/registry'
import { describeError } from '../../../src/model/errors'
import { patient, patientSeconds } from '../../lab/patience'
import { Pending, waitFor } from '../../lab/wait'
import { ever, hostValue, PREFIX, peerValue, Site, subnetOf } from './site'
import { TcpProxy } from './tcp-proxy'

jest.setTimeout(patient(60_000))

/** Seconds without a use after which etcd forgets a token. */
const TOKEN_SECONDS = patientSeconds(1)
/** A longer time: a client that asks this seldom has a forgotten token. */
const SELDOM_MS = 1000 * TOKEN_SECONDS + 600

const ROOT = { username: 'root', password: 'hunter2' }

let site: Site
let proxy: TcpProxy

const asRoot = (...args: string[]) => site.etcd.etcdctl(`--user=${ROOT.username}:${ROOT.password}`, ...args)

beforeAll(async () => {
  site = await Site.start({ flags: ['--auth-token-ttl', String(TOKEN_SECONDS)] })
  proxy = await TcpProxy.start(site.etcd.endpoint)
  await site.etcd.etcdctl('user', 'add', 'root:hunter2')
  await site.etcd.etcdctl('user', 'grant-role', 'root', 'root')
  await site.etcd.etcdctl('role', 'add', 'flannel')
  await site.etcd.etcdctl('auth', 'enable')
})
afterAll(async () => {
  proxy.close()
  await site.stop()
})
afterEach(() => asRoot('del', '--prefix', PREFIX))

/** The logins that etcd has seen. */
const logins = async (): Promise<number> => (await site.etcd.metrics()).get('Authenticate') ?? 0

/**
 * Waits until etcd has forgotten every token that it gave so far and that nobody has used since. The
 * witness's token was used last, so etcd forgets that token last.
 */
async function waitForExpiry(): Promise<void> {
  const witness = await site.registry({ auth: ROOT })
  await witness.status(ever)
  const before = await logins()
  await waitFor(
    'the tokens to expire',
    async () => {
      await witness.status(ever)
      const now = await logins()
      return now > before ? true : new Pending(`${now} logins`)
    },
    { intervalMs: SELDOM_MS, timeoutMs: 20_000 },
  )
}

describe('a token that has expired', () => {
  test('is replaced by the call that finds out, reads and writes alike', async () => {
    const registry = await site.registry({ auth: ROOT })
    await registry.status(ever)
    await waitForExpiry()
    const created = await registry.leases.create(subnetOf('10.5.1.0'), hostValue(1), ever)
    if (created.kind !== 'created') throw new Error('taken')
    await waitForExpiry()
    expect(await registry.etcdLeases.keepAlive(created.lease.etcdLease, ever)).toMatchObject({
      ttlSeconds: 86_400,
    })
    await waitForExpiry()
    expect((await registry.snapshot(ever)).leases).toHaveLength(1)
    expect(await registry.leases.delete(created.lease, ever)).toBeUndefined()
  })

  test('does not end a watch, nor the next one after a cut: no loss, no new listing', async () => {
    const registry = await site.registry({ auth: ROOT, endpoints: proxy.endpoint })
    const follow = site.follow(registry)
    await follow.waitFor('snapshot')
    await waitForExpiry()
    await asRoot('put', `${PREFIX}/subnets/10.5.1.0-24`, peerValue(1))
    await follow.waitForEvents(1)

    await waitForExpiry()
    proxy.cut()
    await follow.waitFor('lost')
    await asRoot('put', `${PREFIX}/subnets/10.5.2.0-24`, peerValue(2))
    await follow.waitForEvents(2)
    expect(follow.updates.filter(({ kind }) => kind === 'snapshot')).toHaveLength(1)
    expect(follow.updates.filter(({ kind }) => kind === 'lost')).toHaveLength(1)
    await follow.end()
  })

  test('costs one login for many calls', async () => {
    const registry = await site.registry({ auth: ROOT })
    const before = await logins()
    const started = performance.now()
    for (let i = 0; i < 20; i++) await registry.status(ever)
    // A token lives a second or longer: each whole second may cost one more.
    const seconds = Math.floor((performance.now() - started) / 1000)
    const made = (await logins()) - before
    expect(made).toBeGreaterThanOrEqual(1)
    expect(made).toBeLessThanOrEqual(1 + seconds)
  })
})

describe('a refusal', () => {
  const refusal = async (registry: Registry): Promise<string> => {
    const error: unknown = await registry.snapshot(ever).catch((reason: unknown) => reason)
    expect(error).toMatchObject({ code: 'etcd-refused' })
    return describeError(error)
  }

  test('of the password says so, without it, and goes on when it is the right one', async () => {
    await asRoot('user', 'add', 'late:first')
    await asRoot('user', 'grant-role', 'late', 'root')
    const registry = await site.registry({ auth: { username: 'late', password: 'hunter3' } })
    const text = await refusal(registry)
    expect(text).toContain('authentication failed, invalid user ID or password')
    expect(text).toContain('FLANNELD_ETCD_PASSWORD')
    expect(text).not.toContain('hunter')
    const follow = site.follow(registry)
    expect((await follow.waitFor('lost')).error.code).toBe('etcd-refused')
    await asRoot('user', 'delete', 'late')
    await asRoot('user', 'add', 'late:hunter3')
    await asRoot('user', 'grant-role', 'late', 'root')
    await follow.waitFor('snapshot', { timeoutMs: 20_000 })
    await follow.end()
  })

  test('of a right says which, and goes on when it is granted', async () => {
    await asRoot('user', 'add', 'flannel:pass')
    await asRoot('user', 'grant-role', 'flannel', 'flannel')
    const registry = await site.registry({ auth: { username: 'flannel', password: 'pass' } })
    const text = await refusal(registry)
    expect(text).toContain('permission denied')
    expect(text).toContain('etcdctl role grant-permission ROLE readwrite PREFIX/ --prefix')
    const follow = site.follow(registry)
    await follow.waitFor('lost')

    await asRoot('role', 'grant-permission', 'flannel', 'read', `${PREFIX}/`, '--prefix')
    await follow.waitFor('snapshot', { timeoutMs: 20_000 })
    const create = () => registry.leases.create(subnetOf('10.5.3.0'), hostValue(3), ever)
    await expect(create()).rejects.toMatchObject({ code: 'etcd-refused' })

    await asRoot('role', 'grant-permission', 'flannel', 'readwrite', `${PREFIX}/`, '--prefix')
    expect(await create()).toMatchObject({ kind: 'created' })
    await follow.waitForEvents(1)
    await follow.end()
  })

  test('of those who do not say who they are', async () => {
    expect(await refusal(await site.registry())).toContain('--etcd-username')
  })
})

test('signed tokens (JWT) are replaced when they expire, or when users or roles change', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'overlayd-jwt-'))
  const [priv, pub] = [join(directory, 'key'), join(directory, 'key.pub')]
  execFileSync('openssl', ['genrsa', '-out', priv, '2048'], { stdio: 'pipe' })
  execFileSync('openssl', ['rsa', '-in', priv, '-pubout', '-out', pub], { stdio: 'pipe' })
  // A token counts from its login, used or not: none may expire before the next call.
  const ttl = patientSeconds(3)
  const signed = await Site.start({
    flags: ['--auth-token', `jwt,pub-key=${pub},priv-key=${priv},sign-method=RS256,ttl=${ttl}s`],
  })
  try {
    const { etcd } = signed
    const root = (...args: string[]) => etcd.etcdctl('--user=root:hunter2', ...args)
    await etcd.etcdctl('user', 'add', 'root:hunter2')
    await etcd.etcdctl('user', 'grant-role', 'root', 'root')
    await etcd.etcdctl('auth', 'enable')
    const registry = await signed.registry({ auth: ROOT })
    const follow = signed.follow(registry)
    await follow.waitFor('snapshot')
    for (let round = 1; round <= 3; round++) {
      await root('role', 'add', `role${round}`)
      const created = await registry.leases.create(subnetOf(`10.5.${round}.0`), hostValue(round), ever)
      expect(created.kind).toBe('created')
    }
    await follow.waitForEvents(3)
    // Operators may change something again while a call asks for its next token.
    const client = await signed.client({ auth: ROOT })
    let attempts = 0
    const answer = await client.call(
      'read a key',
      async (etcd, options) => {
        attempts += 1
        if (attempts < 4) await root('role', 'add', `another${attempts}`)
        return etcd.get('x').options(options)
      },
      ever,
      patient(10_000),
    )
    expect({ answer, attempts }).toEqual({ answer: null, attempts: 4 })
    const logins = async () => (await etcd.metrics()).get('Authenticate') ?? 0
    const before = await logins()
    await waitFor(
      'a login for a token that has expired',
      async () => {
        await registry.status(ever)
        return (await logins()) > before ? true : new Pending('none')
      },
      { intervalMs: 100, timeoutMs: 1000 * ttl + 10_000 },
    )
    await follow.end()
  } finally {
    await signed.stop()
    rmSync(directory, { recursive: true })
  }
})

test('a login is no error where etcd asks for none, and counts when it does', async () => {
  const open = await Site.start()
  try {
    const registry = await open.registry({ auth: ROOT })
    const follow = open.follow(registry)
    await follow.waitFor('snapshot')
    await open.etcd.etcdctl('user', 'add', 'root:hunter2')
    await open.etcd.etcdctl('user', 'grant-role', 'root', 'root')
    await open.etcd.etcdctl('auth', 'enable')
    expect((await registry.snapshot(ever)).leases).toEqual([])
    await open.etcd.etcdctl('--user=root:hunter2', 'put', `${PREFIX}/subnets/10.5.1.0-24`, peerValue(1))
    await follow.waitForEvents(1)
    await follow.end()
  } finally {
    await open.stop()
  }
})
