/**
 * Peers in the host's own underlay subnet are routed without encapsulation. A switch of the mode loses no
 * packet and leaves no object.
 */
import { Lab } from '../../lab/lab'
import { patient } from '../../lab/patience'

jest.setTimeout(patient(60_000))

const config = (DirectRouting: boolean): string =>
  JSON.stringify({
    Network: '10.5.0.0/16',
    SubnetMax: '10.5.99.0',
    Backend: { Type: 'vxlan', DirectRouting },
  })
/** Behind the default gateway. */
const FAR = { subnet: '10.5.150.0-24', publicIp: '192.0.2.50', mac: '02:00:00:00:01:50' }

jest.setTimeout(patient(60_000))

let lab: Lab

beforeEach(async () => {
  lab = await Lab.create({ hosts: 2, config: config(true) })
})
afterEach(() => lab.close())

const routesOf = async (number: number): Promise<string[]> =>
  (await lab.host(number).exec('ip', 'route', 'show', 'proto', '79'))
    .trim()
    .split('\n')
    .map((line) => line.trim())

async function subnetOf(number: number): Promise<string> {
  return (await lab.host(number).subnetEnv()).subnet.replace('.1/', '.0/')
}

test('a peer on the link has a plain route only; a peer behind a gateway is encapsulated', async () => {
  await lab.startAll()
  await lab.putPeers(FAR)
  await lab.waitConverged(1)
  expect(await routesOf(1)).toContain(`${await subnetOf(2)} via ${lab.host(2).address} dev eth0`)
  const view = await lab.host(1).kernel()
  expect(view.routes).toEqual(['10.5.150.0/24 via 10.5.150.0 onlink'])
  expect(view.neighbours).toEqual(['10.5.150.0 02:00:00:00:01:50'])
  expect(view.fdb).toEqual(['02:00:00:00:01:50 192.0.2.50'])
  const [from, to] = [await lab.host(1).addContainer(), await lab.host(2).addContainer()]
  expect((await lab.ping(from, to)).lost).toBe(0)
  const sent = JSON.parse(await lab.host(1).exec('ip', '-s', '-j', 'link', 'show', 'flannel.1'))
  expect(sent[0].stats64.tx.packets).toBe(0)
})

test('it is switched off and on without a lost packet and without residue', async () => {
  await lab.startAll()
  const [from, to] = [await lab.host(1).addContainer(), await lab.host(2).addContainer()]
  const ping = await lab.startPing(from, to)
  await lab.putConfig(config(false))
  await Promise.all(lab.hosts.map((host) => host.restart()))
  await lab.waitConverged()
  expect(await routesOf(1)).toHaveLength(1)
  expect((await routesOf(1))[0]).toMatch(/dev flannel\.1/)
  expect((await lab.host(1).kernel()).neighbours).toHaveLength(1)
  await lab.putConfig(config(true))
  await Promise.all(lab.hosts.map((host) => host.restart()))
  await lab.waitConverged()
  expect(await routesOf(1)).toEqual([`${await subnetOf(2)} via ${lab.host(2).address} dev eth0`])
  expect(await lab.host(1).kernel()).toEqual({ routes: [], neighbours: [], fdb: [], nexthops: [] })
  expect((await ping.stop()).lost).toBe(0)
})

// The kernel checks an IPv6 gateway by the routes that it has: while the direct route is there, the peer's
// subnet address is not behind our device.
test('it is switched off and on while hosts run, with IPv6 too', async () => {
  const dual = (DirectRouting: boolean): string =>
    JSON.stringify({
      Network: '10.5.0.0/16',
      EnableIPv6: true,
      IPv6Network: 'fd00:5::/48',
      Backend: { Type: 'vxlan', DirectRouting },
    })
  await lab.putConfig(dual(true))
  await lab.startAll()
  const [from, to] = [await lab.host(1).addContainer(), await lab.host(2).addContainer()]
  const pings = [await lab.startPing(from, to), await lab.startPing(from, { address: to.address6 ?? '' })]
  const routes6 = () => lab.host(1).exec('ip', '-6', 'route', 'show', 'proto', '79')
  const subnet6 = (await lab.host(2).subnetEnv()).ipv6Subnet.replace('::1/', '::/')
  for (const direct of [false, true]) {
    await lab.putConfig(dual(direct))
    const device = direct ? 'eth0' : 'flannel-v6.1'
    await lab.host(1).waitUntil(`the way over ${device}`, async () => {
      const line = (await routes6()).split('\n').find((each) => each.startsWith(subnet6))
      return line?.includes(` dev ${device} `) === true
    })
    await lab.waitConverged()
  }
  for (const ping of pings) expect((await ping.stop()).lost).toBe(0)
})

test('a direct route that someone deletes comes back, and one whose peer left goes', async () => {
  await lab.startAll()
  const route = await subnetOf(2)
  await lab.host(1).exec('ip', 'route', 'delete', route)
  await lab
    .host(1)
    .waitUntil('the route is back', async () => (await routesOf(1)).some((line) => line.startsWith(route)))
  await lab.host(2).stop()
  await lab.deletePeer({ subnet: route.replace('/', '-') })
  await lab.host(1).waitUntil('the route is gone', async () => (await routesOf(1)).join('') === '')
})

test('a peer whose link turns into a gateway is encapsulated from then on', async () => {
  await lab.startAll()
  await lab
    .host(1)
    .exec('ip', 'route', 'add', `${lab.host(2).address}/32`, 'via', '192.168.77.1', 'dev', 'eth0')
  await lab
    .host(1)
    .waitForKernel('one peer on the device', (view) => view.routes.length === 1 && view.fdb.length === 1)
  await lab.host(1).exec('ip', 'route', 'delete', `${lab.host(2).address}/32`)
  await lab.host(1).waitForKernel('none on the device', (view) => view.routes.length + view.fdb.length === 0)
})

test('a stranger’s route of our protocol outside the network is left alone', async () => {
  await lab.host(1).exec('ip', 'route', 'add', '198.51.100.0/24', 'via', '192.168.77.1', 'proto', '79')
  await lab.startAll()
  expect(await routesOf(1)).toContain('198.51.100.0/24 via 192.168.77.1 dev eth0')
})
