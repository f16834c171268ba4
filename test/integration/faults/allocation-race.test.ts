/**
 * Many hosts compete for few subnets at once, while answers are lost and connections are cut. No subnet ever
 * has two owners. The test runs the real code of a start on real etcd connections, a few hosts on each
 * connection, and checks the history of all Puts.
 */
import winston from 'winston'
import { acquireLease } from '../../../src/daemon/start/acquire-lease'
import type { Registry } from '../../../src/etcd/registry'
import { ipv4, mac } from '../../../src/model/address'
import { parseNetworkConfig } from '../../../src/model/config/network-config'
import { isOverlayError } from '../../../src/model/errors'
import { type Lease, type LeaseValue, sameLeaseValue } from '../../../src/model/lease'
import { patient } from '../../lab/patience'
import { Random } from '../../lab/random'
import { PREFIX, Site } from '../etcd/site'
import { TcpProxy } from '../etcd/tcp-proxy'

jest.setTimeout(patient(120_000))

const CONFIG = '{"Network":"10.6.0.0/16","SubnetMin":"10.6.0.0","Backend":{"Type":"vxlan"}}'
const PLACES = 256
const HOSTS = 300
const CONNECTIONS = 8
const config = parseNetworkConfig(CONFIG)
const log = winston.createLogger({ silent: true })

let site: Site
const proxies: TcpProxy[] = []
const registries: Registry[] = []

beforeAll(async () => {
  site = await Site.start()
  await site.others.put(`${PREFIX}/config`).value(CONFIG)
  for (let i = 0; i < CONNECTIONS; i++) {
    const proxy = await TcpProxy.start(site.etcd.endpoint)
    site.onStop(() => proxy.close())
    proxies.push(proxy)
    registries.push(await site.registry({ endpoints: proxy.endpoint }))
  }
})
afterAll(() => site?.stop())

const announced = (host: number): LeaseValue => ({
  publicIp: ipv4(0xc0a8_0000 + host),
  publicIpv6: undefined,
  backendType: 'vxlan',
  vtep: { vni: 1, mac: mac(0x02_00_00_00_00_00 + host) },
  vtep6: undefined,
})

async function acquire(host: number, signal: AbortSignal): Promise<Lease | 'full'> {
  const registry = registries[host % CONNECTIONS]
  if (registry === undefined) throw new Error('no connection')
  const value = announced(host)
  for (;;) {
    try {
      const snapshot = await registry.snapshot(signal)
      const request = {
        config,
        publicIp: value.publicIp,
        previous: { ipv4: undefined, ipv6: undefined },
        // A lease that an earlier attempt has written without getting an answer. A host recognizes that lease
        // by PublicIP and MAC of its device (settle-claims.ts).
        claimed: snapshot.leases.filter((lease) => sameLeaseValue(lease.value, value)),
        value,
      }
      return await acquireLease(registry, snapshot, request, log, signal)
    } catch (error) {
      if (!isOverlayError(error)) throw error
      if (error.code === 'out-of-subnets') return 'full'
      // Every other error leads to another attempt, as the service manager does.
    }
  }
}

/** Cuts connections and loses answers, until the caller ends it. */
function trouble(): () => void {
  const random = Random.byChance('trouble with etcd')
  const timer = setInterval(() => {
    const proxy = proxies[random.integer(0, proxies.length - 1)]
    if (random.chance(0.5)) proxy?.cut()
    else if (proxy !== undefined) proxy.loseAnswerTo = 'subnets'
  }, patient(5))
  return () => clearInterval(timer)
}

/** The owners of each key in the order of the Puts, for each time that the key existed without a break. */
async function owners(): Promise<Map<string, string[]>> {
  const history = new Map<string, string[]>()
  const now = await site.others.getAll().prefix(`${PREFIX}/subnets/`).exec()
  const watcher = await site.others.watch().prefix(`${PREFIX}/subnets/`).startRevision('1').create()
  await new Promise<void>((resolve) => {
    watcher.on('data', ({ header, events }) => {
      for (const { type, kv } of events) {
        const key = kv.key.toString()
        const owner = /"PublicIP":"([^"]+)"/.exec(kv.value.toString())?.[1] ?? ''
        if (type === 'Delete') history.set(key, [])
        else history.set(key, [...new Set([...(history.get(key) ?? []), owner])])
      }
      if (BigInt(header.revision) >= BigInt(now.header.revision)) resolve()
    })
  })
  await watcher.cancel()
  return history
}

test('300 hosts and 256 subnets: 256 hosts get one each, no subnet has two owners', async () => {
  const controller = new AbortController()
  const end = trouble()
  const results = await Promise.all(
    Array.from({ length: HOSTS }, (_, host) => acquire(host + 1, controller.signal)),
  ).finally(end)
  const leases = results.filter((result) => result !== 'full')
  const subnets = leases.map(({ key }) => key)
  expect(subnets).toHaveLength(PLACES)
  expect(new Set(subnets).size).toBe(PLACES)
  const history = await owners()
  expect(history.size).toBe(PLACES)
  for (const [key, all] of history) expect([key, all]).toEqual([key, [all[0]]])
})

test('one that found none gets the one that is given back', async () => {
  const signal = AbortSignal.timeout(patient(30_000))
  const [key = ''] = await site.others.getAll().prefix(`${PREFIX}/subnets/`).keys()
  expect(await acquire(HOSTS + 1, signal)).toBe('full')
  await site.others.delete().key(key)
  expect(await acquire(HOSTS + 1, signal)).toMatchObject({ key })
})
