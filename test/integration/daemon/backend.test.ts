/** The fields of the backend: the device that follows from each, the cost of a change, and no leftovers. */
import { Lab } from '../../lab/lab'
import { patient } from '../../lab/patience'

const config = (backend: object): string =>
  JSON.stringify({ Network: '10.5.0.0/16', SubnetMax: '10.5.99.0', Backend: { Type: 'vxlan', ...backend } })

jest.setTimeout(patient(60_000))

let lab: Lab

beforeEach(async () => {
  lab = await Lab.create({ hosts: 2, config: config({}) })
})
afterEach(() => lab.close())

const devices = async (number: number): Promise<string[]> =>
  (await lab.host(number).exec('ip', '-o', 'link', 'show', 'type', 'vxlan'))
    .split('\n')
    .flatMap((line) => /^\d+: ([^:@]+)/.exec(line)?.[1] ?? [])

async function restartAll(): Promise<void> {
  await Promise.all(lab.hosts.map((host) => host.restart()))
  await lab.waitConverged()
}

test('VNI, port, MTU, GBP and learning are those of the device', async () => {
  await lab.putConfig(config({ VNI: 77, Port: 4789, MTU: 1400, GBP: true, Learning: true }))
  await lab.startAll()
  const shown = await lab.host(1).exec('ip', '-d', 'link', 'show', 'flannel.77')
  expect(shown).toMatch(/mtu 1350 /)
  expect(shown).toMatch(/vxlan id 77 local 192\.168\.77\.11 dev eth0 .*dstport 4789 /)
  expect(shown).toMatch(/ gbp/)
  expect(shown).not.toMatch(/nolearning/)
  expect((await lab.host(1).subnetEnv()).mtu).toBe(1350)
})

test('another MTU and learning are corrected in place, with nothing lost', async () => {
  await lab.startAll()
  const [from, to] = [await lab.host(1).addContainer(), await lab.host(2).addContainer()]
  const before = await lab.host(1).exec('ip', '-o', 'link', 'show', 'flannel.1')
  const ping = await lab.startPing(from, to)
  await lab.putConfig(config({ MTU: 1400, Learning: true }))
  await restartAll()
  expect((await ping.stop()).lost).toBe(0)
  const after = await lab.host(1).exec('ip', '-d', '-o', 'link', 'show', 'flannel.1')
  expect(after.slice(0, 12)).toBe(before.slice(0, 12))
  expect(after).toMatch(/mtu 1350 /)
  expect(after).not.toMatch(/nolearning/)
})

test('another port makes the device again with the same MAC', async () => {
  await lab.startAll()
  const { mac } = await lab.host(1).link()
  await lab.putConfig(config({ Port: 4789 }))
  await restartAll()
  expect((await lab.host(1).link()).mac).toBe(mac)
  expect(await lab.host(1).exec('ip', '-d', 'link', 'show', 'flannel.1')).toMatch(/dstport 4789 /)
  const [from, to] = [await lab.host(1).addContainer(), await lab.host(2).addContainer()]
  expect((await lab.ping(from, to)).lost).toBe(0)
})

test('another VNI has another device, to which the routes move; the old one goes', async () => {
  await lab.startAll()
  const { subnet } = await lab.host(1).subnetEnv()
  await lab.putConfig(config({ VNI: 2 }))
  await restartAll()
  for (const number of [1, 2]) {
    await lab.host(number).waitUntil('only flannel.2 is there', async () => {
      return (await devices(number)).join() === 'flannel.2'
    })
    const view = await lab
      .host(number)
      .waitForKernel('one peer', (seen) => seen.routes.length === 1, 10_000, 'flannel.2')
    expect([view.neighbours.length, view.fdb.length, view.nexthops.length]).toEqual([1, 1, 1])
    expect(await lab.host(number).exec('ip', 'nexthop', 'show')).not.toMatch(/flannel\.1 /)
  }
  expect((await lab.host(1).subnetEnv()).subnet).toBe(subnet)
  const [from, to] = [await lab.host(1).addContainer(), await lab.host(2).addContainer()]
  expect((await lab.ping(from, to)).lost).toBe(0)
})

test('a device of another network on this host is not taken for an old one of ours', async () => {
  await lab
    .host(1)
    .exec(
      ...['ip', 'link', 'add', 'flannel.9', 'type', 'vxlan', 'id', '9', 'dev', 'eth0', 'local'],
      ...[lab.host(1).address, 'dstport', '8472', 'nolearning'],
    )
  await lab.host(1).exec('ip', 'address', 'add', '10.9.1.0/32', 'dev', 'flannel.9')
  await lab.startAll()
  expect(await devices(1)).toEqual(expect.arrayContaining(['flannel.1', 'flannel.9']))
})

test('a changed underlay address is taken over in place at a restart', async () => {
  await lab.startAll()
  const before = await lab.host(1).exec('ip', '-o', 'link', 'show', 'flannel.1')
  await lab.host(1).stop()
  await lab.host(1).exec('ip', 'address', 'delete', `${lab.host(1).address}/24`, 'dev', 'eth0')
  await lab.host(1).exec('ip', 'address', 'add', '192.168.77.211/24', 'dev', 'eth0')
  await lab.host(1).exec('ip', 'route', 'replace', 'default', 'via', '192.168.77.1')
  await lab.deletePeer({ subnet: (await lab.host(1).subnetEnv()).subnet.replace('.1/', '.0-') })
  lab.host(1).start()
  await lab.waitConverged()
  const after = await lab.host(1).exec('ip', '-d', '-o', 'link', 'show', 'flannel.1')
  expect(after.slice(0, 12)).toBe(before.slice(0, 12))
  expect(after).toMatch(/local 192\.168\.77\.211 /)
  const [from, to] = [await lab.host(1).addContainer(), await lab.host(2).addContainer()]
  expect((await lab.ping(from, to)).lost).toBe(0)
})
