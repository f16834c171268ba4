/** Checks that every host's kernel has exactly the peers that etcd has: the leases of all other hosts. */
import type { Etcd3 } from 'etcd3'
import { z } from 'zod'
import { expectedObjects, type KernelView } from '../lab/kernel-view'
import { ETCD_PREFIX, type Lab } from '../lab/lab'
import { leaseKey } from '../lab/leases'

const leaseSchema = z.object({ PublicIP: z.string(), BackendData: z.object({ VtepMAC: z.string() }) })

/** The kernel that a host has to have. @param own the host's own key, which is not a peer */
async function expectedView(client: Etcd3, own: string): Promise<KernelView> {
  const prefix = leaseKey(ETCD_PREFIX, '')
  const leases = await client.getAll().prefix(prefix).strings()
  const objects = Object.entries(leases)
    .filter(([key]) => key !== own)
    .map(([key, value]) => {
      const { PublicIP, BackendData } = leaseSchema.parse(JSON.parse(value))
      return expectedObjects({
        subnet: key.slice(prefix.length),
        publicIp: PublicIP,
        mac: BackendData.VtepMAC,
      })
    })
  return {
    routes: objects.map(({ route }) => route).sort(),
    neighbours: objects.map(({ neighbour }) => neighbour).sort(),
    fdb: objects.map(({ fdb }) => fdb).sort(),
    nexthops: objects.map(({ nexthop }) => nexthop).sort(),
  }
}

/**
 * Waits until every running host is healthy, has its own lease in etcd, and has exactly the peers of etcd in
 * its kernel.
 */
export async function waitForTruth(lab: Lab, client = lab.client, timeoutMs = 30_000): Promise<void> {
  for (const host of lab.hosts.filter(({ running }) => running)) {
    const { subnet } = await host.subnetEnv()
    const own = leaseKey(ETCD_PREFIX, subnet.replace(/\d+\/(\d+)$/, '0-$1'))
    await host.waitForStatus('healthy', ({ state }) => state === 'healthy', timeoutMs)
    await host.waitUntil(
      `its own lease ${own} in etcd`,
      async () => (await client.get(own).string())?.includes(host.address) === true,
      timeoutMs,
    )
    await host.waitUntil(
      'its kernel has exactly the peers of etcd',
      async () => JSON.stringify(await host.kernel()) === JSON.stringify(await expectedView(client, own)),
      timeoutMs,
    )
  }
}
