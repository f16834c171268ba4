/**
 * A host asks whether the owner of a lease lives, on a real etcd; meanwhile the owner acts. All cases run at
 * once, because each takes seconds.
 */

import winston from 'winston'
import { LeaseKeeper } from '../../../src/daemon/keepers/lease-keeper'
import { settleClaims } from '../../../src/daemon/start/settle-claims'
import type { Registry } from '../../../src/etcd/registry'
import { parseIpv4 } from '../../../src/model/address'
import { parseNetworkConfig } from '../../../src/model/config/network-config'
import type { Lease } from '../../../src/model/lease'
import type { Waiting } from '../../../src/model/waiting'
import { type Evidence, IdentityConflict } from '../../../src/plan/lease/identity'
import { patient } from '../../lab/patience'
import { Pending, waitFor } from '../../lab/wait'
import { CONFIG, ever, hostValue, Site, subnetOf } from '../etcd/site'

jest.setTimeout(patient(60_000))

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
  const result = await owners.leases.create(subnetOf(`10.5.${host}.0`), hostValue(host), ever)
  if (result.kind !== 'created') throw new Error('it is taken')
  return result.lease
}

function evidenceOf(host: number, remembered?: Lease): Evidence {
  const publicIp = parseIpv4(`192.168.77.${host}`)
  if (publicIp === undefined) throw new Error('no address')
  return { publicIp, devices: none, remembered, sameMachine: false, subnet: none }
}

/** A new host comes upon a lease, with the lease's address or with a remembered lease. */
const settle = (lease: Lease, evidence: Evidence, registry = asking) =>
  settleClaims(registry, config, [lease], evidence, log, ever)

/** Waits for a Put of the lease without a change: another host asks its owner. */
const asked = (lease: Lease) =>
  waitFor(
    `a question about ${lease.key}`,
    async () => {
      const [kv] = (await site.others.get(lease.key).exec()).kvs
      return kv !== undefined && BigInt(kv.mod_revision) > lease.modRevision ? kv : new Pending('none')
    },
    { timeoutMs: 20_000 },
  )

/** A running owner, which follows etcd and keeps its lease. */
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
  // One owner writes before the question, the other owner goes at the question.
  expect(await owners.leases.update(written, hostValue(24), ever)).toMatchObject({ kind: 'updated' })
  await asked(ending).then(() => owners.etcdLeases.revoke(ending.etcdLease, ever))
  const [toAlive, toDead, toEnding, toWritten, toMoved, toCopied, toOther] = await cases

  expect(toAlive).toMatchObject({ status: 'rejected', reason: expect.any(IdentityConflict) })
  expect(keeper.state.kind).toBe('held')
  // The lease is taken because no owner answered. The lease is not known to be the host's own, so its MAC is
  // not taken.
  expect(toDead).toMatchObject({ value: { leases: [{ key: dead.key, value: dead.value }], known: [] } })
  expect(toEnding).toMatchObject({ value: { leases: [], known: [] } })
  expect(toWritten).toMatchObject({ status: 'rejected', reason: expect.any(IdentityConflict) })
  expect(toMoved).toMatchObject({ value: { leases: [{ key: moved.key }], known: [{ key: moved.key }] } })
  expect(toCopied).toMatchObject({ value: { leases: [], known: [] } })
  expect(toOther).toMatchObject({ value: { leases: [], known: [] } })

  // A question is a Put of the same value, bound to the same etcd lease.
  const [kv] = (await site.others.get(dead.key).exec()).kvs
  expect(kv?.lease).toBe(dead.etcdLease)
  expect(kv?.version).toBe('2')
  // A claimed lease may be written at once.
  const claimed = toDead?.status === 'fulfilled' ? toDead.value.leases[0] : undefined
  if (claimed === undefined) throw new Error('nothing was claimed')
  expect(await owners.leases.update(claimed, hostValue(12), ever)).toMatchObject({ kind: 'updated' })
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
  const waits: string[] = []
  const onWait = (waiting?: Waiting) => waits.push(waiting?.code ?? 'none')
  site.etcd.pause()
  const settled = settleClaims(asking, config, [lease], evidenceOf(41), log, ever, onWait)
  try {
    const isTold = waitFor(
      'a failure',
      () => waits.some((code) => code.startsWith('etcd-')) || new Pending(waits.join()),
    )
    await Promise.race([isTold, settled])
  } finally {
    site.etcd.resume()
  }
  expect(waits).toContainEqual(expect.stringMatching(/^etcd-/))
  expect(await settled).toMatchObject({ leases: [{ key: lease.key }], known: [] })
})

test('a signal ends it', async () => {
  const lease = await createLease(51)
  const stop = new AbortController()
  const settled = settleClaims(asking, config, [lease], evidenceOf(51), log, stop.signal)
  stop.abort()
  await expect(settled).rejects.toThrow()
})
