/** The network config as this host is to use it. */
import { type NetworkConfig, parseNetworkConfig } from '../model/network-config'
import type { Options } from './options'

/**
 * Reads the config's text; what a flag keeps this host out of is not in it.
 * @throws {ConfigError}
 */
export function readConfig(text: string, { multicast }: Pick<Options, 'multicast'>): NetworkConfig {
  const config = parseNetworkConfig(text)
  return multicast === 'auto' ? config : { ...config, backend: { ...config.backend, multicast: undefined } }
}
