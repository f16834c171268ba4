/**
 * Ownership of leases: hosts move, are installed again, are copied, or share an address. No host overwrites
 * the lease of a live host.
 */
import { rmSync } from 'node:fs'
import {
  containerOf,
  copyDisk,
  cutFromEtcd,
  keyOf,
  powerCut,
  reconnectEtcd,
  remembered,
  stateFileOf,
} from '../../lab/faults'
import { ETCD_PREFIX, type Host, Lab } from '../../lab/lab'
import { fakePeer, leaseKey, leaseValue } from '../../lab/leases'
import { patient } from '../../lab/patience'

jest.setTimeout(patient(90_000))

let lab: Lab

beforeEach(async () => {
  lab = await Lab.create({ hosts: 3 })
})
afterEach(() => lab?.close())

/** Starts the first two hosts and waits until they have each other. */
async function startTwo(): Promise<readonly [Host, Host]> {
  const [first, second] = [lab.host(1), lab.host(2)]
  first.start()
  second.start()
  await lab.waitConverged(0, 30_000)
  for (const host of [first, second]) {
    await host.addContainer()
    await remembered(host, 1)
  }
  return [first, second]
}

async function changeAddress(host: Host, address: string): Promise<void> {
  await host.exec('ip', 'address', 'delete', `${host.address}/24`, 'dev', 'eth0')
  await host.exec('ip', 'address', 'add', `${address}/24`, 'dev', 'eth0')
  await host.exec('ip', 'route', 'replace', 'default', 'via', '192.168.77.1')
}

const inConflict = (host: Host) =>
  host.waitForStatus('a conflict', ({ lease }) => lease?.state === 'conflict', 30_000)
const askedAnyone = (host: Host): boolean => /asking whether/.test(host.daemon.output)

/** All values that were ever put under a key, in order. */
async function history(key: string, last: number): Promise<string[]> {
  const values: string[] = []
  const [kv] = (await lab.client.get(key).exec()).kvs
  for (let revision = Number(kv?.create_revision); revision <= last; revision += 1) {
    const [then] = (await lab.client.get(key).revision(revision).exec()).kvs
    if (then !== undefined && Number(then.mod_revision) === revision) values.push(then.value.toString())
  }
  return values
}

const revisionNow = async (): Promise<number> =>
  Number((await lab.client.get('anything').exec()).header.revision)

describe('a host takes up its own lease', () => {
  test('at once, after flannel: the device that is there has its MAC', async () => {
    const [host] = lab.hosts
    if (host === undefined) throw new Error('no host')
    const mac = '02:00:00:00:aa:01'
    const own = { subnet: `${await lab.freeSubnet()}-24`, publicIp: host.address, mac }
    await lab.putPeers(own)
    await host.exec(
      'ip',
      'link',
      'add',
      'flannel.1',
      'address',
      mac,
      'type',
      'vxlan',
      'id',
      '1',
      'dstport',
      '8472',
      'local',
      host.address,
      'dev',
      'eth0',
      'nolearning',
    )
    host.start()
    const { lease } = await host.waitConverged(0, 30_000)
    expect(lease?.subnet).toBe(own.subnet.replace('-', '/'))
    expect(await host.link()).toMatchObject({ mac })
    expect(askedAnyone(host)).toBe(false)
  })

  test('at once, after a reboot: the state file knows it', async () => {
    const [host] = await startTwo()
    const before = { link: await host.link(), key: await keyOf(lab, host) }
    await powerCut(host)
    host.start()
    await host.waitConverged(1, 30_000)
    expect({ link: await host.link(), key: await keyOf(lab, host) }).toEqual(before)
    expect(askedAnyone(host)).toBe(false)
  })

  test('after it was installed again, when nobody answers for it, with another MAC', async () => {
    const [host, other] = await startTwo()
    const before = { link: await host.link(), key: await keyOf(lab, host) }
    await powerCut(host)
    rmSync(host.stateDirectory, { recursive: true })
    host.start()
    await host.waitConverged(1, 30_000)
    const after = { link: await host.link(), key: await keyOf(lab, host) }
    // The MAC is new. An owner that only could not answer must see that the lease has another owner.
    expect(after.link.mac).not.toBe(before.link.mac)
    expect(after.key).toMatchObject({ key: before.key.key, etcdLease: before.key.etcdLease })
    expect(after.key.value).toBe(before.key.value?.replace(before.link.mac, after.link.mac))
    expect(host.daemon.output).toMatch(/nobody answers for 10\.5\.\d+\.0\/24: it is ours/)
    await other.waitConverged(1, 30_000)
  })

  test('after its address changed while it was down, with the same subnet and MAC', async () => {
    const [host, other] = await startTwo()
    const before = { link: await host.link(), key: await keyOf(lab, host), env: await host.subnetEnv() }
    await powerCut(host)
    await changeAddress(host, '192.168.77.201')
    host.start()
    const { lease } = await host.waitConverged(1, 30_000)
    expect(lease).toMatchObject({ state: 'held', publicIp: '192.168.77.201' })
    expect(await host.link()).toEqual(before.link)
    expect(await host.subnetEnv()).toEqual(before.env)
    const after = await keyOf(lab, host)
    expect(after.etcdLease).toBe(before.key.etcdLease)
    expect(after.value).toBe(before.key.value?.replace(host.address, '192.168.77.201'))
    await other.waitForKernel('the new address', ({ fdb }) =>
      fdb.includes(`${before.link.mac} 192.168.77.201`),
    )
    expect(await lab.ping(containerOf(other), containerOf(host))).toMatchObject({ lost: 0 })
    expect((await lab.client.getAll().prefix(`${ETCD_PREFIX}/subnets/`).keys()).length).toBe(2)
  })

  test('after its address changed while it was down, and the state file was lost', async () => {
    const [host, other] = await startTwo()
    const before = { link: await host.link(), key: await keyOf(lab, host), env: await host.subnetEnv() }
    await host.stop('SIGKILL')
    rmSync(host.stateDirectory, { recursive: true })
    await changeAddress(host, '192.168.77.201')
    host.start()
    const { lease } = await host.waitConverged(1, 30_000)
    expect(lease).toMatchObject({ state: 'held', publicIp: '192.168.77.201' })
    expect(await host.link()).toMatchObject({ mac: before.link.mac })
    expect(await host.subnetEnv()).toEqual(before.env)
    expect(host.daemon.output).toMatch(/nobody answers for 10\.5\.\d+\.0\/24: it is ours/)
    await other.waitForKernel('the new address', ({ fdb }) =>
      fdb.includes(`${before.link.mac} 192.168.77.201`),
    )
    expect((await lab.client.getAll().prefix(`${ETCD_PREFIX}/subnets/`).keys()).length).toBe(2)
  })

  test.each(['with its state', 'without'])(
    'its device, renamed while it was down, is its own again: %s',
    async (how) => {
      const [host, other] = await startTwo()
      const before = { link: await host.link(), key: await keyOf(lab, host), kernel: await host.kernel() }
      await host.stop('SIGKILL')
      if (how === 'without') rmSync(host.stateDirectory, { recursive: true })
      await host.exec('ip', 'link', 'set', 'flannel.1', 'down')
      await host.exec('ip', 'link', 'set', 'flannel.1', 'name', 'eth9')
      host.start()
      await host.waitConverged(1, 30_000)
      expect({ link: await host.link(), key: await keyOf(lab, host), kernel: await host.kernel() }).toEqual(
        before,
      )
      expect(await lab.ping(containerOf(other), containerOf(host))).toMatchObject({ lost: 0 })
    },
  )

  test('with the MAC of its state file when its lease has ended meanwhile', async () => {
    const [host] = await startTwo()
    const [{ mac }, { key, etcdLease }] = [await host.link(), await keyOf(lab, host)]
    await powerCut(host)
    await lab.client.leaseClient.leaseRevoke({ ID: etcdLease ?? '' })
    host.start()
    await host.waitConverged(1, 30_000)
    expect(await host.link()).toMatchObject({ mac })
    expect((await keyOf(lab, host)).key).not.toBe('')
    expect(key).toBeDefined()
  })
})

describe('a host that remembers its subnet', () => {
  /**
   * Writes keys as a host may write its own key: with address and MAC of another host. All hosts can read
   * both in etcd.
   */
  async function writeImpostors(host: Host): Promise<string[]> {
    const { mac } = await host.link()
    const keys = await lab.client.getAll().prefix(`${ETCD_PREFIX}/subnets/`).keys()
    const free = Array.from({ length: 97 }, (_, i) => `10.5.${i + 1}.0-24`).filter(
      (subnet) => !keys.some((each) => each.endsWith(`/${subnet}`)),
    )
    // The keys come before and after the host's own in the order of keys; some are reservations.
    const subnets = [...free.slice(0, 2), ...free.slice(-2)]
    for (const [i, subnet] of subnets.entries()) {
      const ttl = i % 2 === 0 ? undefined : 600
      const value = leaseValue({ subnet, publicIp: host.address, mac })
      const key = leaseKey(ETCD_PREFIX, subnet)
      const granted = ttl && (await lab.client.leaseClient.leaseGrant({ ID: '0', TTL: ttl }))
      await lab.client
        .put(key)
        .value(value)
        .lease(granted ? granted.ID : '0')
    }
    return subnets
  }

  const moved = (host: Host): boolean => /has moved from/.test(host.daemon.output)

  test('moves for no key of another that names it', async () => {
    const [host] = await startTwo()
    const before = { link: await host.link(), key: await keyOf(lab, host), env: await host.subnetEnv() }
    const now = async () => ({
      link: await host.link(),
      key: await keyOf(lab, host),
      env: await host.subnetEnv(),
    })
    const [impostor = ''] = await writeImpostors(host)
    const up = () => host.waitForStatus('it runs', ({ daemon }) => daemon.phase === 'running', 30_000)
    // The host finds its lease by everything that it has, by the state file alone, by device and subnet.env,
    // by the device alone, and after the loss of its key.
    await host.restart('SIGKILL')
    await up()
    expect(await now()).toEqual(before)
    expect(host.daemon.output).toContain(`${impostor} has our address too; it is left alone`)
    await powerCut(host)
    host.start()
    await up()
    expect(await now()).toEqual(before)
    await host.stop()
    rmSync(host.stateDirectory, { recursive: true })
    host.start()
    await up()
    expect(await now()).toEqual(before)
    await host.stop()
    rmSync(host.stateDirectory, { recursive: true })
    rmSync(host.subnetFile)
    host.start()
    await up()
    expect(await now()).toEqual(before)
    await remembered(host, 1)
    await powerCut(host)
    await lab.client.delete().key(before.key.key)
    host.start()
    const { lease } = await up()
    expect(await now()).toMatchObject({
      link: before.link,
      key: { value: before.key.value },
      env: before.env,
    })
    expect(lease?.movedFrom).toBeUndefined()
    expect(moved(host)).toBe(false)
  })

  test('moves when an operator reserves another for it, and says so', async () => {
    const [host] = await startTwo()
    const impostors = await writeImpostors(host)
    const { key } = await keyOf(lab, host)
    const { subnet: before } = await host.subnetEnv()
    await host.stop()
    await lab.client.delete().key(key)
    const etcd = [`--etcd-endpoints=${lab.etcd.endpoint}`, `--etcd-prefix=${ETCD_PREFIX}`]
    const reserve = (...flags: string[]) =>
      host.overlayctl('reserve', `--public-ip=${host.address}`, ...flags, ...etcd)
    expect(await reserve()).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('is named by 4 leases'),
    })
    for (const subnet of impostors) await lab.deletePeer({ subnet })
    const free = await lab.freeSubnet()
    expect(await reserve(`--subnet=${free}/24`)).toMatchObject({ code: 0 })
    await writeImpostors(host)
    // A start from the state file would make the former key anew.
    await host.startByEtcd({}, async () => lab.client.delete().key(key))
    const { lease } = await host.waitForStatus('it runs', ({ daemon }) => daemon.phase === 'running', 30_000)
    expect(lease).toMatchObject({
      subnet: `${free}/24`,
      movedFrom: {
        subnet: before.replace('.1/', '.0/'),
        reason: 'an operator has reserved it for this host',
      },
    })
    expect(host.daemon.output).toMatch(
      new RegExp(`warn {2}lease: this host has moved from .* to ${free.replaceAll('.', '\\.')}/24`),
    )
    const events = await host.overlayctl('events', '--kind=lease-moved', '-o', 'json')
    expect(events.stdout).toContain('lease-moved')
    // The host remembers this subnet from now on.
    await remembered(host, 1).catch(() => undefined)
    await host.restart()
    await host.waitForStatus('it runs', ({ daemon }) => daemon.phase === 'running', 30_000)
    expect((await host.subnetEnv()).subnet).toBe(`${free.replace(/0$/, '1')}/24`)
    expect(moved(host)).toBe(false)
    expect(await host.overlayctl('release', `${free}/24`, '--yes', ...etcd)).toMatchObject({ code: 0 })
    expect(await lab.client.getAll().prefix(`${ETCD_PREFIX}/overlay/reservations/`).keys()).toEqual([])
  })
})

test('a copied machine gets a subnet and a MAC of its own; the original machine is untouched', async () => {
  const [host, other] = await startTwo()
  const copy = lab.host(3)
  copyDisk(host, copy)
  const before = {
    link: await host.link(),
    env: await host.subnetEnv(),
    value: (await keyOf(lab, host)).value,
  }
  const ping = await lab.startPing(containerOf(other), containerOf(host), 5)
  copy.start()
  await lab.waitConverged(0, 30_000)
  expect({
    link: await host.link(),
    env: await host.subnetEnv(),
    value: (await keyOf(lab, host)).value,
  }).toEqual(before)
  expect((await copy.subnetEnv()).subnet).not.toBe(before.env.subnet)
  expect((await copy.link()).mac).not.toBe(before.link.mac)
  expect(copy.daemon.output).toMatch(
    /this host is a copy of that host, and gets a subnet and a MAC of its own/,
  )
  expect(await ping.stop()).toMatchObject({ lost: 0 })
  // From now on the copy has a state of its own.
  await remembered(copy, 2)
  const own = await copy.link()
  await powerCut(copy)
  copy.start()
  await lab.waitConverged(0, 30_000)
  expect(await copy.link()).toEqual(own)
  expect(askedAnyone(copy)).toBe(false)
})

test('a copied machine does not come up from the copied state while etcd is away', async () => {
  const [host] = await startTwo()
  const copy = lab.host(3)
  copyDisk(host, copy)
  await lab.etcd.kill()
  copy.start()
  const status = await copy.waitForStatus('refused', ({ stateFile }) => stateFile?.problem !== undefined)
  expect(status.stateFile?.problem).toMatch(/written by another host, or at another address/)
  await expect(copy.link()).rejects.toThrow(/does not exist/)
})

describe('two hosts with one PublicIP', () => {
  test.each(['without a state', 'with the state of the other'])(
    'the second one, %s, refuses, and costs the first nothing',
    async (how) => {
      const [host, other] = await startTwo()
      const second = lab.host(3)
      if (how.startsWith('with the')) copyDisk(host, second)
      const { key, value, etcdLease } = await keyOf(lab, host)
      const [kernel, ping] = [
        await host.kernel(),
        await lab.startPing(containerOf(other), containerOf(host), 5),
      ]
      second.start({ flags: { 'public-ip': host.address } })
      const status = await inConflict(second)
      expect(status).toMatchObject({
        state: 'degraded',
        lease: { reason: expect.stringContaining(host.address) },
      })
      expect(status.problems.join()).toMatch(
        /alive, with the MAC .*give one of the two hosts another address/,
      )
      expect(second.daemon.output).toMatch(/error lease: CONFLICT/)
      expect(second.running).toBe(true)
      await expect(second.link()).rejects.toThrow(/does not exist/)
      expect(await host.kernel()).toEqual(kernel)
      await lab.host(1).waitConverged(1, 30_000)
      expect(await keyOf(lab, host)).toMatchObject({ value, etcdLease })
      expect(await ping.stop()).toMatchObject({ lost: 0 })

      // The first host is taken out of service. The second host starts then, and nobody restarts its daemon.
      await host.stop()
      await lab.client.delete().key(key)
      await second.waitConverged(1, 30_000)
    },
  )

  test('taken over while the first host was cut off: the first host gives way, without a fight', async () => {
    const [host, other] = await startTwo()
    const second = lab.host(3)
    const { key, value } = await keyOf(lab, host)
    await cutFromEtcd(host)
    second.start({ flags: { 'public-ip': host.address } })
    await second.waitConverged(1, 30_000)
    const taken = await keyOf(lab, second)
    expect(taken.key).toBe(key)
    expect(taken.value).toContain((await second.link()).mac)
    const kernel = await host.kernel()
    await reconnectEtcd(host)
    await inConflict(host)
    expect(await host.kernel()).toEqual(kernel)
    expect(await second.status()).toMatchObject({ lease: { state: 'held' } })

    // After its restart the first host does not take the lease back, because the second host answers.
    await host.restart('SIGKILL')
    const status = await inConflict(host)
    expect(status.daemon.phase).not.toBe('running')
    expect(await host.kernel()).toEqual(kernel)
    await second.waitConverged(1, 30_000)
    const values = await history(key, await revisionNow())
    expect(new Set(values)).toEqual(new Set([value, taken.value]))
    expect(values.lastIndexOf(value ?? '')).toBeLessThan(values.indexOf(taken.value ?? ''))
    expect((await keyOf(lab, second)).value).toBe(taken.value)
    await other.waitConverged(1, 30_000)
  })

  test('a lease with our address beside our own is left alone', async () => {
    const [host] = await startTwo()
    const before = await keyOf(lab, host)
    const twin = { ...fakePeer(5), publicIp: host.address }
    await lab.putPeers(twin)
    await powerCut(host)
    host.start()
    await host.waitForStatus('running', ({ daemon }) => daemon.phase === 'running')
    expect(await keyOf(lab, host)).toEqual(before)
    expect(host.daemon.output).toMatch(/10\.5\.155\.0-24 has our address too; it is left alone/)
    expect(await lab.client.get(leaseKey(ETCD_PREFIX, twin.subnet)).string()).toBe(leaseValue(twin))
    expect(stateFileOf(host)).toContain('state.json')
  })
})
