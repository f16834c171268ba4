/**
 * CNI: the real plugins `bridge` and `host-local` carry containers over the overlay. The set-up comes from
 * subnet.env, as with flannel's plugin.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Host, Lab } from '../../lab/lab'
import { execOk } from '../../lab/namespace'
import { patient } from '../../lab/patience'
import { delegateConfig, readCniSubnetEnv, runCni } from '../../support/cni'

jest.setTimeout(patient(60_000))

let lab: Lab
let containers: readonly CniContainer[]

interface CniContainer {
  readonly host: Host
  readonly namespace: string
  readonly address: string
  readonly gateway: string
}

beforeAll(async () => {
  lab = await Lab.create({ hosts: 2 })
  await lab.startAll()
  containers = await Promise.all(lab.hosts.map(addContainer))
})
afterAll(() => lab?.close())

const subnetEnv = (host: Host): string => readFileSync(host.subnetFile, 'utf8')
const configOf = (host: Host) =>
  delegateConfig(readCniSubnetEnv(subnetEnv(host)), join(lab.directory, `${host.name}-ipam`))

async function addContainer(host: Host): Promise<CniContainer> {
  await host.subnetEnv()
  const namespace = `${host.name}-cni`
  await lab.addNamespace(namespace)
  const result = await runCni('ADD', host, namespace, configOf(host))
  const [{ address, gateway } = { address: '', gateway: '' }] = result?.ips ?? []
  return { host, namespace, address: address.replace(/\/\d+$/, ''), gateway }
}

describe('the bytes of subnet.env', () => {
  const lines = (host = lab.host(1)) => subnetEnv(host).slice(0, -1).split('\n')

  test('are lines that end, each of them one KEY=value', () => {
    expect(subnetEnv(lab.host(1))).toMatch(/^([A-Z0-9_]+=[^\n]+\n)+$/)
  })

  test('have no quotes, no export and no blanks', () => {
    expect(subnetEnv(lab.host(1))).not.toMatch(/["'\\$#\t\r ]|export/)
  })

  test('have each key once, in flannel’s order', () => {
    expect(lines().map((line) => line.replace(/=.*/, ''))).toEqual([
      'FLANNEL_NETWORK',
      'FLANNEL_SUBNET',
      'FLANNEL_MTU',
      'FLANNEL_IPMASQ',
    ])
  })

  test('have a network, one subnet inside it, a positive MTU, and true or false', () => {
    expect(lines()).toEqual([
      'FLANNEL_NETWORK=10.5.0.0/16',
      expect.stringMatching(/^FLANNEL_SUBNET=10\.5\.\d+\.1\/24$/),
      'FLANNEL_MTU=1450',
      expect.stringMatching(/^FLANNEL_IPMASQ=(true|false)$/),
    ])
  })
})

test('the container has an address of the subnet, and FLANNEL_SUBNET for its gateway', async () => {
  for (const { host, address, gateway, namespace } of containers) {
    const { subnet } = await host.subnetEnv()
    const [bridge = ''] = subnet.split('/')
    expect(gateway).toBe(bridge)
    expect(address).toMatch(new RegExp(`^${bridge.replace(/1$/, '')}\\d+$`))
    expect(await host.exec('ip', '-4', '-o', 'address', 'show', 'dev', 'cni0')).toContain(`inet ${subnet} `)
    expect(await execOk(namespace, ['ip', 'route', 'show', '10.5.0.0/16'])).toContain(`via ${bridge} `)
  }
})

test('the container, and the bridge, have FLANNEL_MTU', async () => {
  for (const { host, namespace } of containers) {
    const { mtu } = await host.subnetEnv()
    expect(await execOk(namespace, ['ip', 'link', 'show', 'dev', 'eth0'])).toContain(` mtu ${mtu} `)
    expect(await host.exec('ip', 'link', 'show', 'dev', 'cni0')).toContain(` mtu ${mtu} `)
  }
})

test('the plugin masquerades if, and only if, FLANNEL_IPMASQ says that nobody else does', async () => {
  for (const { host, address } of containers) {
    const rules = await host.exec('iptables', '-t', 'nat', '-S', 'POSTROUTING')
    expect(rules.includes(`-s ${address}/32 `)).toBe(subnetEnv(host).includes('FLANNEL_IPMASQ=false'))
  }
})

test('containers on two hosts reach each other, with packets of the full size too', async () => {
  const [here, there] = containers
  if (here === undefined || there === undefined) throw new Error('a container is missing')
  for (const [from, to] of [
    [here, there],
    [there, here],
  ] as const) {
    expect(await lab.ping(from, to, { count: 10 })).toMatchObject({ lost: 0 })
    // 1450 bytes: 20 of IPv4, 8 of ICMP.
    const full = await execOk(from.namespace, [
      'ping',
      '-n',
      '-c',
      '1',
      '-W',
      '1',
      '-M',
      'do',
      '-s',
      '1422',
      to.address,
    ])
    expect(full).toContain(' 0% packet loss')
  }
})

test('a restart of overlayd leaves the file as it is, and the containers connected', async () => {
  const [here, there] = containers
  if (here === undefined || there === undefined) throw new Error('a container is missing')
  const before = subnetEnv(here.host)
  const pings = await lab.startPing(here, there)
  await here.host.restart()
  await lab.waitConverged()
  expect(await pings.stop()).toMatchObject({ lost: 0 })
  expect(subnetEnv(here.host)).toBe(before)
})

test('a container that goes gives its address back', async () => {
  const [here] = containers
  if (here === undefined) throw new Error('a container is missing')
  await runCni('DEL', here.host, here.namespace, configOf(here.host))
  expect(await execOk(here.namespace, ['ip', '-o', 'link'])).not.toContain('eth0')
})
