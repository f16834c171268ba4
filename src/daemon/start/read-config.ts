/** Reads the network config with this host's options applied. */
import { findIgnored, type NetworkConfig, parseNetworkConfig } from '../../model/config/network-config'
import type { Options } from '../../options/schema'
import type { Logger } from '../tell/logger'

/**
 * Parses the config. With `--multicast=off` the result has no multicast.
 * @throws {ConfigError} for a config that is not valid
 */
export function readConfig(text: string, { multicast }: Pick<Options, 'multicast'>): NetworkConfig {
  const config = parseNetworkConfig(text)
  return multicast === 'auto' ? config : { ...config, backend: { ...config.backend, multicast: undefined } }
}

/** Warns about fields of the config in use that have no effect. flannel's hosts do not report such fields. */
export function warnOfIgnored(text: string, log: Logger): void {
  for (const ignored of findIgnored(text)) log.warn(`config: ${ignored}`)
}
