/**
 * The state file of a running host: times of writing and content. No fault of the file keeps a host from its
 * work.
 */
import { chmodSync, mkdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import {
  containerOf,
  copyDisk,
  editState,
  keyOf,
  powerCut,
  remembered,
  savedState,
  stateFileOf,
} from '../../lab/faults'
import { type Host, Lab, NETWORK_CONFIG } from '../../lab/lab'
import { fakePeer, leaseValue } from '../../lab/leases'
import { patient } from '../../lab/patience'

jest.setTimeout(patient(60_000))

const PEER = fakePeer(0)

let lab: Lab
let host: Host

beforeEach(async () => {
  lab = await Lab.create({ hosts: 2 })
  await lab.putPeers(PEER)
  host = lab.host(1)
  host.start()
  await host.waitConverged(1)
  await remembered(host, 1)
})
afterEach(() => lab?.close())

/** Whether there is a file that the daemon has written since it was started. */
function isGood(on: Host, spoiledAt: number): boolean {
  const { mode, mtimeMs } = statSync(stateFileOf(on))
  return (
    (mode & 0o777) === 0o600 &&
    mtimeMs >= spoiledAt &&
    /"ttlSeconds"/.test(readFileSync(stateFileOf(on), 'utf8'))
  )
}

test('it holds what it takes to come up again, and is the daemon’s alone', async () => {
  const own = await keyOf(lab, host)
  const state = await savedState(host)
  const { mac } = await host.link()
  expect(state).toMatchObject({
    prefix: '/coreos.com/network',
    config: { text: NETWORK_CONFIG },
    own: { ...own, state: 'held', renewal: { ttlSeconds: 86_400 } },
    macs: { ipv4: mac },
    host: { ipv4: { local: host.address, public: host.address } },
  })
  expect(state.peers).toEqual([[expect.stringMatching(/10\.5\.150\.0-24$/), leaseValue(PEER)]])
  expect(statSync(stateFileOf(host)).mode & 0o777).toBe(0o600)
  // The daemon may just have written the file once more.
  await host.waitUntil('status and file of one time', async () => {
    const [status, { savedAt }] = [await host.status(), await savedState(host)]
    return 'stateFile' in status && status.stateFile?.inUse === false && status.stateFile.savedAt === savedAt
  })
})

test('changes of peers and a key that is made anew are in it soon, and at the end at once', async () => {
  const [came, changed] = [fakePeer(1), { ...PEER, mac: '02:fa:4e:00:01:00' }]
  await lab.putPeers(came, changed)
  await savedState(
    host,
    ({ peers }) => peers.length === 2 && peers.some(([, value]) => value === leaseValue(changed)),
  )
  await lab.deletePeer(came)
  await host.waitConverged(1)
  await host.stop('SIGTERM')
  expect((await savedState(host)).peers).toHaveLength(1)
  host.start()
  await host.waitConverged(1)
  const before = await keyOf(lab, host)
  await lab.client.delete().key(before.key)
  await host.waitUntil('the key again', async () => (await keyOf(lab, host)).etcdLease !== undefined)
  const { etcdLease } = await keyOf(lab, host)
  await savedState(
    host,
    ({ own }) => own.etcdLease === etcdLease && own.state === 'held' && own.renewal !== undefined,
  )
})

test('a peer that turned bad is remembered as it was last good', async () => {
  const [key] = (await savedState(host)).peers[0] ?? []
  await lab.client.put(key ?? '').value('garbage')
  await host.waitForStatus('rejected', ({ peers }) => peers.some(({ reason }) => reason !== undefined))
  await host.stop()
  expect((await savedState(host)).peers).toEqual([[key, leaseValue(PEER)]])
})

describe('starts without it, says why, and writes a good one:', () => {
  const spoiled: readonly (readonly [string, (host: Host) => void | Promise<void>, RegExp])[] = [
    ['torn', (on) => truncateSync(stateFileOf(on), 100), /truncated/],
    ['empty', (on) => truncateSync(stateFileOf(on), 0), /truncated/],
    ['garbled', (on) => writeFileSync(stateFileOf(on), Buffer.from([1, 2, 255])), /truncated/],
    ['of another version', (on) => replace(on, '"version":1', '"version":99'), /version 1/],
    ['changed by hand', (on) => replace(on, '10.5.150.0', '10.5.151.0'), /digest/],
    ['open to others', (on) => chmodSync(stateFileOf(on), 0o644), /mode 644/],
    [
      'of another network',
      (on) => editState(on, (state) => ({ ...state, prefix: '/other' })),
      /network at \/other/,
    ],
    [
      'with a lease that cannot be read',
      (on) => editState(on, (state) => ({ ...state, own: { ...state.own, value: '{' } })),
      /cannot be read/,
    ],
  ]
  const replace = (on: Host, from: string, to: string): void =>
    writeFileSync(stateFileOf(on), readFileSync(stateFileOf(on), 'utf8').replace(from, to))

  test('each kind', async () => {
    const before = { key: await keyOf(lab, host), link: await host.link() }
    for (const [, spoil, reason] of spoiled) {
      await host.stop()
      await spoil(host)
      const spoiledAt = Date.now()
      host.start()
      await host.waitConverged(1)
      expect(host.daemon.output).toMatch(reason)
      expect(host.daemon.output).toMatch(/warn {2}state: .*starting without it/)
      await host.waitUntil('a good file', async () => isGood(host, spoiledAt))
      expect({ key: await keyOf(lab, host), link: await host.link() }).toEqual(before)
    }
  })

  test('and while etcd is away nothing is made of it', async () => {
    await lab.etcd.kill()
    for (const [, spoil, reason] of spoiled) {
      await powerCut(host)
      const good = readFileSync(stateFileOf(host))
      await spoil(host)
      host.start()
      const { stateFile } = await host.waitForStatus(
        'refused',
        (status) => status.stateFile?.problem !== undefined,
      )
      expect(stateFile?.problem).toMatch(reason)
      await host.waitForStatus('etcd away', ({ etcd }) => etcd.error !== undefined)
      await expect(host.link()).rejects.toThrow(/does not exist/)
      chmodSync(stateFileOf(host), 0o600)
      writeFileSync(stateFileOf(host), good)
      await host.stop('SIGKILL')
    }
  })

  test('a file of another host is not taken for one’s own', async () => {
    const other = lab.host(2)
    copyDisk(host, other)
    await lab.etcd.kill()
    other.start()
    const { stateFile } = await other.waitForStatus(
      'refused',
      (status) => status.stateFile?.problem !== undefined,
    )
    expect(stateFile?.problem).toMatch(/written by another host, or at another address/)
  })
})

test('a directory that cannot be written is a problem in status and log, and nothing else', async () => {
  await host.stop()
  rmSync(host.stateDirectory, { recursive: true })
  writeFileSync(host.stateDirectory, '')
  host.start()
  const status = await host.waitForStatus(
    'the problem',
    ({ daemon, stateFile, etcd }) =>
      daemon.phase === 'running' && stateFile?.problem !== undefined && etcd.connected,
  )
  expect(status).toMatchObject({
    state: 'degraded',
    convergence: { converged: true },
    lease: { state: 'held' },
  })
  expect(status.problems).toEqual([
    expect.stringMatching(/^state: .*cannot be (read|written|used)|--state-dir/),
  ])
  await host.addContainer()
  expect(containerOf(host).address).toMatch(/^10\.5\./)
  // The problem ends by itself.
  await host.stop()
  rmSync(host.stateDirectory)
  mkdirSync(host.stateDirectory, { mode: 0o700 })
  host.start()
  await remembered(host, 1)
  await host.waitConverged(1)
})
