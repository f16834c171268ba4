/**
 * A cluster of flannel's hosts and ours. Each kind of host accepts the other as its own kind, and causes no
 * work on the other.
 */

import { holdsPeer, tracesOf } from '../../lab/kernel-view'
import { type Container, ETCD_PREFIX, Host, Lab } from '../../lab/lab'
import { fakePeer, leaseKey, leaseValue } from '../../lab/leases'
import { setSysctl } from '../../lab/namespace'
import { patient } from '../../lab/patience'
import { FlannelHost } from '../../support/flannel-host'
import { assertHistoryReadable } from '../../support/flannel-reader'

jest.setTimeout(patient(60_000))

/** Leases of hosts that are gone. Such leases stay for up to a day. */
const DEAD = [fakePeer(0), fakePeer(1), { ...fakePeer(2), publicIp: '192.168.77.99' }]

let lab: Lab
let flannel: FlannelHost
let ours: Host[]

beforeAll(async () => {
  lab = await Lab.create({ hosts: 3 })
  await lab.putPeers(...DEAD)
  flannel = await FlannelHost.start(lab, lab.host(1), { ipMasq: true })
  // dockerd sets this on such a host; flannel does not.
  await setSysctl(flannel.host.namespace, 'net/ipv4/ip_forward', '1')
  ours = [lab.host(2), lab.host(3)]
  for (const host of ours) host.start()
  await converged()
  await flannel.learnAll()
  for (const host of lab.hosts) await host.addContainer()
})
afterAll(() => lab?.close())

/** Waits until all hosts of ours have each other, flannel's host, and the hosts that are gone. */
const converged = () => lab.waitConverged(1 + DEAD.length)

/** Waits until our hosts have applied everything in etcd. */
async function upToDate(): Promise<void> {
  const { header } = await lab.client.getAll().prefix(`${ETCD_PREFIX}/subnets`).exec()
  for (const host of ours) {
    await host.waitForStatus(
      `revision ${header.revision}`,
      ({ convergence }) => BigInt(convergence.revision ?? 0) >= BigInt(header.revision),
    )
  }
}

function containerOf(host: Host): Container {
  const [container] = host.containers
  if (container === undefined) throw new Error(`${host.name} has no container`)
  return container
}

async function expectAllReachAll(): Promise<void> {
  for (const from of lab.hosts) {
    for (const to of lab.hosts.filter((host) => host !== from)) {
      const result = await lab.ping(containerOf(from), containerOf(to), { count: 10 })
      expect({ from: from.name, to: to.name, lost: result.lost }).toMatchObject({ lost: 0 })
    }
  }
}

/** Our keys as etcd has them. */
async function ourKeys() {
  return Promise.all(
    ours.map(async (host) => {
      const { subnet } = await host.subnetEnv()
      const key = leaseKey(ETCD_PREFIX, subnet.replace(/\d+\/24$/, '0-24'))
      const [kv] = (await lab.client.get(key).exec()).kvs
      return { host, key, value: kv?.value.toString(), revision: kv?.mod_revision, etcdLease: kv?.lease }
    }),
  )
}

/** Monitors the kernels of our hosts during an action, until our hosts have applied its effect. */
async function kernelChangesDuring(action: () => Promise<unknown>): Promise<string[]> {
  const monitors = await Promise.all(ours.map((host) => lab.monitor(host)))
  await action()
  await upToDate()
  const changes = (await Promise.all(monitors.map((monitor) => monitor.changes()))).flat()
  for (const monitor of monitors) await monitor.stop()
  return changes
}

test('the scripted flannel leaves what the real one leaves', async () => {
  const { host, lease, etcdLease } = flannel
  const own = lease.subnet.replace('-', '/')
  const device = await host.exec('ip', '-d', 'link', 'show', 'dev', Host.device)
  expect(device).toMatch(/ mtu 1450 qdisc noqueue /)
  expect(device.replace(/\s+/g, ' ')).toContain(
    `vxlan id 1 local ${host.address} dev eth0 srcport 0 0 dstport 8472 nolearning ttl auto ageing 300 udpcsum noudp6zerocsumtx noudp6zerocsumrx `,
  )
  expect(await host.exec('ip', '-4', '-o', 'address', 'show', 'dev', Host.device)).toContain(
    `inet ${own.replace('/24', '/32')} scope global ${Host.device}`,
  )
  const masq = '-m comment --comment "flanneld masq" -j'
  const nat = await host.exec('iptables', '-t', 'nat', '-S')
  expect(nat.split('\n').filter((line) => line.includes('FLANNEL'))).toEqual([
    '-N FLANNEL-POSTRTG',
    `-A POSTROUTING ${masq} FLANNEL-POSTRTG`,
    `-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 ${masq} RETURN`,
    `-A FLANNEL-POSTRTG -s ${own} -d 10.5.0.0/16 ${masq} RETURN`,
    `-A FLANNEL-POSTRTG -s 10.5.0.0/16 -d ${own} ${masq} RETURN`,
    `-A FLANNEL-POSTRTG ! -s 10.5.0.0/16 -d ${own} ${masq} RETURN`,
    `-A FLANNEL-POSTRTG -s 10.5.0.0/16 ! -d 224.0.0.0/4 ${masq} MASQUERADE --random-fully`,
    `-A FLANNEL-POSTRTG ! -s 10.5.0.0/16 -d 10.5.0.0/16 ${masq} MASQUERADE --random-fully`,
  ])
  const forward = '-m comment --comment "flanneld forward" -j'
  const filter = await host.exec('iptables', '-S')
  expect(filter.split('\n').filter((line) => line.includes('FLANNEL'))).toEqual([
    '-N FLANNEL-FWD',
    `-A FORWARD ${forward} FLANNEL-FWD`,
    `-A FLANNEL-FWD -s 10.5.0.0/16 ${forward} ACCEPT`,
    `-A FLANNEL-FWD -d 10.5.0.0/16 ${forward} ACCEPT`,
  ])
  const [peer] = DEAD
  const address = peer?.subnet.replace('-24', '')
  expect(await host.exec('ip', '-d', 'route', 'show', `${address}/24`)).toBe(
    `unicast ${address}/24 via ${address} dev flannel.1 proto boot scope global onlink \n`,
  )
  expect(await host.exec('ip', 'neigh', 'show', 'dev', Host.device)).toContain(
    `${address} lladdr ${peer?.mac} PERMANENT`,
  )
  expect(await host.exec('bridge', 'fdb', 'show', 'dev', Host.device)).toContain(
    `${peer?.mac} dst ${peer?.publicIp} self permanent`,
  )
  const [kv] = (await lab.client.get(flannel.key).exec()).kvs
  expect(kv).toMatchObject({ value: Buffer.from(leaseValue(lease)), lease: etcdLease })
  const { grantedTTL } = await lab.client.leaseClient.leaseTimeToLive({ ID: etcdLease })
  expect(grantedTTL).toBe('86400')
})

test('containers reach each other, from and to each kind of host', expectAllReachAll)

test('flannel and we announce ourselves in the same bytes', async () => {
  for (const { host, value } of await ourKeys()) {
    const { mac } = await host.link()
    expect(value).toBe(leaseValue({ publicIp: host.address, mac, subnet: '' }))
  }
})

test('peers look the same in both kernels to whoever asks iproute2', async () => {
  const [host] = ours
  const shared = DEAD[0]
  if (host === undefined || shared === undefined) throw new Error('the cluster is empty')
  const routeOn = async (on: Host) => {
    const shown = await on.exec('ip', '-4', 'route', 'show', shared.subnet.replace('-', '/'))
    return shown.replace(/ (nhid \d+|proto \S+)/g, '').trim()
  }
  expect(await routeOn(host)).toBe(await routeOn(flannel.host))
  const { routes: _, nexthops: __, ...rest } = await host.kernel()
  const theirs = await flannel.host.kernel()
  expect(tracesOf({ ...rest, routes: [], nexthops: [] }, shared)).toEqual(
    tracesOf({ ...theirs, routes: [], nexthops: [] }, shared),
  )
})

test('leases of hosts that are gone hold up nobody', async () => {
  for (const host of ours) {
    const view = await host.kernel()
    expect(DEAD.map((peer) => holdsPeer(view, peer))).toEqual(DEAD.map(() => true))
    expect(holdsPeer(view, flannel.lease)).toBe(true)
  }
})

test('a renewal by flannel, which is a Put, causes no kernel write and no Put of ours', async () => {
  const before = await ourKeys()
  const changes = await kernelChangesDuring(async () => {
    for (let renewal = 0; renewal < 3; renewal++) await flannel.renew()
  })
  expect(changes).toEqual([])
  expect(await ourKeys()).toEqual(before)
})

test('a flanneld that is started again on its host writes nothing to our kernels', async () => {
  const before = flannel.lease
  const changes = await kernelChangesDuring(async () => {
    flannel = await FlannelHost.start(lab, flannel.host, { ipMasq: true })
  })
  expect(flannel).toMatchObject({ adopted: true, lease: before })
  expect(changes).toEqual([])
})

test('a flanneld that made its device anew: the other MAC is followed, the old FDB entry goes', async () => {
  const { mac } = flannel.lease
  await flannel.host.exec('ip', 'link', 'del', Host.device)
  flannel = await FlannelHost.start(lab, flannel.host, { ipMasq: true })
  expect(flannel.lease.mac).not.toBe(mac)
  for (const host of ours) {
    await host.waitForKernel(
      'the new MAC alone',
      (view) => holdsPeer(view, flannel.lease) && !view.fdb.some((line) => line.startsWith(mac)),
    )
  }
  await expectAllReachAll()
})

test('one of ours that is ended and started again puts nothing', async () => {
  const [host] = ours
  const before = await ourKeys()
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    await host?.restart(signal)
    await converged()
  }
  expect(await ourKeys()).toEqual(before)
})

test('a network config that is deleted disturbs nobody', async () => {
  const config = (await lab.client.get(`${ETCD_PREFIX}/config`).string()) ?? ''
  const [from, to] = [lab.host(2), lab.host(1)]
  const pings = await lab.startPing(containerOf(from), containerOf(to))
  const before = await ourKeys()
  const changes = await kernelChangesDuring(async () => {
    await lab.client.delete().key(`${ETCD_PREFIX}/config`)
    for (const host of ours) {
      await host.waitForStatus('the config gone', ({ problems }) =>
        problems.some((each) => /deleted/.test(each)),
      )
    }
  })
  expect(changes).toEqual([])
  expect(await pings.stop()).toMatchObject({ lost: 0 })
  expect(await ourKeys()).toEqual(before)
  expect(ours.map((host) => host.running)).toEqual([true, true])
  await lab.putConfig(config)
  await converged()
})

// The last test, because it checks everything that the tests above have put.
test('all that was ever put could be read by a flanneld without IPv6; each of our keys once', async () => {
  const history = await assertHistoryReadable(lab.client, ETCD_PREFIX)
  for (const { key, value, etcdLease } of await ourKeys()) {
    expect(history.filter((write) => write.key === key)).toEqual([{ kind: 'put', key, value, etcdLease }])
  }
  expect(history.filter(({ kind }) => kind === 'delete')).toEqual([])
})
