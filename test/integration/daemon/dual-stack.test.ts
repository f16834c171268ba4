/**
 * A network with IPv4 and IPv6: each family has its own device. A fault of one family does not hurt the
 * other.
 */

import { Host } from '../../lab/host'
import { DUAL_STACK_CONFIG, ETCD_PREFIX, Lab, NETWORK_CONFIG } from '../../lab/lab'
import { execOk } from '../../lab/namespace'
import { patient } from '../../lab/patience'

jest.setTimeout(patient(60_000))

let lab: Lab

beforeEach(async () => {
  lab = await Lab.create({ hosts: 2, config: DUAL_STACK_CONFIG })
})
afterEach(() => lab.close())

const leases = async (): Promise<[string, string][]> => {
  const all = await lab.client.getAll().prefix(`${ETCD_PREFIX}/subnets/`).strings()
  return Object.entries(all).map(([key, value]) => [key.slice(`${ETCD_PREFIX}/subnets/`.length), value])
}

test('containers reach each other over both families, at the MTU they are told', async () => {
  await lab.startAll()
  const [from, to] = [await lab.host(1).addContainer(), await lab.host(2).addContainer()]
  expect((await lab.ping(from, to)).lost).toBe(0)
  expect((await lab.ping(from, { address: to.address6 ?? '' })).lost).toBe(0)
  // The MTU is 1430 bytes: the underlay's 1500 less the overhead of VXLAN over IPv6. The ping has 48 bytes of
  // headers.
  expect((await lab.host(1).subnetEnv()).mtu).toBe(1430)
  const full = ['ping', '-n', '-c', '2', '-i', '0.01', '-M', 'do', '-s', '1382', to.address6 ?? ''] as const
  await execOk(from.namespace, full)
})

test('keys, values, devices, routes and subnet.env are flannel’s', async () => {
  await lab.startAll()
  const { subnet, ipv6Subnet, ipv6Network } = await lab.host(2).subnetEnv()
  expect(ipv6Network).toBe('fd00:5::/48')
  const [four, six] = [subnet.replace('.1/', '.0/'), ipv6Subnet.replace('::1/', '::/')]
  const [mac, mac6] = [(await lab.host(2).link()).mac, (await lab.host(2).link(Host.device6)).mac]
  expect(await leases()).toContainEqual([
    `${four.replace('/', '-')}&${six.replace('/', '-')}`,
    `{"PublicIP":"192.168.77.12","PublicIPv6":"fd77::12","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"${mac}"},"BackendV6Data":{"VNI":1,"VtepMAC":"${mac6}"}}`,
  ])
  const gateway = six.replace(/\/64$/, '')
  const shown = await lab.host(1).exec('ip', '-6', 'route', 'show', six)
  expect(shown.trim()).toMatch(
    new RegExp(`^${six} via ${gateway} dev flannel-v6\\.1 proto 79 metric 1024 onlink pref medium$`),
  )
  const view = await lab.host(1).kernel(Host.device6)
  expect(view.neighbours).toEqual([`${gateway} ${mac6}`])
  expect(view.fdb).toContainEqual(`${mac6} fd77::12`)
  const device = await lab.host(1).exec('ip', '-d', 'link', 'show', Host.device6)
  expect(device).toMatch(/mtu 1430 .*\n.*\n.*vxlan id 1 local fd77::11 dev eth0 .*dstport 8472 nolearning/)
  expect(await lab.host(1).exec('cat', `/proc/sys/net/ipv6/conf/${Host.device6}/accept_ra`)).toBe('0\n')
})

test('what someone takes away of either family comes back', async () => {
  await lab.startAll()
  const { ipv6Subnet } = await lab.host(2).subnetEnv()
  await lab.host(1).exec('ip', '-6', 'route', 'delete', ipv6Subnet.replace('::1/', '::/'))
  await lab.host(1).waitForKernel('the route', (view) => view.routes.length === 1, 10_000, Host.device6)
  await lab.host(1).exec('ip', '-6', 'neigh', 'flush', 'dev', Host.device6, 'nud', 'permanent')
  await lab
    .host(1)
    .waitForKernel('the neighbour', (view) => view.neighbours.length === 1, 10_000, Host.device6)
  const { mac } = await lab.host(1).link(Host.device6)
  await lab.host(1).exec('ip', 'link', 'delete', Host.device6)
  await lab.host(1).waitForKernel('all of it', (view) => view.routes.length === 1, 10_000, Host.device6)
  expect((await lab.host(1).link(Host.device6)).mac).toBe(mac)
  await lab.waitConverged()
})

test('a peer that leaves, leaves nothing of either family', async () => {
  await lab.startAll()
  await lab.host(2).stop()
  for (const [key] of await leases()) {
    if (!key.startsWith((await lab.host(1).subnetEnv()).subnet.replace('.1/', '.0-'))) {
      await lab.client.delete().key(`${ETCD_PREFIX}/subnets/${key}`)
    }
  }
  for (const device of [Host.device, Host.device6]) {
    await lab
      .host(1)
      .waitForKernel(
        'empty',
        (view) => view.routes.length + view.neighbours.length + view.nexthops.length === 0,
        10_000,
        device,
      )
  }
})

test('an IPv6 half that cannot be believed costs the IPv4 half nothing', async () => {
  await lab.startAll()
  const value =
    '{"PublicIP":"192.0.2.50","PublicIPv6":"fe80::1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:01:50"},"BackendV6Data":{"VNI":1,"VtepMAC":"02:00:00:00:06:50"}}'
  await lab.client.put(`${ETCD_PREFIX}/subnets/10.5.150.0-24&fd00:5:0:96::-64`).value(value)
  await lab.host(1).waitForKernel('two IPv4 peers', (view) => view.routes.length === 2)
  const status = await lab
    .host(1)
    .waitForStatus('the half rejected', ({ peers }) => peers.some(({ state }) => state === 'rejected'))
  expect(status.peers.find(({ state }) => state === 'rejected')?.reason).toMatch(/PublicIPv6 fe80::1/)
  expect((await lab.host(1).kernel(Host.device6)).routes).toHaveLength(1)
})

test('a host without its IPv6 address starts with IPv4, and says so; IPv6 follows the address', async () => {
  const [one, two] = [lab.host(1), lab.host(2)]
  await two.exec('ip', '-6', 'address', 'flush', 'dev', 'eth0', 'scope', 'global')
  one.start()
  two.start()
  const status = await two.waitForStatus(
    'IPv4 runs',
    ({ daemon, problems }) =>
      daemon.phase === 'running' && problems.some((each) => /^underlay: .*IPv6 rests/.test(each)),
    30_000,
  )
  expect(status.state).toBe('degraded')
  await one.waitConverged(1, 30_000)
  const [from, to] = [await one.addContainer(), await two.addContainer()]
  expect((await lab.ping(from, to)).lost).toBe(0)
  expect((await leases()).find(([, value]) => value.includes(two.address))?.[1]).toContain(
    '"PublicIPv6":"100::c0a8:4d0c"',
  )
  await two.exec('ip', 'address', 'add', `${two.address6}/64`, 'dev', 'eth0', 'nodad')
  await lab.waitConverged(0, 30_000)
  const mac = (await two.link(Host.device6)).mac
  await one.waitForKernel(
    'its address',
    ({ fdb }) => fdb.includes(`${mac} ${two.address6}`),
    30_000,
    Host.device6,
  )
  expect((await lab.ping(from, { address: to.address6 ?? '' })).lost).toBe(0)
})

test('IPv6 is added to a running network and taken away again; hosts keep their IPv4 subnets', async () => {
  await lab.putConfig(NETWORK_CONFIG)
  await lab.startAll()
  const subnets = await Promise.all(lab.hosts.map(async (host) => (await host.subnetEnv()).subnet))
  expect((await leases()).some(([key]) => key.includes('&'))).toBe(false)
  for (const config of [DUAL_STACK_CONFIG, NETWORK_CONFIG]) {
    await lab.putConfig(config)
    await Promise.all(lab.hosts.map((host) => host.restartByEtcd()))
    await lab.waitConverged()
    expect(await Promise.all(lab.hosts.map(async (host) => (await host.subnetEnv()).subnet))).toEqual(subnets)
    expect(await leases()).toHaveLength(2)
  }
  await lab.host(1).waitUntil('the IPv6 device is gone', async () => {
    return !(await lab.host(1).exec('ip', '-o', 'link')).includes(Host.device6)
  })
})

test('a restart changes nothing in the kernel of either family', async () => {
  await lab.startAll()
  await lab.host(1).stop()
  const monitor = await lab.monitor(lab.host(1))
  lab.host(1).start()
  await lab.waitConverged()
  expect(await monitor.changes()).toEqual([])
})

test('a host of a network without IPv6 uses the IPv4 half of dual-stack leases', async () => {
  await lab.putConfig(NETWORK_CONFIG)
  lab.host(1).start()
  await lab.host(1).waitConverged(0)
  await lab.client
    .put(`${ETCD_PREFIX}/subnets/10.5.150.0-24&fd00:5:0:96::-64`)
    .value(
      '{"PublicIP":"192.0.2.50","PublicIPv6":"fd77::50","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:01:50"},"BackendV6Data":{"VNI":1,"VtepMAC":"02:00:00:00:06:50"}}',
    )
  const view = await lab
    .host(1)
    .waitForKernel('one peer', ({ routes, fdb }) => routes.length === 1 && fdb.length === 1)
  expect(view.fdb).toEqual(['02:00:00:00:01:50 192.0.2.50'])
})
