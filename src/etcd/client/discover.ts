/** Finds etcd's endpoints by DNS, as etcd's own clients do (etcd: client/pkg/v3/srv). */
import type { SrvRecord } from 'node:dns'
import { resolveSrv } from 'node:dns/promises'
import { systemErrorCode } from '../../model/errors'
import { EtcdError } from './errors'

const SERVICES = [
  ['_etcd-client-ssl._tcp', 'https'],
  ['_etcd-client._tcp', 'http'],
] as const

/** DNS answers which mean that there are no such records. */
const NO_RECORDS: readonly (string | undefined)[] = ['ENODATA', 'ENOTFOUND']

/**
 * Looks up the SRV records of a domain.
 * @returns a list as in `--etcd-endpoints`, endpoints with TLS first
 * @throws {EtcdError} `etcd-unreachable` if there are none, or DNS does not answer
 */
export async function discoverEndpoints(
  domain: string,
  resolve: (name: string) => Promise<SrvRecord[]> = resolveSrv,
): Promise<string> {
  const found = await Promise.all(
    SERVICES.map(async ([service, scheme]) => {
      const records = await lookUp(`${service}.${domain}`, resolve)
      return records
        .sort((a, b) => a.priority - b.priority)
        .map(({ name, port }) => `${scheme}://${name.replace(/\.$/, '')}:${port}`)
    }),
  )
  const list = found.flat().join(',')
  if (list !== '') return list
  const names = SERVICES.map(([service]) => `${service}.${domain}`).join(' or ')
  throw new EtcdError('etcd-unreachable', `the DNS domain ${domain} names no etcd`, {
    fix: `make SRV records at ${names}, or give --etcd-endpoints`,
  })
}

async function lookUp(name: string, resolve: (name: string) => Promise<SrvRecord[]>): Promise<SrvRecord[]> {
  try {
    return await resolve(name)
  } catch (cause) {
    const code = systemErrorCode(cause)
    if (NO_RECORDS.includes(code)) return []
    throw new EtcdError('etcd-unreachable', `cannot look up ${name} in DNS: ${code ?? String(cause)}`, {
      cause,
      fix: 'check /etc/resolv.conf and --etcd-discovery-srv',
    })
  }
}
