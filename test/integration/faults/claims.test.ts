/** A host asks whether the owner of a lease lives: what owners do meanwhile, on a real etcd. All cases at once, for each takes seconds. */

import winston from 'winston'
import { LeaseKeeper } from '../../../src/daemon/lease-keeper'
import { settleClaims } from '../../../src/daemon/settle-claims'
import type { Registry } from '../../../src/etcd/registry'
import { parseIpv4 } from '../../../src/model/address'
import type { Lease } from '../../../src/model/lease'
import { parseNetworkConfig } from '../../../src/model/network-config'
import { type Evidence, IdentityConflict } from '../../../src/plan/identity'
import { Pending, waitFor } from '../../support/wait'
import { CONFIG, ever, hostValue, Site, subnetOf } from '../etcd/site'

jest.setTimeout(60_000)

const config = parseNetworkConfig(CONFIG)
const log = winston.createLogger({ silent: true })
const none = { ipv4: undefined, ipv6: undefined }

let site: Site
let owners: Registry
let asking: Registry

beforeAll(async () => {
  site = await Site.start()
  await site.put('config', CONFIG)
  owners = await site.registry()
  asking = await site.registry()
})
afterAll(() => site?.stop())

async function createLease(host: number): Promise<Lease> {
  const result = await owners.createLease(subnetOf(`10.5.${host}.0`), hostValue(host), ever)
  if (result.kind !== 'created') throw new Error('it is taken')
  return result.lease
}

function evidenceOf(host: number, remembered?: Lease): Evidence {
  const publicIp = parseIpv4(`192.168.77.${host}`)
  if (publicIp === undefined) throw new Error('no address')
  return { publicIp, devices: none, remembered, sameMachine: false }
}

/** A new host, with the address of that one or what it remembers, that comes to a lease. */
const settle = (lease: Lease, evidence: Evidence, registry = asking) =>
  settleClaims(registry, config, [lease], evidence, log, ever)

/** Waits until the lease has been written as it is: someone asks. */
const asked = (lease: Lease) =>
  waitFor(
    `a question about ${lease.key}`,
    async () => {
      const [kv] = (await site.others.get(lease.key).exec()).kvs
      return kv !== undefined && BigInt(kv.mod_revision) > lease.modRevision ? kv : new Pending('none')
    },
    { timeoutMs: 20_000 },
  )

/** An owner as it runs: it follows, and keeps its lease. */
function live(lease: Lease): LeaseKeeper {
  const keeper = new LeaseKeeper(owners, lease, lease.value, log)
  const stop = new AbortController()
  const running = keeper.run(stop.signal)
  const follow = (async () => {
    for await (const update of owners.follow(stop.signal)) {
      if (update.kind !== 'events') continue
      for (const event of update.events) {
        if (event.kind === 'lease' && event.lease.key === lease.key) keeper.observe(event.lease)
      }
    }
  })()
  site.onStop(async () => {
    stop.abort()
    await Promise.all([running, follow])
  })
  return keeper
}

test('owners who live, who are gone, who go just then, and who write just then', async () => {
  const leases = await Promise.all([11, 12, 13, 14, 15, 16].map(createLease))
  const [alive, dead, ending, written, moved, copied] = leases
  if (!alive || !dead || !ending || !written || !moved || !copied) throw new Error('leases are missing')
  const keeper = live(alive)
  live(copied)

  const cases = Promise.allSettled([
    settle(alive, evidenceOf(11)),
    settle(dead, evidenceOf(12)),
    settle(ending, evidenceOf(13)),
    settle(written, evidenceOf(14)),
    settle(moved, evidenceOf(99, moved)),
    settle(copied, evidenceOf(98, copied)),
    settle(dead, evidenceOf(97)),
  ])
  // The one writes before it is asked, the other goes when it is.
  expect(await owners.updateLease(written, hostValue(24), ever)).toMatchObject({ kind: 'updated' })
  await asked(ending).then(() => owners.revoke(ending.etcdLease, ever))
  const [toAlive, toDead, toEnding, toWritten, toMoved, toCopied, toOther] = await cases

  expect(toAlive).toMatchObject({ status: 'rejected', reason: expect.any(IdentityConflict) })
  expect(keeper.state.kind).toBe('held')
  // Taken for want of an answer: not known to be one's own, so its MAC is not taken.
  expect(toDead).toMatchObject({ value: { leases: [{ key: dead.key, value: dead.value }], known: [] } })
  expect(toEnding).toMatchObject({ value: { leases: [], known: [] } })
  expect(toWritten).toMatchObject({ status: 'rejected', reason: expect.any(IdentityConflict) })
  expect(toMoved).toMatchObject({ value: { leases: [{ key: moved.key }], known: [{ key: moved.key }] } })
  expect(toCopied).toMatchObject({ value: { leases: [], known: [] } })
  expect(toOther).toMatchObject({ value: { leases: [], known: [] } })

  // A question is a Put of the very same, bound to the same etcd lease.
  const [kv] = (await site.others.get(dead.key).exec()).kvs
  expect(kv?.lease).toBe(dead.etcdLease)
  expect(kv?.version).toBe('2')
  // What was claimed may be written at once.
  const claimed = toDead?.status === 'fulfilled' ? toDead.value.leases[0] : undefined
  if (claimed === undefined) throw new Error('nothing was claimed')
  expect(await owners.updateLease(claimed, hostValue(12), ever)).toMatchObject({ kind: 'updated' })
})

test('nobody is asked when one that is beyond doubt fits', async () => {
  const [mine, twin] = [await createLease(31), await createLease(32)]
  const value = { ...twin.value, publicIp: mine.value.publicIp }
  const both = { ...twin, value }
  const evidence = { ...evidenceOf(31, mine), sameMachine: true }
  const claims = await settleClaims(asking, config, [mine, both], evidence, log, ever)
  expect(claims).toEqual({ leases: [mine], known: [mine] })
  const [kv] = (await site.others.get(twin.key).exec()).kvs
  expect(kv?.version).toBe('1')
})

test('an etcd that goes away in the middle is asked again when it is back', async () => {
  const lease = await createLease(41)
  const settled = settle(lease, evidenceOf(41))
  await site.etcd.restart()
  expect(await settled).toMatchObject({ leases: [{ key: lease.key }], known: [] })
})

test('a signal ends it', async () => {
  const lease = await createLease(51)
  const stop = new AbortController()
  const settled = settleClaims(asking, config, [lease], evidenceOf(51), log, stop.signal)
  stop.abort()
  await expect(settled).rejects.toThrow()
})
