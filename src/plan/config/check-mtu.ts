import type { Family } from '../../model/address'
import { ConfigError, type NetworkConfig } from '../../model/config/network-config'
import { VXLAN_OVERHEAD } from '../../model/kernel/link'
import type { Underlay } from '../host/underlay'
import { roomOf } from '../host/underlay-room'
import { encryptionOverhead, familiesOf, linkMtu } from '../reconcile/desired'

/**
 * Smallest MTU of a link. IPv4: RFC 791 (ETH_MIN_MTU in linux/if_ether.h). IPv6: RFC 8200, section 5.
 */
const LEAST_MTU: Readonly<Record<Family, number>> = { IPv4: 68, IPv6: 1280 }

/** @throws {ConfigError} if the underlay or Backend.MTU leaves too little for a family of the network */
export function checkMtu(config: NetworkConfig, underlay: Underlay): void {
  const short = familiesOf(config).find((family) => linkMtu(config, underlay, family) < LEAST_MTU[family])
  if (short === undefined) return
  const { mtu, name } = roomOf(underlay)
  const wanted = config.backend.mtu
  const needed = LEAST_MTU[short] + VXLAN_OVERHEAD[short] + encryptionOverhead(config)
  const cause = wanted !== undefined && wanted < mtu ? `Backend.MTU ${wanted}` : `the MTU ${mtu} of ${name}`
  const left = linkMtu(config, underlay, short)
  throw new ConfigError(
    `an ${short} overlay needs ${LEAST_MTU[short]} bytes, but ${cause} leaves ${left}`,
    `raise it to ${needed} or more`,
  )
}
