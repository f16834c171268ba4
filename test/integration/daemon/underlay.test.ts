/** What the underlay does to a running host is followed: nothing is made again that can be corrected, and the others are told. */

import type { Host } from '../../support/host'
import { Lab } from '../../support/lab'

jest.setTimeout(60_000)

let lab: Lab

beforeEach(async () => {
  lab = await Lab.create({ hosts: 2 })
  await lab.startAll()
})
afterEach(() => lab.close())

const shown = (host: Host): Promise<string> => host.exec('ip', '-d', '-o', 'link', 'show', 'flannel.1')
const indexOf = (line: string): string | undefined => /^\d+/.exec(line)?.[0]

test('another MTU of the interface is that of the device, of subnet.env and of nobody else', async () => {
  const [host, other] = [lab.host(1), lab.host(2)]
  const before = await shown(host)
  await host.exec('ip', 'link', 'set', 'eth0', 'mtu', '1400')
  await host.waitUntil('device and file have 1350', async () => {
    return (await host.link()).mtu === 1350 && (await host.subnetEnv()).mtu === 1350
  })
  expect(indexOf(await shown(host))).toBe(indexOf(before))
  expect((await other.link()).mtu).toBe(1450)
  await host.exec('ip', 'link', 'set', 'eth0', 'mtu', '1500')
  await host.waitUntil('device and file have 1450', async () => {
    return (await host.link()).mtu === 1450 && (await host.subnetEnv()).mtu === 1450
  })
})

test('another address is taken over in place and announced under the same subnet', async () => {
  const [host, other] = [lab.host(1), lab.host(2)]
  const [from, to] = [await host.addContainer(), await other.addContainer()]
  const [before, { mac }, env] = [await shown(host), await host.link(), await host.subnetEnv()]
  await host.exec('ip', 'address', 'delete', `${host.address}/24`, 'dev', 'eth0')
  await host.exec('ip', 'address', 'add', '192.168.77.211/24', 'dev', 'eth0')
  await host.exec('ip', 'route', 'replace', 'default', 'via', '192.168.77.1')
  await other.waitForKernel('the new address', ({ fdb }) => fdb.includes(`${mac} 192.168.77.211`))
  const after = await shown(host)
  expect(indexOf(after)).toBe(indexOf(before))
  expect(after).toMatch(/ local 192\.168\.77\.211 /)
  expect(await host.subnetEnv()).toEqual(env)
  await lab.waitConverged()
  expect((await lab.ping(from, to)).lost).toBe(0)
  // It is its own lease still, not a stranger's.
  expect(
    (await host.waitForStatus('held', ({ lease }) => lease?.publicIp === '192.168.77.211')).lease?.state,
  ).toBe('held')
})

test('an address that goes for a while is missed in status, and nothing is taken away', async () => {
  const host = lab.host(1)
  const kernel = await host.kernel()
  await host.exec('ip', 'address', 'delete', `${host.address}/24`, 'dev', 'eth0')
  await host.waitForStatus('underlay problem', ({ problems }) =>
    problems.some((problem) => problem.startsWith('underlay: ')),
  )
  expect(await host.kernel()).toEqual(kernel)
  await host.exec('ip', 'address', 'add', `${host.address}/24`, 'dev', 'eth0')
  await host.exec('ip', 'route', 'replace', 'default', 'via', '192.168.77.1')
  await lab.waitConverged()
  expect(await host.kernel()).toEqual(kernel)
})

test('a default route that moves to another interface moves nothing', async () => {
  const host = lab.host(1)
  const before = await shown(host)
  await host.exec('ip', 'link', 'add', 'vpn0', 'type', 'veth', 'peer', 'name', 'vpn1')
  await host.exec('ip', 'address', 'add', '198.51.100.1/24', 'dev', 'vpn0')
  await host.exec('ip', 'link', 'set', 'vpn0', 'up')
  await host.exec('ip', 'route', 'replace', 'default', 'via', '198.51.100.2')
  const { lease } = await host.waitConverged(1)
  expect(lease?.publicIp).toBe(host.address)
  expect(await shown(host)).toBe(before)
})
