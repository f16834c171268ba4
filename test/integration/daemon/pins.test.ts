/**
 * Pinned identities: a host signs its lease, others refuse what it has not signed last, and keep what it has.
 */
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Status } from '../../../src/api/status'
import {
  decodeLease,
  decodeLeaseValue,
  encodeLeaseValue,
  isReadable,
  unsignedText,
} from '../../../src/etcd/codec/lease-codec'
import { ipv4, parseIpv4, parseMac } from '../../../src/model/address'
import type { IdentityKey } from '../../../src/model/host-record'
import { IdentitySecret, IdentityVerifier } from '../../../src/model/identity-secret'
import type { EtcdLeaseId, LeaseValue, Revision } from '../../../src/model/lease'
import { ETCD_PREFIX, Lab } from '../../lab/lab'
import { leaseKey, leaseValue } from '../../lab/leases'
import { patient } from '../../lab/patience'
import { Pending, waitFor } from '../../lab/wait'

jest.setTimeout(patient(90_000))

const SUBNET = '10.5.41.0-24'
const KEY = leaseKey(ETCD_PREFIX, SUBNET)

let lab: Lab
let identity = ''
beforeAll(async () => {
  lab = await Lab.create({ hosts: 3 })
  await operate('reserve', `--public-ip=${lab.host(1).address}`, '--subnet=10.5.41.0/24')
  lab.host(1).start()
  lab.host(2).start()
  await Promise.all([lab.host(1).waitConverged(1), lab.host(2).waitConverged(1)])
})
afterAll(() => lab?.close())

async function operate(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await lab.host(3).overlayctl(...args)
  if (code !== 0) throw new Error(`overlayctl ${args.join(' ')}: ${stderr}`)
  return stdout
}

const valueInEtcd = async (): Promise<string | null> => lab.client.get(KEY).string()
const isSigned = async (key: string): Promise<boolean> => {
  const value = Buffer.from((await valueInEtcd()) ?? '')
  const lease = decodeLease(
    { kind: 'lease', key: KEY, name: SUBNET },
    {
      key: Buffer.from(KEY),
      value,
      modRevision: 1n as Revision,
      etcdLease: '0' as EtcdLeaseId,
      createRevision: 1n as Revision,
      isNew: false,
    },
  )
  if (!isReadable(lease) || lease.signed === undefined) return false
  return new IdentityVerifier(key as IdentityKey).isSigned(lease.signed)
}

/** Waits until host 2 has the peer of host 1, or has it not, and refuses so many leases. */
const seen = (has: boolean, refused: number): Promise<Status> =>
  lab.host(2).waitForStatus(`a peer: ${has}, refused: ${refused}`, (status) => {
    const isThere = status.peers.some(({ subnet, state }) => subnet === '10.5.41.0/24' && state === 'ok')
    return isThere === has && status.identity?.refused === refused && status.convergence.converged
  })
/** The addresses on the underlay that host 2 sends to. */
const targets = async () => (await lab.host(2).kernel()).fdb.map((entry) => entry.split(' ')[1])
const theft = () =>
  lab.client
    .put(KEY)
    .value(leaseValue({ subnet: '', publicIp: lab.host(3).address, mac: '02:00:00:00:00:66' }))

test('a host tells its identity, and keeps it in a file for itself', async () => {
  const host = lab.host(1)
  const { stdout } = await host.overlayctl('identity')
  identity = stdout.trim()
  expect(identity).toMatch(/^[\w+/]{43}=$/)
  expect((await host.overlayctl('identity')).stdout.trim()).toBe(identity)
  expect(statSync(join(host.stateDirectory, 'host-identity.pem')).mode & 0o777).toBe(0o600)
  expect(await valueInEtcd()).not.toContain('Signature')
  expect((await lab.host(3).overlayctl('identity')).stderr).toContain('overlayd does not run')
})

test('a host whose subnet is pinned signs its lease; others go on with it', async () => {
  await operate('enroll', `--public-ip=${lab.host(1).address}`, `--key=${identity}`)
  await waitFor('a signed lease', async () => (await isSigned(identity)) || new Pending('not signed'))
  const { identity: known } = await seen(true, 0)
  expect(known).toEqual({ pin: 'none', pinned: 1, refused: 0 })
  await lab.host(1).waitForStatus('its pin', ({ identity, state }) => {
    return identity?.pin === 'own' && state === 'healthy'
  })
})

test('a restart neither changes the identity nor writes the lease', async () => {
  const before = await lab.client.get(KEY).exec()
  await lab.host(1).restart()
  await lab.host(1).waitConverged(1)
  expect((await lab.client.get(KEY).exec()).kvs[0]?.mod_revision).toBe(before.kvs[0]?.mod_revision)
})

describe('a former lease of the host, with its signature', () => {
  /** The lease as the host has signed it before, by the identity in its state directory. */
  async function former(fields: Partial<LeaseValue>): Promise<string> {
    const file = readFileSync(join(lab.host(1).stateDirectory, 'host-identity.pem'), 'utf8')
    const secret = IdentitySecret.fromText(file)
    const { value: now } = decodeLeaseValue((await valueInEtcd()) ?? '')
    if (secret === undefined || now?.serial === undefined) throw new Error('no signed lease')
    const { serial, signature, ...bare } = now
    const value = { ...bare, ...fields }
    return encodeLeaseValue({ ...value, signature: secret.sign(unsignedText(value)) })
  }
  const serialInEtcd = async (): Promise<number> =>
    decodeLeaseValue((await valueInEtcd()) ?? '').value?.serial ?? 0
  const put = (value: string) => lab.client.put(KEY).value(value)
  const reason = async (): Promise<string> => {
    const status = await lab.host(2).status()
    return status instanceof Pending ? '' : (status.peers.find((peer) => peer.reason)?.reason ?? '')
  }

  test('and another address: refused, and the host writes its lease again', async () => {
    const serial = await serialInEtcd()
    expect(serial).toBeGreaterThan(Date.UTC(2020))
    const seen = lab.host(2).daemon.output.length
    const value = await former({ publicIp: parseIpv4(lab.host(3).address) ?? ipv4(0), serial: serial - 1000 })
    // Frozen, because two changes of a key that a host hears of at once are one: the former lease is in none.
    lab.host(1).daemon.signal('SIGSTOP')
    try {
      await put(value)
      await lab
        .host(2)
        .daemon.waitForOutput(/it is a former lease of its host: it was signed at/, { from: seen })
    } finally {
      lab.host(1).daemon.signal('SIGCONT')
    }
    await waitFor('the lease again', async () => {
      const found = await serialInEtcd()
      return found === serial ? true : new Pending(`serial ${found}`)
    })
    await isTaken()
    expect(await targets()).toEqual([lab.host(1).address])
    expect(lab.host(2).daemon.output.slice(seen)).not.toMatch(/peers: 1 (changed|left)/)
  })

  test.each([
    ['an older serial', (serial: number) => ({ serial: serial - 1 })],
    ['no serial, as one of an overlayd of before', () => ({})],
  ])('and %s, while the host is down: refused, also by a host that starts meanwhile', async (_, older) => {
    const serial = await serialInEtcd()
    const before = (await lab.host(2).kernel()).fdb
    await lab.host(1).stop()
    const formerMac = parseMac('02:00:00:00:00:41')
    const { value } = decodeLeaseValue((await valueInEtcd()) ?? '')
    if (value?.vtep === undefined || formerMac === undefined) throw new Error('no VXLAN data')
    await put(await former({ vtep: { ...value.vtep, mac: formerMac }, ...older(serial) }))
    await lab.host(2).waitForStatus('a refusal', ({ identity }) => identity?.refused === 1)
    expect((await lab.host(2).kernel()).fdb).toEqual(before)
    await lab.host(2).restartByEtcd()
    await lab.host(2).waitForStatus('a refusal', ({ identity }) => identity?.refused === 1)
    expect(await reason()).toContain('it is a former lease of its host')
    expect(await targets()).toEqual([])
    lab.host(1).start()
    await isTaken()
    expect((await lab.host(2).kernel()).fdb).toEqual(before)
    expect(await serialInEtcd()).toBeGreaterThanOrEqual(serial)
  })

  const isTaken = (): Promise<Status> => seen(true, 0)
})

test('a lease that another program writes over it is refused, and the host stays reachable', async () => {
  expect(await targets()).toEqual([lab.host(1).address])
  await theft()
  await lab.host(2).waitForStatus('a refusal', ({ identity }) => identity?.refused === 1)
  expect(await targets()).toEqual([lab.host(1).address])
  const status = await lab.host(2).status()
  const peer = status instanceof Pending ? undefined : status.peers.find(({ reason }) => reason !== undefined)
  expect(peer?.reason).toContain('its host has not proven the identity that is pinned: it has signed nothing')
  const { stdout } = await lab.host(2).overlayctl('events', '--kind=peer-unproven', '-o', 'json')
  expect(stdout).toContain('"kind":"peer-unproven"')
  await lab.host(1).waitForStatus('the conflict', ({ lease }) => lease?.state === 'conflict')
})

test('a host that starts meanwhile sends nothing to the thief', async () => {
  await lab.host(2).restartByEtcd()
  await lab.host(2).waitForStatus('a refusal', ({ identity }) => identity?.refused === 1)
  expect(await targets()).toEqual([])
})

test('when the key is deleted, the host writes its lease again, signed', async () => {
  await lab.client.delete().key(KEY)
  await seen(true, 0)
  expect(await isSigned(identity)).toBe(true)
})

test('another pin than the identity of the host drops the host, and both say so', async () => {
  const other = IdentitySecret.generate().publicKey()
  await operate('enroll', `--public-ip=${lab.host(1).address}`, `--key=${other}`)
  const { problems } = await lab
    .host(1)
    .waitForStatus('its problem', ({ identity }) => identity?.pin === 'other')
  expect(problems.join()).toContain('pinned to another identity')
  await lab.host(2).waitForStatus('a refusal', ({ identity }) => identity?.refused === 1)
  await waitFor('the entry to go', async () => {
    const found = await targets()
    return found.length === 0 ? true : new Pending(found.join())
  })
})

test('the end of the enrolment ends the pin: the host takes a lease without a signature', async () => {
  await operate('unenroll', '10.5.41.0/24', '--force', '--yes')
  await seen(true, 0)
  const status = await lab.host(1).waitForStatus('no pin', ({ identity }) => identity?.pin === 'none')
  expect(status.identity?.pinned).toBe(0)
  await waitFor('an unsigned lease', async () => {
    const value = await valueInEtcd()
    return value?.includes('Signature') === false ? true : new Pending(String(value))
  })
})
