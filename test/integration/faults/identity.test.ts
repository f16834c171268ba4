/** Whose lease is it: hosts that move, are installed again, are copied, or share an address. Nobody ever writes over one who lives. */
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
} from '../../support/faults'
import { ETCD_PREFIX, type Host, Lab } from '../../support/lab'
import { fakePeer, leaseKey, leaseValue } from '../../support/leases'

jest.setTimeout(90_000)

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

/** All that was ever put under a key: the values, in order. */
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
    const own = { subnet: '10.5.20.0-24', publicIp: host.address, mac }
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
    expect(lease?.subnet).toBe('10.5.20.0/24')
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
    // The MAC is new: an owner who only could not answer has to see that the lease is another's.
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

test('a copied machine gets a subnet and a MAC of its own, and the one it was copied from notices nothing', async () => {
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
  expect(copy.daemon.output).toMatch(/this host is a copy of it, and gets a subnet and a MAC of its own/)
  expect(await ping.stop()).toMatchObject({ lost: 0 })
  // From now on it has a state of its own.
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

      // The first one is taken out of service: then it is the second one's turn, without anyone restarting it.
      await host.stop()
      await lab.client.delete().key(key)
      await second.waitConverged(1, 30_000)
    },
  )

  test('taken over while the first was cut off, it is the first that gives way; neither ever fights', async () => {
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

    // Started again it does not take it back: the second one answers.
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
