/** Prefixes that hosts announce: an address that moves, a host that dies, claims that are refused. */
import { prefixesDocumentSchema } from '../../../src/api/documents'
import { ETCD_PREFIX, type Host, Lab } from '../../lab/lab'
import { patient, patientSeconds } from '../../lab/patience'
import { Pending, waitFor } from '../../lab/wait'

jest.setTimeout(patient(120_000))

const MOVING = '10.5.240.7'
const CONFIG = JSON.stringify({
  Network: '10.5.0.0/16',
  SubnetMax: '10.5.99.0',
  Prefixes: { Allowed: ['10.5.240.0/20', '198.51.100.0/24'] },
  Backend: { Type: 'vxlan' },
})

let lab: Lab

beforeAll(async () => {
  lab = await Lab.create({ hosts: 3, config: CONFIG })
  // The last host runs before the others have a lease: only a peer of a later listing joins.
  lab.host(3).start()
  await lab.host(3).waitConverged(0)
  await lab.startAll()
  for (const host of lab.hosts) await host.addContainer()
})
afterAll(() => lab?.close())

const only = <T>([first]: readonly T[]): T => {
  if (first === undefined) throw new Error('there is none')
  return first
}

/** Stands for a container with the address. */
async function addAddress(host: Host, address: string): Promise<void> {
  await host.exec('ip', 'link', 'add', 'moving', 'type', 'bridge')
  await host.exec('ip', 'link', 'set', 'moving', 'up')
  await host.exec('ip', 'address', 'add', `${address}/32`, 'dev', 'moving')
}

async function overlayctl(host: Host, ...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await host.overlayctl(...args)
  if (code !== 0) throw new Error(`overlayctl ${args.join(' ')}: ${code}: ${stdout}${stderr}`)
  return stdout
}

async function claims(host: Host) {
  const { stdout } = await host.overlayctl('prefixes', '-o', 'json')
  return prefixesDocumentSchema.parse(JSON.parse(stdout))
}

/** `10.5.1.0-24` of a host. */
const nameOf = async (host: Host): Promise<string> => {
  const { subnet } = await host.subnetEnv()
  return subnet.replace('.1/', '.0-')
}

const route = (host: Host, prefix: string): Promise<string> => host.exec('ip', 'route', 'show', prefix)

/** Waits until a host routes a prefix to another one; `undefined`: to none. */
async function routed(host: Host, prefix: string, to: Host | undefined, timeoutMs = 10_000): Promise<void> {
  const gateway = to === undefined ? undefined : (await nameOf(to)).replace('-24', '')
  const probe = async () => {
    const found = await route(host, prefix)
    const isRight = gateway === undefined ? found === '' : found.includes(`via ${gateway} `)
    return isRight || new Pending(found)
  }
  await waitFor(`${prefix} by ${to?.name ?? 'nobody'}`, probe, { timeoutMs })
}

/** Every command that takes an address finds the host that announces it. */
async function isFound(from: Host, at: Host): Promise<void> {
  const subnet = (await nameOf(at)).replace('-', '/')
  const said = `${MOVING} is in the announced prefix ${MOVING}/32 of ${subnet}`
  const peers = await overlayctl(from, 'peers', MOVING)
  expect(peers).toContain(`${said}\n1 ok of 2 peers\n`)
  await from.waitUntil('a status of a healthy host', async () => {
    const { code, stdout } = await from.overlayctl('status', `--match=${MOVING}`)
    return code === 0 && stdout.includes(said)
  })
  expect(await overlayctl(from, 'ping', MOVING, '--count=1')).toContain(said)
  expect(await overlayctl(from, 'events', `--peer=${MOVING}`, '--kind=peer-joined')).toContain(subnet)
  const report = await from.overlayctl('doctor', '--only=reach', `--peer=${MOVING}`, '-o', 'json')
  expect(JSON.parse(report.stdout)).toMatchObject({
    sought: said,
    peers: expect.arrayContaining([expect.objectContaining({ subnet, reach: 'ok' })]),
  })
  const evicted = await from.overlayctl('evict', `${MOVING}/32`, '--yes')
  expect(evicted).toMatchObject({ code: 1, stderr: expect.stringContaining(`overlayctl evict ${subnet}`) })
}

test('an address moves to another host, and no packet of a ping is lost', async () => {
  const [first, second, third] = [lab.host(1), lab.host(2), lab.host(3)]
  await addAddress(first, MOVING)
  expect(await overlayctl(first, 'announce', `${MOVING}/32`)).toMatch(/^announced: 10\.5\.240\.7\/32/)
  await routed(third, MOVING, first)
  await isFound(third, first)
  const ping = await lab.startPing(only(third.containers), { address: MOVING })
  await addAddress(second, MOVING)
  await overlayctl(second, 'announce', `${MOVING}/32`, '--priority=200')
  await routed(third, MOVING, second)
  const { prefixes, allowed } = await claims(third)
  expect(allowed).toEqual(['10.5.240.0/20', '198.51.100.0/24'])
  expect(prefixes).toEqual([
    expect.objectContaining({ host: await nameOf(second), state: 'wins', priority: 200, own: false }),
    expect.objectContaining({
      host: await nameOf(first),
      state: 'waits',
      reason: `${await nameOf(second)} announces it with priority 200`,
    }),
  ])
  await overlayctl(first, 'withdraw', `${MOVING}/32`)
  await first.exec('ip', 'link', 'delete', 'moving')
  await routed(first, MOVING, second)
  expect(await ping.stop()).toMatchObject({ lost: 0 })
})

test('a route that somebody deletes comes back, and stays when the daemon restarts', async () => {
  const [second, third] = [lab.host(2), lab.host(3)]
  await third.exec('ip', 'route', 'delete', MOVING)
  await routed(third, MOVING, second)
  const ping = await lab.startPing(only(third.containers), { address: MOVING })
  await third.restart()
  await third.waitConverged(2)
  // What a host announces is in its state file.
  await second.restart('SIGKILL')
  await second.waitConverged(2)
  expect(await ping.stop()).toMatchObject({ lost: 0 })
  expect((await claims(second)).prefixes).toEqual([
    expect.objectContaining({ host: await nameOf(second), own: true, state: 'wins', priority: 200 }),
  ])
})

test('what may not be announced is refused, and shown with its reason where it is in etcd all the same', async () => {
  const [first, third] = [lab.host(1), lab.host(3)]
  const name = await nameOf(first)
  for (const [prefix, reason] of [
    [name.replace('-', '/'), /inside of no range that the network config allows/],
    ['192.168.77.0/24', /inside of no range/],
    ['0.0.0.0/0', /inside of no range/],
    ['10.5.240.7/24', /not a prefix without host bits/],
  ] as const) {
    const { code, stderr } = await first.overlayctl('announce', prefix)
    expect(code).not.toBe(0)
    expect(stderr).toMatch(reason)
  }
  const key = `${ETCD_PREFIX}/overlay/prefixes/${name}/192.0.2.0-24`
  await lab.client.put(key).value('{"priority":9}')
  await lab.client.put(`${ETCD_PREFIX}/overlay/prefixes/${name}/x`).value('{}')
  const seen = await waitFor('both', async () => {
    const { prefixes } = await claims(third)
    const amiss = prefixes.filter(({ state }) => state === 'refused' || state === 'unreadable')
    return amiss.length === 2 ? amiss : new Pending(JSON.stringify(prefixes))
  })
  expect(seen).toEqual([
    expect.objectContaining({ prefix: '192.0.2.0/24', host: name, state: 'refused' }),
    expect.objectContaining({ prefix: `${name}/x`, state: 'unreadable' }),
  ])
  expect(seen[0]?.reason).toMatch(/inside of no range that the network config allows/)
  expect(await route(third, '192.0.2.0/24')).toBe('')
  expect((await third.overlayctl('prefixes')).code).toBe(1)
  await lab.client.delete().prefix(`${ETCD_PREFIX}/overlay/prefixes/${name}/`)
})

test('an announcement ends with its time', async () => {
  const [first, third] = [lab.host(1), lab.host(3)]
  const seconds = patientSeconds(3)
  await overlayctl(first, 'announce', '198.51.100.0/25', `--for=${seconds}s`)
  await routed(third, '198.51.100.0/25', first)
  await routed(third, '198.51.100.0/25', undefined, seconds * 1000 + 10_000)
  await waitFor('no key', async () => {
    const keys = await lab.client
      .getAll()
      .prefix(`${ETCD_PREFIX}/overlay/prefixes/${await nameOf(first)}/`)
      .keys()
    return keys.length === 0 || new Pending(keys.join())
  })
})

test('the prefixes of a host that dies go with its lease, and the next host gets them', async () => {
  const [first, second, third] = [lab.host(1), lab.host(2), lab.host(3)]
  await overlayctl(first, 'announce', `${MOVING}/32`)
  await overlayctl(second, 'announce', '198.51.100.0/24')
  await routed(third, '198.51.100.0/24', second)
  const { etcdLease } =
    (await second.waitForStatus('a lease', ({ lease }) => lease?.etcdLease !== undefined)).lease ?? {}
  await second.stop('SIGKILL')
  const id = BigInt(`0x${etcdLease}`).toString()
  await lab.client.leaseClient.leaseRevoke({ ID: id })
  await routed(third, MOVING, first)
  await routed(third, '198.51.100.0/24', undefined)
})
