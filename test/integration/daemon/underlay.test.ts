/**
 * A running host follows changes of its underlay. The daemon corrects its objects and makes none anew, and
 * tells the other hosts.
 */

import type { Host } from '../../lab/host'
import { Lab } from '../../lab/lab'
import { patient } from '../../lab/patience'

jest.setTimeout(patient(60_000))

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

test('a Backend.MTU above that of the interface is clamped and logged, and raised with room', async () => {
  const [host, other] = [lab.host(1), lab.host(2)]
  const fits = (mtu: number) => async () =>
    (await host.link()).mtu === mtu && (await host.subnetEnv()).mtu === mtu
  const backend = { Type: 'vxlan', MTU: 9000 }
  await lab.putConfig(JSON.stringify({ Network: '10.5.0.0/16', Backend: backend }))
  await host.waitForStatus(
    'the shortage alone',
    ({ problems: [problem = '', ...others] }) =>
      problem.startsWith('device: Backend.MTU is 9000, and eth0 carries 1500') && others.length === 0,
  )
  await host.waitUntil('device and file have 1450', fits(1450))
  // A start meets the same limit, and succeeds.
  await host.stop('SIGTERM')
  host.start()
  await host.waitForStatus('running', ({ daemon }) => daemon.phase === 'running')
  await host.waitUntil('device and file have 1450', fits(1450))
  await host.exec('ip', 'link', 'set', 'eth0', 'mtu', '9000')
  await host.waitUntil('device and file have 8950', fits(8950))
  await host.waitForStatus('all in order', (status) => status.state === 'healthy')
  expect((await other.link()).mtu).toBe(1450)
})

test('the address of a host with BGP is on lo: its packets are as large as the way out carries', async () => {
  const host = lab.host(1)
  await host.stop('SIGTERM')
  await host.exec('ip', 'address', 'add', '192.0.2.7/32', 'dev', 'lo')
  host.start({ flags: { iface: '192.0.2.7' } })
  const fits = (mtu: number) => async () =>
    (await host.link()).mtu === mtu && (await host.subnetEnv()).mtu === mtu
  await host.waitUntil('device and file have 1450', fits(1450))
  await host.exec('ip', 'link', 'set', 'eth0', 'mtu', '1400')
  await host.waitUntil('device and file have 1350', fits(1350))
  // A flag announces this address, and the device sends from this address, although another interface is
  // named.
  await host.stop('SIGTERM')
  host.start({ flags: { iface: 'eth0', 'public-ip': '192.0.2.7' } })
  await host.waitForStatus('sent from there', ({ device }) => device?.local === '192.0.2.7')
})

test('another address is taken over in place and announced under the same subnet', async () => {
  const [host, other] = [lab.host(1), lab.host(2)]
  const [from, to] = [await host.addContainer(), await other.addContainer()]
  const [before, { mac }, env] = [await shown(host), await host.link(), await host.subnetEnv()]
  await host.exec('ip', 'address', 'delete', `${host.address}/24`, 'dev', 'eth0')
  await host.exec('ip', 'address', 'add', '192.168.77.211/24', 'dev', 'eth0')
  await host.exec('ip', 'route', 'replace', 'default', 'via', '192.168.77.1')
  await other.waitForKernel('the new address', ({ fdb }) => fdb.includes(`${mac} 192.168.77.211`))
  // The lease and the device change side by side.
  await host.waitUntil('the device sends from it', async () =>
    / local 192\.168\.77\.211 /.test(await shown(host)),
  )
  expect(indexOf(await shown(host))).toBe(indexOf(before))
  expect(await host.subnetEnv()).toEqual(env)
  await lab.waitConverged()
  expect((await lab.ping(from, to)).lost).toBe(0)
  // The lease is still the host's own.
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
