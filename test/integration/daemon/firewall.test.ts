/**
 * Docker's rules against ours. The tests set the rules of dockerd 28 in the kernel: the policy of FORWARD,
 * the chains, and one drop for each container in raw PREROUTING. The tests use the iptables program that
 * Docker uses. Only dockerd itself is replaced, by a name in PATH.
 */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Container, type Host, Lab } from '../../lab/lab'
import { patient } from '../../lab/patience'

jest.setTimeout(patient(60_000))

let lab: Lab
let containers: Container[]

beforeAll(async () => {
  lab = await Lab.create({ hosts: 2 })
  const bin = join(lab.directory, 'bin')
  mkdirSync(bin)
  writeFileSync(join(bin, 'dockerd'), '#!/bin/sh\n')
  chmodSync(join(bin, 'dockerd'), 0o755)
  for (const host of lab.hosts) host.start({ env: { PATH: `${bin}:${process.env['PATH']}` } })
  await lab.waitConverged()
  containers = await Promise.all(lab.hosts.map((host) => host.addContainer()))
  await Promise.all(lab.hosts.map(setDockersRules))
})
afterAll(() => lab?.close())

const container = (number: number): Container => {
  const found = containers[number - 1]
  if (found === undefined) throw new Error(`there is no container ${number}`)
  return found
}

async function setDockersRules(host: Host): Promise<void> {
  const address = host.containers[0]?.address ?? ''
  for (const rule of [
    '-P FORWARD DROP',
    '-N DOCKER',
    '-A FORWARD -j DOCKER-USER',
    '-A FORWARD -o docker0 -j DOCKER',
    '-A FORWARD -i docker0 ! -o docker0 -j ACCEPT',
    '-A DOCKER ! -i docker0 -o docker0 -j DROP',
    `-t raw -A PREROUTING -d ${address}/32 ! -i docker0 -j DROP`,
  ]) {
    await host.exec('iptables', ...rule.split(' '))
  }
}

const lost = async (): Promise<number> =>
  (await lab.ping(container(1), container(2), { count: 5 })).lost +
  (await lab.ping(container(2), container(1), { count: 5 })).lost

test('containers reach each other although Docker drops what is routed to them', async () => {
  expect(await lost()).toBe(0)
})

test('it is our rules that let them', async () => {
  const host = lab.host(1)
  await host.stop()
  try {
    for (const chain of ['DOCKER-USER', 'FLANNEL-FWD']) await host.exec('iptables', '-F', chain)
    expect(await lost()).toBe(10)
  } finally {
    await host.restart()
  }
  await host.waitConverged(1)
})

test('rules that were flushed, or got behind a drop, are put right; those of others stay', async () => {
  const host = lab.host(2)
  await host.exec('iptables', '-F', 'DOCKER-USER')
  await host.exec('iptables', '-A', 'DOCKER-USER', '-s', '192.0.2.1', '-j', 'DROP')
  await host.exec(
    'iptables',
    '-t',
    'raw',
    '-I',
    'PREROUTING',
    '-d',
    container(2).address,
    '!',
    '-i',
    'docker0',
    '-j',
    'DROP',
  )
  await host.waitUntil('its rules', async () => {
    const [raw, filter] = [await host.exec('iptables', '-t', 'raw', '-S'), await host.exec('iptables', '-S')]
    return raw.split('\n')[2]?.includes('overlayd') === true && filter.match(/overlayd/g)?.length === 2
  })
  expect(await host.exec('iptables', '-S', 'DOCKER-USER')).toContain('-s 192.0.2.1/32 -j DROP')
})

test('a restart changes nothing', async () => {
  const host = lab.host(2)
  const before = await host.exec('iptables', '-S')
  await host.restart()
  await host.waitForStatus('healthy', ({ state }) => state === 'healthy')
  expect(await host.exec('iptables', '-S')).toBe(before)
})

test('an iptables that fails is a problem in status, and costs nothing else', async () => {
  const host = lab.host(2)
  await host.stop()
  const bin = join(lab.directory, 'broken')
  mkdirSync(bin)
  for (const name of ['dockerd', 'iptables-save']) {
    writeFileSync(join(bin, name), '#!/bin/sh\necho "the lock is stuck" >&2\nexit 4\n')
    chmodSync(join(bin, name), 0o755)
  }
  host.start({ env: { PATH: `${bin}:${process.env['PATH']}` } })
  const status = await host.waitForStatus(
    'that problem alone',
    ({ problems }) => problems.length === 1 && problems[0]?.startsWith('firewall: ') === true,
  )
  expect(status.problems).toEqual([
    'firewall: iptables-save: the lock is stuck; run the same command by hand to see what is wrong',
  ])
  expect(status.convergence.converged).toBe(true)
})
