/** `overlayctl config`: reads, checks and writes the network config in etcd. */
import { text as readAll } from 'node:stream/consumers'
import type { Options } from '../daemon/options'
import { formatIp, formatPrefix } from '../model/address'
import { OverlayError } from '../model/errors'
import {
  type NetworkConfig,
  parseNetworkConfig,
  type SubnetRange,
  subnetRanges,
} from '../model/network-config'
import { countSubnets, isHarmful, planConfigEffect } from '../plan/config-effect'
import { renderConfigPreview } from './render-config'
import { screenOf } from './screen'
import { missingConfig, withRegistry } from './with-registry'

/** Prints the config as it is in etcd. */
export async function getConfig(options: Options): Promise<void> {
  const config = await withRegistry(
    options,
    async (registry, signal) => (await registry.snapshot(signal)).config,
  )
  if (config === undefined) throw missingConfig(options)
  process.stdout.write(`${config}\n`)
  parseNetworkConfig(config)
}

/**
 * Says what a config means, without etcd.
 * @param json the text, or `-` for standard input
 * @throws {ConfigError} naming the field, its value and the rule
 */
export async function validateConfig(json: string): Promise<void> {
  process.stdout.write(`${explain(parseNetworkConfig(await readJson(json))).join('\n')}\n`)
}

export interface SetFlags {
  /** Leaves one that is there. */
  readonly ifAbsent: boolean
  /** Only shows what it would do. */
  readonly dryRun: boolean
  readonly yes: boolean
}

/**
 * Shows what a config does to the hosts there are, asks where that takes something from one, and writes it over what was there when it was read.
 * @param json the text, or `-` for standard input
 * @throws {ConfigError}, {OverlayError} `config-changed`, `not-confirmed`
 */
export async function setConfig(
  options: Options,
  json: string,
  { ifAbsent, dryRun, yes }: SetFlags,
): Promise<void> {
  const text = (await readJson(json)).trim()
  const after = parseNetworkConfig(text)
  const found = await withRegistry(options, (registry, signal) => registry.snapshot(signal))
  if (found.config === text || (found.config !== undefined && ifAbsent)) {
    const what = found.config === text ? 'it is there already' : `${found.config} is there`
    process.stdout.write(`unchanged: ${what}\n`)
    return
  }
  const before = found.config === undefined ? undefined : readable(found.config)
  const effect = planConfigEffect(before, after, found.leases)
  const { objectionsOfHost } = await import('./config-objections.js')
  const objections = await objectionsOfHost(options, before ?? after, after)
  process.stdout.write(renderConfigPreview(effect, objections, explain(after), screenOf()))
  if (dryRun) {
    process.stdout.write('nothing was written (--dry-run)\n')
    return
  }
  if (isHarmful(effect) || objections.length > 0) {
    const { confirm } = await import('./confirm.js')
    await confirm('Write it?', yes)
  }
  const written = await withRegistry(options, (registry, signal) =>
    registry.putConfig(text, found.configRevision ?? 'absent', signal),
  )
  if (written === 'changed') {
    throw new OverlayError(
      'config-changed',
      'someone else changed the network config since it was read; nothing was written',
      'look at it: overlayctl config get, then try again',
    )
  }
  process.stdout.write('written\n')
}

function readable(text: string): NetworkConfig | undefined {
  try {
    return parseNetworkConfig(text)
  } catch {
    return undefined
  }
}

function explain(config: NetworkConfig): string[] {
  const { vni, port, directRouting } = config.backend
  const words = [
    'vxlan',
    `VNI ${vni}`,
    port === undefined ? "the kernel's default port (8472)" : `port ${port}`,
    ...(directRouting ? ['direct routing'] : []),
    config.nftables ? 'rules by nft' : 'rules by iptables',
  ]
  return [...subnetRanges(config).map(explainRange), words.join(', ')]
}

const explainRange = (range: SubnetRange): string =>
  `${formatPrefix(range.network)}: ${countSubnets(range)} subnets of /${range.subnetLength}, ${formatIp(range.subnetMin)} to ${formatIp(range.subnetMax)}`

async function readJson(json: string): Promise<string> {
  // yargs makes an empty text of a lone dash.
  return json === '-' || json === '' ? readAll(process.stdin) : json
}
