/** Forwarding entries: the underlay address of the host that has a link-layer address, and the way there. */
import { formatMac, type MacAddress } from '../../model/address'
import {
  deletesAll,
  type ForwardingTarget,
  isUnknownTarget,
  sameTarget,
  UNKNOWN_TARGET,
} from '../../model/kernel/objects'
import { describeTarget } from '../../model/kernel/words'
import { targetBy } from '../../model/way'
import type { PlanKind } from './kind'
import { compareWhole } from './single'

const NONE: readonly ForwardingTarget[] = []

export const fdb: PlanKind<'fdb'> = {
  want(objects, peers) {
    for (const { peer, target, way } of peers) {
      const to = target.kind === 'direct' ? undefined : targetBy(way, peer.publicIp)
      if (to !== undefined) objects.set(peer.mac, [to])
    }
  },
  own(keys, { mac }) {
    keys.add(mac)
  },
  owner: (mac, peers) => peers.peerWithMac(mac),
  make(desired, observed, operations) {
    for (const [key, targets] of desired) {
      const current = observed.get(key) ?? NONE
      const obstacle = obstacleIn(current, targets)
      if (obstacle !== undefined) operations.push({ do: 'delete', kind: 'fdb', key, value: obstacle })
      for (const value of targets) {
        if (obstacle !== undefined || !includes(current, value))
          operations.push({ do: 'set', kind: 'fdb', key, value, replace: current.length > 0 })
      }
    }
  },
  remove(desired, observed, operations) {
    for (const [key, targets] of observed) {
      const wanted = desired.get(key) ?? NONE
      if (wanted.length === 0) {
        const whole = targets.find(deletesAll)
        for (const value of whole === undefined ? targets : [whole])
          operations.push({ do: 'delete', kind: 'fdb', key, value })
      } else if (obstacleIn(targets, wanted) === undefined) {
        for (const value of leftovers(targets, wanted))
          operations.push({ do: 'delete', kind: 'fdb', key, value })
      }
    }
  },
  remember(memory, { do: verb, key, value }) {
    const before = memory.get(key)
    if (verb === 'set') {
      memory.set(key, before === undefined ? [value] : [value, ...before.slice(1)])
      return
    }
    const left = deletesAll(value) ? NONE : (before ?? NONE).filter((each) => !sameTarget(each, value))
    if (left.length === 0) memory.delete(key)
    else memory.set(key, left)
  },
  same: sameTarget,
  // The address is etcd's word, which may have changed since. The link is this host's own affair.
  isOutdated([observed], [wanted]) {
    if (observed === undefined || wanted === undefined || wanted.via === 0) return false
    return observed.address === wanted.address && observed.via !== wanted.via
  },
  compare: (desired, observed) =>
    compareWhole<'fdb'>(
      desired,
      observed,
      line,
      (a, b) => a.length === b.length && a.every((each) => includes(b, each)),
    ),
}

/** Without a closure: this runs for each peer of each pass. */
function includes(targets: readonly ForwardingTarget[], target: ForwardingTarget): boolean {
  for (const each of targets) if (sameTarget(each, target)) return true
  return false
}

/**
 * The destination that goes, together with all others of its MAC, before the wanted one is made: an unknown
 * one, because the kernel replaces no entry that goes through a nexthop object and reports no error; or one
 * that would be left over and has a link, because the kernel deletes no such destination alone once its link
 * is gone.
 */
function obstacleIn(
  current: readonly ForwardingTarget[],
  wanted: readonly ForwardingTarget[],
): ForwardingTarget | undefined {
  for (const each of current) if (isUnknownTarget(each)) return UNKNOWN_TARGET
  return current.length < 2 ? undefined : leftovers(current, wanted).find(deletesAll)
}

/** What is there and not wanted, except the destination that a new one replaces. */
function leftovers(
  current: readonly ForwardingTarget[],
  wanted: readonly ForwardingTarget[],
): readonly ForwardingTarget[] {
  const stale = current.filter((each) => !includes(wanted, each))
  if (stale.length === 0) return NONE
  // To set a unicast MAC replaces its first destination: that one is gone already.
  return stale.slice(wanted.some((each) => !includes(current, each)) ? 1 : 0)
}

function line(mac: MacAddress, targets: readonly ForwardingTarget[]): string {
  const words = targets.map((each) => (isUnknownTarget(each) ? 'elsewhere' : describeTarget(each)))
  return `${formatMac(mac)} dst ${words.join(' and ')}`
}
