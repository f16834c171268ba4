import { ConfigError, type NetworkConfig } from '../model/network-config'
import { linkMtu } from './desired'
import type { Underlay } from './underlay'

/** Least MTU of a link that carries IPv6 (RFC 8200, 5). */
const LEAST_IPV6_MTU = 1280

/** @throws {ConfigError} when the underlay leaves too little for the network's families */
export function checkMtu(config: NetworkConfig, underlay: Underlay): void {
  if (config.ipv6 === undefined || linkMtu(config, underlay, 'IPv6') >= LEAST_IPV6_MTU) return
  throw new ConfigError(
    `an IPv6 overlay needs ${LEAST_IPV6_MTU} bytes, and ${linkMtu(config, underlay, 'IPv6')} are left on ${underlay.link.name}`,
    'raise the MTU of the interface or Backend.MTU to 1350 or more',
  )
}
