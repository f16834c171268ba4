/** Chooses the MACs of this host's devices. */
import { randomBytes } from 'node:crypto'
import { type MacAddress, randomMac } from '../../model/address'
import type { PerFamily } from '../../model/family'
import { familyLease, type Lease, type LeaseValue, type Revision, type Vtep } from '../../model/lease'
import { chooseMac, isLeaseOf } from '../../plan/lease/own-lease'
import type { HostIdentification } from './gather-identity'

/**
 * Chooses one MAC for each family's device.
 * @param leases leases of all hosts
 * @param known those of `leases` that are this host's beyond doubt
 */
export function chooseMacs(
  leases: readonly Lease[],
  known: readonly Lease[],
  host: HostIdentification,
): PerFamily<MacAddress> {
  const others = foreignValues(leases, known, host)
  const choose = (family: 'IPv4' | 'IPv6', field: 'ipv4' | 'ipv6'): MacAddress => {
    const leased = known.map((lease) => familyLease(lease, family)?.vtep?.mac)
    const macs = {
      device: host.devices[field],
      lease: leased.find((mac) => mac !== undefined),
      state: host.rememberedMacs[field],
    }
    return chooseMac(macs, others, () => randomMac(randomBytes(6)))
  }
  return { ipv4: choose('IPv4', 'ipv4'), ipv6: choose('IPv6', 'ipv6') }
}

/**
 * The values of other hosts' leases, without the MACs that this host may use nevertheless. Two kinds of
 * claims do not count. A lease with our PublicIP: no peer accepts it beside ours. A MAC of one of our leases
 * in a newer lease: peers follow the oldest claim to a MAC.
 */
function foreignValues(
  leases: readonly Lease[],
  known: readonly Lease[],
  { publicIp }: HostIdentification,
): LeaseValue[] {
  const ourKeys = new Set(known.map(({ key }) => key))
  const since = new Map<MacAddress, Revision>()
  for (const { value, modRevision } of known) {
    for (const vtep of [value.vtep, value.vtep6]) if (vtep !== undefined) since.set(vtep.mac, modRevision)
  }
  const older = (vtep: Vtep | undefined, revision: Revision): Vtep | undefined => {
    const ours = vtep && since.get(vtep.mac)
    return ours !== undefined && ours < revision ? undefined : vtep
  }
  return leases
    .filter((lease) => !ourKeys.has(lease.key) && !isLeaseOf(lease, publicIp))
    .map(({ value, modRevision }) => ({
      ...value,
      vtep: older(value.vtep, modRevision),
      vtep6: older(value.vtep6, modRevision),
    }))
}
