/** A change of the network config on hosts with both families: both devices and the lease follow. */
import { DUAL_STACK_CONFIG, ETCD_PREFIX, Host, Lab } from '../../lab/lab'
import { leaseKey } from '../../lab/leases'
import { patient } from '../../lab/patience'

jest.setTimeout(patient(90_000))

let lab: Lab

beforeAll(async () => {
  lab = await Lab.create({ hosts: 2, config: DUAL_STACK_CONFIG })
  await lab.startAll()
  for (const host of lab.hosts) await host.addContainer()
})
afterAll(() => lab?.close())

const changed = (backend: object, fields: object = {}): string =>
  JSON.stringify({
    ...JSON.parse(DUAL_STACK_CONFIG),
    ...fields,
    Backend: { Type: 'vxlan', ...backend },
  })

function containers() {
  const [here] = lab.host(1).containers
  const [there] = lab.host(2).containers
  if (here === undefined || there === undefined) throw new Error('a host has no container')
  return [here, there] as const
}

test('larger networks and another MTU cost no packet of either family', async () => {
  const [here, there] = containers()
  const pings = await Promise.all([
    lab.startPing(here, there),
    lab.startPing(here, { address: there.address6 ?? '' }),
  ])
  await lab.putConfig(changed({ MTU: 1400 }, { Network: '10.4.0.0/15', IPv6Network: 'fd00:4::/31' }))
  for (const host of lab.hosts) {
    await host.waitUntil('both devices have the MTU', async () => {
      const [four, six] = [await host.link(), await host.link(Host.device6)]
      return four.mtu === 1350 && six.mtu === 1330
    })
    await host.waitUntil('subnet.env says so', async () => {
      const { network, ipv6Network, mtu } = await host.subnetEnv()
      return network === '10.4.0.0/15' && ipv6Network === 'fd00:4::/31' && mtu === 1330
    })
    await host.waitConverged(1)
  }
  for (const ping of pings) expect(await ping.stop()).toMatchObject({ lost: 0 })
})

test('another VNI moves both devices', async () => {
  await lab.putConfig(changed({ VNI: 5 }, { Network: '10.4.0.0/15', IPv6Network: 'fd00:4::/31' }))
  for (const host of lab.hosts) {
    await host.waitUntil('only the new devices', async () => {
      const shown = await host.exec('ip', '-o', 'link', 'show', 'type', 'vxlan')
      return (
        shown.split('\n').filter((line) => /flannel(-v6)?\.5:/.test(line)).length === 2 &&
        !shown.includes('.1:')
      )
    })
    await host.waitConverged(1)
  }
  const leases = await lab.client.getAll().prefix(leaseKey(ETCD_PREFIX, '')).strings()
  for (const value of Object.values(leases)) expect(value.match(/"VNI":5,/g)).toHaveLength(2)
  const [here, there] = containers()
  expect(await lab.ping(here, there, { count: 20 })).toMatchObject({ lost: 0 })
  expect(await lab.ping(here, { address: there.address6 ?? '' }, { count: 20 })).toMatchObject({ lost: 0 })
})
