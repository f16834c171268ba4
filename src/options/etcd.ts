/** The options of etcd, in the form that the etcd client takes, and in words. */
import type { Options } from './schema'
import type { ETCD_OPTIONS } from './table'

/** These options in the form the etcd client takes. */
export function etcdOptions(options: Pick<Options, (typeof ETCD_OPTIONS)[number]>) {
  return {
    endpoints: options['etcd-endpoints'],
    discoverySrv: options['etcd-discovery-srv'],
    tls: {
      caFile: options['etcd-cafile'],
      certFile: options['etcd-certfile'],
      keyFile: options['etcd-keyfile'],
    },
    auth: { username: options['etcd-username'], password: options['etcd-password'] },
  }
}

/** The etcd endpoints as given, for people. */
export const etcdEndpointNames = (
  options: Pick<Options, 'etcd-endpoints' | 'etcd-discovery-srv'>,
): string[] =>
  options['etcd-discovery-srv'] === ''
    ? options['etcd-endpoints'].split(',')
    : [`SRV records of ${options['etcd-discovery-srv']}`]
