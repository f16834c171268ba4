/** A network without IPv4: PublicIPv6 identifies the hosts, and no part of IPv4 is needed. */
import { Host } from '../../lab/host'
import { ETCD_PREFIX, IPV6_CONFIG, Lab } from '../../lab/lab'
import { patient } from '../../lab/patience'

jest.setTimeout(patient(60_000))

let lab: Lab

beforeEach(async () => {
  lab = await Lab.create({ hosts: 3, config: IPV6_CONFIG })
})
afterEach(() => lab.close())

test('hosts get subnets of their own and containers reach each other', async () => {
  await lab.startAll()
  const keys = await lab.client.getAll().prefix(`${ETCD_PREFIX}/subnets/`).keys()
  expect(keys).toHaveLength(3)
  for (const key of keys) expect(key).toMatch(/\/subnets\/0\.0\.0\.0-0&fd00:5:0:[0-9a-f]+::-64$/)
  const [from, to] = [await lab.host(1).addContainer(), await lab.host(3).addContainer()]
  expect((await lab.ping(from, to)).lost).toBe(0)
  const links = await lab.host(1).exec('ip', '-o', 'link', 'show', 'type', 'vxlan')
  expect(links).toContain(Host.device6)
  expect(links).not.toContain('flannel.1:')
  const file = await lab.host(1).exec('cat', lab.host(1).subnetFile)
  expect(file).toMatch(
    /^FLANNEL_IPV6_NETWORK=fd00:5::\/48\nFLANNEL_IPV6_SUBNET=\S+::1\/64\nFLANNEL_MTU=1430\nFLANNEL_IPMASQ=false\n$/,
  )
})

test('a restart keeps subnet and kernel', async () => {
  await lab.startAll()
  const before = await lab.host(1).subnetEnv()
  await lab.host(1).stop()
  const monitor = await lab.monitor(lab.host(1))
  lab.host(1).start()
  await lab.waitConverged()
  expect(await lab.host(1).subnetEnv()).toEqual(before)
  expect(await monitor.changes()).toEqual([])
})
