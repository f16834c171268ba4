/** Facts from etcd, and from the files that this host needs to reach it. */
import { X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { demandEtcd } from '../../client/settings'
import { endpointAddresses } from '../../etcd/client/endpoints'
import { greet } from '../../etcd/client/greeting'
import type { Registry } from '../../etcd/registry'
import {
  type CertificateFact,
  type EtcdFacts,
  type Facts,
  type FactValues,
  NEEDLESS,
} from '../../judge/facts'
import { type OverlayFacts, ownLease } from '../../judge/overlay'
import type { IpAddress } from '../../model/address'
import { OverlayError } from '../../model/errors'
import type { Greeting } from '../../model/greeting'
import { isReservation } from '../../model/lease'
import { etcdOptions } from '../../options/etcd'
import type { Options } from '../../options/schema'
import type { DoctorOptions } from './edges'

/** Milliseconds. The client gives up a call after 3000 by itself, and says why. */
const ETCD_DEADLINE = 4000
/** Reads whose fastest is etcd's latency: a single one may fall into a busy moment of this process. */
const LATENCY_READS = 3

export async function readEtcd(registry: Registry): Promise<EtcdFacts> {
  const signal = AbortSignal.timeout(ETCD_DEADLINE)
  const { endpoint, latencyMs } = await registry.status(signal)
  const { config, leases, unreadable, hosts, groups } = await registry.snapshot(signal)
  let fastest = latencyMs
  for (let read = 1; read < LATENCY_READS; read++) {
    fastest = Math.min(fastest, (await registry.status(signal)).latencyMs)
  }
  return { endpoint, latencyMs: fastest, config, leases, unreadable, hosts, groups }
}

/** Seconds that this host's lease has left; `undefined` where it is a reservation, or there is none. */
export async function readLeaseLife(
  facts: OverlayFacts,
  open: () => Promise<Registry>,
): Promise<number | undefined> {
  const own = ownLease(facts)
  if (own === undefined || isReservation(own)) return undefined
  return (await open()).etcdLeases.timeToLive(own.etcdLease, AbortSignal.timeout(ETCD_DEADLINE))
}

/** Asks no name service: without one, the endpoints of --etcd-discovery-srv are not known. */
export async function greetEtcd(options: DoctorOptions): Promise<Greeting> {
  demandEtcd(options)
  if (options['etcd-discovery-srv'] !== '') throw new Error('the endpoints are found by DNS')
  return greet(options['etcd-endpoints'], etcdOptions(options).tls ?? {}, ETCD_DEADLINE)
}

/**
 * How far etcd's clock is ahead.
 * @throws {OverlayError} {@link NEEDLESS}: not every etcd sends the time, and no lease needs it
 */
export function clockOf({ greeting }: Pick<Facts, 'greeting'>): FactValues['clock'] {
  if (!greeting.ok) throw new OverlayError(NEEDLESS, `etcd tells no time: ${greeting.problem.text}`)
  const { endpoint, aheadSeconds } = greeting.value
  if (aheadSeconds === undefined) throw new OverlayError(NEEDLESS, `${endpoint} tells no time`)
  return { endpoint, aheadSeconds }
}

/** The certificates of this host, and the one that etcd shows. */
export async function readCertificates(
  options: Options,
  { greeting }: Pick<Facts, 'greeting'>,
): Promise<CertificateFact[]> {
  const own = await readOwnCertificates(options)
  const { endpoint, certificateEnds } = greeting.value ?? {}
  if (endpoint === undefined || certificateEnds === undefined) return own
  return [...own, { name: "etcd's certificate", path: endpoint, notAfter: certificateEnds }]
}

async function readOwnCertificates(options: Options): Promise<CertificateFact[]> {
  if (!options['etcd-endpoints'].includes('https://')) return []
  const files = [
    ['the CA of etcd', options['etcd-cafile']],
    ['the client certificate for etcd', options['etcd-certfile']],
  ] as const
  return Promise.all(
    files
      .filter(([, path]) => path !== '')
      .map(async ([name, path]) => {
        const { validTo } = new X509Certificate(await readFile(path))
        return { name, path, notAfter: Date.parse(validTo) }
      }),
  )
}

/** The addresses of etcd that are known without DNS. */
export function addressesOfEtcd(options: Options): IpAddress[] {
  try {
    return options['etcd-discovery-srv'] === '' ? endpointAddresses(options['etcd-endpoints']) : []
  } catch {
    return []
  }
}
