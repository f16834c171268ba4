/** Objects of the daemon that someone removes from the kernel come back by themselves. */
import { expectedObjects, holdsPeer, type KernelView } from '../../lab/kernel-view'
import { Host, Lab } from '../../lab/lab'
import { fakePeer } from '../../lab/leases'
import { patient } from '../../lab/patience'
import type { Command } from '../../lab/process'

jest.setTimeout(patient(60_000))

/** Milliseconds within which drift is repaired. */
const SOON = 1000
const FAKES = Array.from({ length: 10 }, (_, number) => fakePeer(number))
const [PEER = fakePeer(0)] = FAKES
const gateway = PEER.subnet.replace('-24', '')

let lab: Lab
let intact: KernelView

beforeAll(async () => {
  lab = await Lab.create({ hosts: 2 })
  await lab.putPeers(...FAKES)
  for (const host of lab.hosts) host.start()
  await lab.waitConverged(FAKES.length)
  for (const host of lab.hosts) await host.addContainer()
  intact = await lab.host(1).kernel()
})
afterAll(() => lab?.close())

const isIntact = (view: KernelView) => JSON.stringify(view) === JSON.stringify(intact)

async function expectTraffic(): Promise<void> {
  const [here] = lab.host(1).containers
  const [there] = lab.host(2).containers
  if (here === undefined || there === undefined) throw new Error('a host has no container')
  expect(await lab.ping(here, there, { count: 10 })).toMatchObject({ lost: 0 })
}

test.each<[string, Command]>([
  ['route', ['ip', 'route', 'delete', `${gateway}/24`]],
  ['neighbour', ['ip', 'neigh', 'delete', gateway, 'dev', Host.device]],
  ['FDB entry', ['bridge', 'fdb', 'delete', PEER.mac, 'dev', Host.device, 'dst', PEER.publicIp]],
  [
    'neighbour with another MAC',
    ['ip', 'neigh', 'replace', gateway, 'lladdr', '02:00:00:00:00:99', 'dev', Host.device],
  ],
  ['second FDB destination', ['bridge', 'fdb', 'append', PEER.mac, 'dev', Host.device, 'dst', '172.16.9.9']],
  ['address', ['ip', 'address', 'flush', 'dev', Host.device]],
  ['MTU', ['ip', 'link', 'set', Host.device, 'mtu', '1400']],
])('a %s that was changed by hand is right again in less than a second', async (_, command) => {
  const host = lab.host(1)
  const address = () => host.exec('ip', '-4', '-o', 'address', 'show', 'dev', Host.device)
  const [addressBefore, mtuBefore] = [await address(), (await host.link()).mtu]
  await host.exec(...command)
  await host.waitForKernel('as before', isIntact, SOON)
  await host.waitUntil(
    'address and MTU as before',
    async () => (await address()) === addressBefore && (await host.link()).mtu === mtuBefore,
    SOON,
  )
  await host.waitConverged(FAKES.length + 1)
})

test('a nexthop object that was deleted comes back with its route in less than a second', async () => {
  const host = lab.host(1)
  const shown = await host.exec('ip', '-o', 'nexthop', 'show', 'dev', Host.device)
  const id = new RegExp(`id (\\d+) via ${gateway} `).exec(shown)?.[1]
  if (id === undefined) throw new Error(`no nexthop object for ${gateway}: ${shown}`)
  await host.exec('ip', 'nexthop', 'delete', 'id', id)
  const view = await host.waitForKernel('as before', isIntact, SOON)
  expect(view.routes).toContain(expectedObjects(PEER).route)
})

test.each([
  ['down', [['down']]],
  ['down and up', [['down'], ['up']]],
])('a device that was set %s is up and complete again', async (_, steps) => {
  const host = lab.host(1)
  for (const step of steps) await host.exec('ip', 'link', 'set', Host.device, ...step)
  await host.waitForKernel('as before', isIntact, SOON)
  await host.waitConverged(FAKES.length + 1)
  await expectTraffic()
})

test('a device that was deleted comes back with the same MAC and all its peers', async () => {
  const host = lab.host(1)
  const before = (await host.link()).mac
  await host.exec('ip', 'link', 'delete', Host.device)
  const view = await host.waitForKernel('as before', isIntact, SOON)
  expect(FAKES.every((peer) => holdsPeer(view, peer))).toBe(true)
  expect((await host.link()).mac).toBe(before)
  await host.waitConverged(FAKES.length + 1)
  await expectTraffic()
})
