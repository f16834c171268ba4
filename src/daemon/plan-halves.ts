/** Plans what each family needs before there is a lease: its range, its underlay address, its device with the MAC to keep. */
import { randomBytes } from 'node:crypto'
import { type Family, familyOf, randomMac } from '../model/address'
import { OverlayError } from '../model/errors'
import type { LinkSpec } from '../model/kernel'
import { type Lease, leaseHalf } from '../model/lease'
import { type NetworkConfig, type SubnetRange, subnetRanges } from '../model/network-config'
import { checkMtu } from '../plan/check-mtu'
import { desiredLink } from '../plan/desired'
import { chooseMac } from '../plan/own-lease'
import type { Underlay, UnderlayAddress } from '../plan/underlay'
import type { HostIdentification } from './identify'

/** What one family needs before there is a lease. */
export interface Half {
  readonly family: Family
  readonly range: SubnetRange
  readonly address: UnderlayAddress
  readonly link: LinkSpec
}

/**
 * @param leases of all hosts
 * @param known those that we know to be ours
 * @throws {ConfigError} when the underlay's packets are too small
 * @throws {OverlayError} `no-underlay`
 */
export function planHalves(
  config: NetworkConfig,
  underlay: Underlay,
  leases: readonly Lease[],
  known: readonly Lease[],
  host: HostIdentification,
): Half[] {
  checkMtu(config, underlay)
  const ourKeys = new Set(known.map(({ key }) => key))
  const others = leases.filter(({ key }) => !ourKeys.has(key)).map(({ value }) => value)
  return subnetRanges(config).map((range) => {
    const family = familyOf(range.network.address)
    const half = family === 'IPv4' ? 'ipv4' : 'ipv6'
    const address = underlay[half]
    if (address === undefined) {
      throw new OverlayError('no-underlay', `interface ${underlay.link.name} has no ${family} address`)
    }
    const leased = known.map((lease) => leaseHalf(lease, family)?.vtep?.mac)
    const macs = {
      device: host.devices[half],
      lease: leased.find((mac) => mac !== undefined),
      state: host.rememberedMacs[half],
    }
    const mac = chooseMac(macs, others, () => randomMac(randomBytes(6)))
    return { family, range, address, link: desiredLink(config, underlay, address.local, mac) }
  })
}
