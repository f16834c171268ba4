/** What distinguishes the networks of a host that has several: ids and directories. */
import { DEFAULT_PREFIX, DEFAULT_SUBNET_FILE } from './table'

/** The options that tell networks apart. */
interface Identity {
  readonly 'etcd-prefix': string
  readonly 'subnet-file': string
}

/**
 * Id that distinguishes a further network's instance on a host from the first one, in names that would
 * otherwise be equal: firewall chains, run directory. A host with one network changes at most one of prefix
 * and subnet file, and needs no id; a further instance must change both (flannel's functional test `multi`).
 * @returns eight hexadecimal digits; `undefined` for the first instance
 */
export function instanceId({ 'etcd-prefix': prefix, 'subnet-file': file }: Identity): string | undefined {
  if (prefix === DEFAULT_PREFIX || file === DEFAULT_SUBNET_FILE) return undefined
  // Loaded only here, for hosts with several networks: it is the largest part of node that overlayctl loads.
  const { createHash }: typeof import('node:crypto') = require('node:crypto')
  return createHash('sha256').update(`${prefix}\n${file}`).digest('hex').slice(0, 8)
}

export function runDirectory(options: Identity): string {
  const id = instanceId(options)
  return id === undefined ? '/run/overlayd' : `/run/overlayd-${id}`
}

export function stateDirectory(options: Identity): string {
  const id = instanceId(options)
  return id === undefined ? '/var/lib/overlayd' : `/var/lib/overlayd-${id}`
}
