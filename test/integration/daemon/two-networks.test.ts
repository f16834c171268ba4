/**
 * Two networks on the same hosts, each with a daemon of its own. Each daemon has the flags for prefix and
 * subnet file only, as in flannel's functional test `multi`.
 */
import { join } from 'node:path'
import type { Host } from '../../lab/host'
import { Lab } from '../../lab/lab'
import { execOk } from '../../lab/namespace'
import { patient } from '../../lab/patience'
import type { LongProcess } from '../../lab/process'

jest.setTimeout(patient(60_000))

const NETWORKS = {
  blue: '{"Network":"10.11.0.0/16","Backend":{"Type":"vxlan","VNI":11}}',
  green: '{"Network":"10.12.0.0/16","Backend":{"Type":"vxlan","VNI":12}}',
} as const
type Name = keyof typeof NETWORKS
const NAMES = Object.keys(NETWORKS) as Name[]

let lab: Lab
const daemons: LongProcess[] = []

const fileOf = (host: Host, name: Name): string => join(host.subnetFile, '..', `${name}.env`)

function start(host: Host, name: Name): LongProcess {
  const flags = { 'etcd-prefix': `/${name}/network`, 'subnet-file': fileOf(host, name), 'run-dir': '' }
  const daemon = host.spawn({ flags })
  daemons.push(daemon)
  return daemon
}

/** The address of the host's bridge in that network, once the bridge exists. */
async function bridgeAddress(host: Host, name: Name): Promise<string> {
  await host.waitUntil(`${name} has a subnet`, async () => {
    return (await host.exec('sh', '-c', `cat ${fileOf(host, name)} 2>&1 || :`)).includes('FLANNEL_SUBNET=')
  })
  const file = await host.exec('cat', fileOf(host, name))
  return /FLANNEL_SUBNET=(\S+)\/24/.exec(file)?.[1] ?? ''
}

beforeAll(async () => {
  lab = await Lab.create({ hosts: 2, config: null })
  for (const name of NAMES) await lab.client.put(`/${name}/network/config`).value(NETWORKS[name])
  for (const host of lab.hosts) {
    for (const name of NAMES) {
      start(host, name)
      await host.exec('ip', 'link', 'add', name, 'type', 'bridge')
      await host.exec('ip', 'address', 'add', `${await bridgeAddress(host, name)}/24`, 'dev', name)
      await host.exec('ip', 'link', 'set', name, 'up')
    }
  }
})
afterAll(async () => {
  await Promise.all(daemons.filter(({ running }) => running).map((daemon) => daemon.stop('SIGKILL')))
  await lab?.close()
})

test.each(NAMES)('hosts reach each other in network %s, by its device and by no other', async (name) => {
  const [from, to] = [lab.host(1), lab.host(2)]
  const address = await bridgeAddress(to, name)
  await from.waitUntil(`${address} answers`, async () => {
    return (await lab.ping({ namespace: from.namespace }, { address }, { count: 1 })).received === 1
  })
  const route = await from.exec('ip', 'route', 'get', address)
  expect(route).toContain(`dev flannel.${name === 'blue' ? 11 : 12} `)
})

test('each has firewall rules of its own', async () => {
  const rules = await lab.host(1).exec('iptables', '-S', 'FORWARD')
  expect(rules.match(/-j FLANNEL-FWD\S*/g)).toHaveLength(2)
  const all = await lab.host(1).exec('iptables', '-S')
  for (const network of ['10.11.0.0/16', '10.12.0.0/16']) {
    expect(all).toMatch(new RegExp(`-A FLANNEL-FWD\\S+ -s ${network} .*-j ACCEPT`))
  }
})

test('a second daemon for the same device ends with 1 and says so, whatever it is told besides', async () => {
  const host = lab.host(1)
  const flags = { 'etcd-prefix': '/blue/network', 'subnet-file': `${host.subnetFile}.other`, 'run-dir': '' }
  const second = host.spawn({ flags })
  daemons.push(second)
  expect(await second.waitForExit()).toEqual({ code: 1, signal: null })
  expect(second.output).toContain('another overlayd looks after flannel.11')
})

test('one that restarts, and one that ends, cost the other nothing', async () => {
  const [host, other] = [lab.host(1), lab.host(2)]
  const ping = await lab.startPing(
    { namespace: host.namespace },
    { address: await bridgeAddress(other, 'blue') },
  )
  const green = daemons[1]
  await green?.stop('SIGTERM')
  const again = start(host, 'green')
  await again.waitForOutput(/ready: 10\.12\./)
  await again.stop('SIGTERM')
  expect((await ping.stop()).lost).toBe(0)
  const rules = await execOk(host.namespace, ['iptables', '-S', 'FORWARD'])
  expect(rules.match(/-j FLANNEL-FWD\S*/g)).toHaveLength(2)
})
