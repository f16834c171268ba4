/**
 * Which lease in etcd is this host's, for those who look at a host from outside of the daemon: status,
 * doctor, evict and teardown. The daemon itself asks more (identity.ts), for it may write.
 */
import { FAMILIES, type Family, type MacAddress, type Prefix, samePrefix } from '../../model/address'
import { familyLease, type Lease, type LeaseSubnet } from '../../model/lease'

/** What tells which lease is this host's. Each is absent where it is not known. */
export interface OwnEvidence {
  /** The subnets that the running daemon holds. */
  readonly daemon?: Partial<LeaseSubnet> | undefined
  /** The subnets in subnet.env. */
  readonly subnetFile?: Partial<LeaseSubnet> | undefined
  /** The MACs of the devices that exist. */
  readonly devices?: Partial<Readonly<Record<Family, MacAddress>>> | undefined
}

/** Whether a lease fits one kind of evidence; `undefined` where there is no such evidence. */
type Clue = (evidence: OwnEvidence) => ((lease: Lease) => boolean) | undefined

/** The kinds of evidence, the strongest first. */
const CLUES: readonly Clue[] = [
  ({ daemon }) => sharesSubnet(daemon),
  ({ subnetFile }) => sharesSubnet(subnetFile),
  ({ devices }) => namesDevice(devices),
]

/**
 * The lease of this host. The first kind of evidence that exists decides alone. So a host that remembers its
 * subnet takes no other lease for its own because of a MAC: whoever may write to etcd can write any MAC into
 * a lease.
 * @returns `undefined` where etcd has no such lease, and where nothing is known
 */
export function ownLease(leases: readonly Lease[], evidence: OwnEvidence): Lease | undefined {
  const isOurs = CLUES.map((clue) => clue(evidence)).find((fits) => fits !== undefined)
  return isOurs && leases.find(isOurs)
}

/** A lease with one of those subnets: a family may have come or gone since they were written. */
function sharesSubnet({ ipv4, ipv6 }: Partial<LeaseSubnet> = {}): ReturnType<Clue> {
  if ((ipv4 ?? ipv6) === undefined) return undefined
  const isSame = (a: Prefix | undefined, b: Prefix | undefined): boolean =>
    a !== undefined && b !== undefined && samePrefix(a, b)
  return ({ subnet }) => isSame(subnet.ipv4, ipv4) || isSame(subnet.ipv6, ipv6)
}

function namesDevice(devices: OwnEvidence['devices'] = {}): ReturnType<Clue> {
  const families = FAMILIES.filter((family) => devices[family] !== undefined)
  if (families.length === 0) return undefined
  return (lease) => families.some((family) => familyLease(lease, family)?.vtep?.mac === devices[family])
}

/** The MACs of devices, as evidence. */
export const macsOf = (
  devices: readonly { readonly family: Family; readonly link: { readonly mac: MacAddress } }[],
): NonNullable<OwnEvidence['devices']> =>
  Object.fromEntries(devices.map(({ family, link }) => [family, link.mac]))
