/** Whether the host of a lease lives, as far as packets tell. */
import { ping } from '../../host/ping'
import { FAMILIES, formatIp, type IpAddress } from '../../model/address'
import { describeError } from '../../model/errors'
import { familyLease, type Lease } from '../../model/lease'
import type { SignsOfLife } from '../../plan/lease/evict'

/** Number of pings, and the bytes of each. Several, because a bad link loses some. */
const PINGS = 3
const SMALL = 64

export interface PingAnswers extends Pick<SignsOfLife, 'vteps' | 'publicIps'> {
  /** Why no ping was possible. */
  readonly problem?: string
}

/** Pings the device and the addresses that a lease names. */
export async function pingHost(lease: Lease): Promise<PingAnswers> {
  const parts = FAMILIES.flatMap((family) => familyLease(lease, family) ?? [])
  const vteps = parts.map(({ subnet }) => subnet.address)
  const publicIps = parts.flatMap(({ publicIp }) => publicIp ?? [])
  const answering = async (addresses: readonly IpAddress[]): Promise<IpAddress[]> => {
    const answers = await Promise.all(
      addresses.map(async (address) => {
        const { received } = await ping({ address, size: SMALL, count: PINGS })
        return received > 0 ? [address] : []
      }),
    )
    return answers.flat()
  }
  try {
    return { vteps: await answering(vteps), publicIps: await answering(publicIps) }
  } catch (error) {
    return { vteps: [], publicIps: [], problem: describeError(error) }
  }
}

/** What the pings have shown, in sentences. */
export function pingEvidence(
  lease: Lease,
  { vteps, publicIps, isShared }: Pick<SignsOfLife, 'vteps' | 'publicIps' | 'isShared'>,
  problem?: string,
): string[] {
  if (problem !== undefined) return [`it could not be pinged: ${problem}`]
  const list = (addresses: readonly IpAddress[]): string => addresses.map(formatIp).join(' and ')
  const { ipv4, ipv6 } = lease.subnet
  const ownVteps = list([ipv4, ipv6].flatMap((each) => each?.address ?? []))
  return [
    vteps.length > 0
      ? `its VXLAN device answers over the overlay (${list(vteps)})`
      : `its VXLAN device does not answer over the overlay (${ownVteps})`,
    publicIps.length > 0
      ? `its PublicIP answers (${list(publicIps)})${isShared ? ', which another lease has too' : ''}`
      : 'its PublicIP does not answer',
  ]
}
