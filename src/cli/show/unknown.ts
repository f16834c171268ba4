/** Finds what a status document leaves unknown: an unknown fact is never shown as "none". */
import type { Status } from '../../api/status'

/** Why the peers are unknown; undefined if they are known. */
export function whyPeersUnknown(status: Status): string | undefined {
  const silence = whyEtcdIsSilent(status)
  if (silence !== undefined) return silence
  // A daemon follows the other hosts once it has a network and a subnet.
  const isMember = !status.daemon.running || status.network !== undefined
  return isMember ? undefined : `overlayd does not follow the other hosts yet: ${whatItWaitsFor(status)}`
}

/** Why it is unknown whether this host has a lease; undefined if it is known. */
export function whyLeaseUnknown(status: Status): string | undefined {
  const silence = whyEtcdIsSilent(status)
  if (silence !== undefined) return silence
  const { daemon, lease, etcd } = status
  const isAsked = !daemon.running || lease !== undefined || etcd.connected
  return isAsked ? undefined : `overlayd has no answer from etcd yet: ${whatItWaitsFor(status)}`
}

/** Without a daemon, etcd is the only source. */
const whyEtcdIsSilent = ({ daemon, etcd }: Status): string | undefined =>
  daemon.running || etcd.connected ? undefined : silenceOfEtcd(etcd.endpoints, etcd.error ?? 'no answer')

/** @param endpoints empty if it is unknown where etcd is */
export const silenceOfEtcd = (endpoints: readonly string[], error: string): string =>
  endpoints.length === 0 ? error : `etcd could not be asked: ${error}`

/** What a daemon that is not ready yet waits for. */
export const whatItWaitsFor = ({ problems: [first], daemon }: Status): string =>
  daemon.waiting?.reason ?? first ?? daemon.phase
