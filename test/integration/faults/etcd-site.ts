/** Hosts under traffic, for tests of faults of etcd. */
import { Lab } from '../../lab/lab'
import type { FakePeer } from '../../lab/leases'
import { patientSeconds } from '../../lab/patience'
import { sleep } from '../../lab/wait'

/**
 * Seconds for which departing peers are held back in these tests: long enough for every host to come back,
 * short enough for a test to wait.
 */
export const GRACE = Math.min(30, patientSeconds(6))

/**
 * A /8 has room for thousands of peers from 10.128.0.0 on. Hosts take subnets from 10.5.1.0 to 10.5.99.0.
 */
export const LARGE_CONFIG =
  '{"Network":"10.0.0.0/8","SubnetLen":24,"SubnetMin":"10.5.1.0","SubnetMax":"10.5.99.0","Backend":{"Type":"vxlan"}}'

export interface SiteOptions {
  readonly hosts: number
  readonly peers?: readonly FakePeer[]
  /** Done before the hosts start. */
  readonly prepare?: (lab: Lab) => Promise<void>
  /** More flags of overlayd. */
  readonly flags?: () => Record<string, string>
  readonly config?: string
}

/** A lab whose hosts run, with a container each. */
export async function startSite({ hosts, peers = [], prepare, flags, config }: SiteOptions): Promise<Lab> {
  const lab = await Lab.create({ hosts, ...(config !== undefined && { config }) })
  try {
    await prepare?.(lab)
    await lab.putPeers(...peers)
    for (const host of lab.hosts) {
      host.start({ flags: { 'peer-removal-grace': `${GRACE}`, ...flags?.() } })
    }
    await lab.waitConverged(peers.length)
    for (const host of lab.hosts) await host.addContainer()
    return lab
  } catch (error) {
    await lab.close()
    throw error
  }
}

/**
 * Does something while a container of the first host pings one of the last host every 5 ms. Expects every
 * answer.
 */
export async function underTraffic(lab: Lab, action: () => Promise<unknown>): Promise<void> {
  const [here] = lab.host(1).containers
  const [there] = lab.host(lab.hosts.length).containers
  if (here === undefined || there === undefined) throw new Error('a host has no container')
  const ping = await lab.startPing(here, there, 5)
  await action()
  // The answers to later pings show whether the last pings were lost.
  await sleep(200)
  expect(await ping.stop()).toMatchObject({ lost: 0 })
}
