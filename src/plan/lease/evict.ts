/** Which keys an operator may delete from etcd: those of hosts that are gone, and unreadable ones. */
import {
  formatPrefix,
  type IpAddress,
  networkOf,
  type Prefix,
  parseIpPrefix,
  samePrefix,
} from '../../model/address'
import { nameUnderSubnets } from '../../model/commands'
import type { Lease, UnreadableLease } from '../../model/lease'
import { printable } from '../../model/printable'

/** A key under `subnets/`. */
export type EvictedKey =
  | { readonly kind: 'lease'; readonly lease: Lease }
  | { readonly kind: 'unreadable'; readonly lease: UnreadableLease }

/** The last part of a key, made printable. */
export const shownName = (key: string): string => printable(nameUnderSubnets(key))

/**
 * The keys that an operator's text means: by subnet, or by the name that status, peers and doctor show.
 * @param text `10.5.7.0/24`, `10.5.7.0-24`, `fd00:5:0:7::/64`, a whole key, or any other name under
 *   `subnets/`
 */
export function keysMeant(
  {
    leases,
    unreadable,
  }: { readonly leases: readonly Lease[]; readonly unreadable: readonly UnreadableLease[] },
  text: string,
): EvictedKey[] {
  const all: EvictedKey[] = [
    ...leases.map((lease): EvictedKey => ({ kind: 'lease', lease })),
    ...unreadable.map((lease): EvictedKey => ({ kind: 'unreadable', lease })),
  ]
  const named = all.filter(({ lease: { key } }) =>
    [key, printable(key), nameUnderSubnets(key), shownName(key)].includes(text),
  )
  if (named.length > 0) return named
  const subnet = readSubnet(text)
  if (subnet === undefined) return []
  const name = formatPrefix(subnet).replace('/', '-')
  return all.filter((each) =>
    each.kind === 'lease'
      ? [each.lease.subnet.ipv4, each.lease.subnet.ipv6].some(
          (own) => own !== undefined && samePrefix(own, subnet),
        )
      : nameUnderSubnets(each.lease.key).split('&').includes(name),
  )
}

/** Reads a subnet. Host bits are ignored, so the address of a container works too. */
function readSubnet(text: string): Prefix | undefined {
  const prefix = parseIpPrefix(text)
  return prefix && networkOf(prefix.address, prefix.length)
}

/** Results of probing a lease's host. */
export interface SignsOfLife {
  /** Whether its etcd lease was renewed after a probe write to its key. */
  readonly isRenewed: boolean
  /** Addresses of its VXLAN device that answer over the overlay. */
  readonly vteps: readonly IpAddress[]
  /** Those of its PublicIPs that answer. */
  readonly publicIps: readonly IpAddress[]
  /** Whether another lease has the same PublicIP, so that its host may be the one that answers. */
  readonly isShared: boolean
}

/**
 * - `alive`: its host uses the subnet
 * - `up`: something answers at its PublicIP: the host, perhaps without a daemon, or another one that has the
 *   address now
 * - `gone`: no sign of life
 */
export type HostLife = 'alive' | 'up' | 'gone'

export function judgeLife({ isRenewed, vteps, publicIps, isShared }: SignsOfLife): HostLife {
  if (isRenewed || vteps.length > 0) return 'alive'
  return publicIps.length > 0 && !isShared ? 'up' : 'gone'
}

/** The other leases with the PublicIP of that lease. */
export const leasesBeside = (lease: Lease, all: readonly Lease[]): Lease[] =>
  all.filter(
    ({ key, value: { publicIp, publicIpv6 } }) =>
      key !== lease.key &&
      // 0.0.0.0 stands for no address.
      ((publicIp === lease.value.publicIp && publicIp !== 0) ||
        (publicIpv6 !== undefined && publicIpv6 === lease.value.publicIpv6)),
  )
