/** `overlayctl config`: reads, checks and writes the network config in etcd. */
import { createReadStream } from 'node:fs'
import type { Readable } from 'node:stream'
import { NO_GROUPS } from '../../etcd/registry'
import { complain, print } from '../../host/streams'
import { formatIp, formatPrefix } from '../../model/address'
import {
  findIgnored,
  type NetworkConfig,
  parseNetworkConfig,
  type SubnetRange,
  subnetRanges,
} from '../../model/config/network-config'
import { count } from '../../model/count'
import { describeError, OverlayError, systemErrorCode } from '../../model/errors'
import { escapeJson, printable } from '../../model/printable'
import type { Options } from '../../options/schema'
import { UsageError } from '../../options/usage-error'
import { countSubnets, isHarmful, planConfigEffect } from '../../plan/config/config-effect'
import { auditRecord } from '../ask/audit-record'
import { missingConfig, withRegistry } from '../ask/with-registry'
import { renderConfigPreview } from '../show/render-config'
import { screenOf } from '../show/screen'

/**
 * Prints the config in etcd. Characters unsafe for a terminal are escaped; in JSON, so that a parser gets the
 * exact text.
 */
export async function getConfig(options: Options): Promise<void> {
  const config = await withRegistry(
    options,
    async (registry, signal) => (await registry.snapshot(signal, NO_GROUPS)).config,
  )
  if (config === undefined) throw missingConfig(options)
  // Blanks between JSON tokens are interchangeable, and strings contain no raw tabs.
  print(`${isJson(config) ? escapeJson(config.replaceAll(/[\t\r]/g, ' ')) : config}\n`)
  parseNetworkConfig(config)
}

/**
 * Explains a config, without etcd.
 * @param json the text, a file's name, or {@link STANDARD_INPUT}
 * @throws {ConfigError} naming the field, its value and the rule
 */
export async function validateConfig(json: string): Promise<void> {
  const text = await readJson(json)
  print(`${explain(parseNetworkConfig(text)).join('\n')}\n`)
  warnOfIgnored(text)
}

/** Replaces a lone dash, which yargs would turn into an empty text. */
export const STANDARD_INPUT = '/dev/stdin'

export interface SetFlags {
  /** Does not replace an existing config. */
  readonly ifAbsent: boolean
  /** Only shows the effect. */
  readonly dryRun: boolean
  readonly yes: boolean
}

/**
 * Shows the effect of a config on the existing hosts, asks if it harms one, and writes it over the config
 * that was read.
 * @param json the text, a file's name, or {@link STANDARD_INPUT}
 * @throws {ConfigError}, {OverlayError} `config-changed`, `not-confirmed`
 */
export async function setConfig(
  options: Options,
  json: string,
  { ifAbsent, dryRun, yes }: SetFlags,
): Promise<void> {
  const text = (await readJson(json)).trim()
  const after = parseNetworkConfig(text)
  warnOfIgnored(text)
  const found = await withRegistry(options, (registry, signal) => registry.snapshot(signal, NO_GROUPS))
  if (found.config === text || (found.config !== undefined && ifAbsent)) {
    const what = found.config === text ? 'it is there already' : `${printable(found.config ?? '')} is there`
    print(`unchanged: ${what}\n`)
    return
  }
  const before = found.config === undefined ? undefined : readable(found.config)
  const effect = planConfigEffect(before, after, found.leases)
  const { objectionsOfHost } = await import('../ask/config-objections.js')
  const objections = await objectionsOfHost(options, before ?? after, after)
  print(renderConfigPreview(effect, objections, explain(after), screenOf()))
  if (dryRun) {
    print('nothing was written (--dry-run)\n')
    return
  }
  if (isHarmful(effect) || objections.length > 0) {
    const { confirm } = await import('../show/confirm.js')
    await confirm('Write it?', yes)
  }
  const record = await auditRecord(options, 'config set', text)
  const written = await withRegistry(options, (registry, signal) =>
    registry.config.put(text, found.configRevision ?? 'absent', record, signal),
  )
  if (written === 'changed') {
    throw new OverlayError(
      'config-changed',
      'someone else changed the network config since it was read; nothing was written',
      'check it: overlayctl config get, then try again',
    )
  }
  print('written\n')
}

/** Warnings go to standard error, beside the output for programs. */
function warnOfIgnored(text: string): void {
  for (const ignored of findIgnored(text)) complain(`warning: ${ignored}`)
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

function readable(text: string): NetworkConfig | undefined {
  try {
    return parseNetworkConfig(text)
  } catch {
    return undefined
  }
}

function explain(config: NetworkConfig): string[] {
  const { vni, port, directRouting, encryption } = config.backend
  const words = [
    'vxlan',
    `VNI ${vni}`,
    port === undefined ? "the kernel's default port (8472)" : `port ${port}`,
    ...(directRouting ? ['direct routing'] : []),
    ...(encryption === undefined
      ? []
      : [`encryption ${encryption.mode}, UDP ports ${encryption.port} and ${encryption.port + 1}`]),
    config.nftables ? 'rules by nft' : 'rules by iptables',
  ]
  return [...subnetRanges(config).map(explainRange), words.join(', ')]
}

function explainRange(range: SubnetRange): string {
  const { network, subnetLength, subnetMin, subnetMax } = range
  const subnets = `${count(countSubnets(range), 'subnet')} of /${subnetLength}`
  return `${formatPrefix(network)}: ${subnets}, ${formatIp(subnetMin)} to ${formatIp(subnetMax)}`
}

/**
 * Bytes. etcd accepts no value above 1.5 MB (etcd's --max-request-bytes); a config has a few hundred bytes.
 */
const MOST_BYTES = 1_000_000

/** @param config the JSON text itself, a file's name, or {@link STANDARD_INPUT} */
async function readJson(config: string): Promise<string> {
  if (config.trim() === '') {
    throw new UsageError(
      'the config is empty',
      'expected a file, the JSON text, or - for standard input, as in: overlayctl config check network.json',
    )
  }
  // Text that starts like JSON is not the name of a file.
  if (/^\s*["{[\ufeff]/.test(config)) return config
  if (config === STANDARD_INPUT) return readBounded(process.stdin, 'standard input')
  try {
    return await readBounded(createReadStream(config), config)
  } catch (error) {
    if (systemErrorCode(error) === undefined) throw error
    const shown = JSON.stringify(config.slice(0, 200))
    throw new UsageError(
      `${shown} is neither a JSON object nor a readable file: ${describeError(error)}`,
      'expected a file, the JSON text, or - for standard input',
    )
  }
}

async function readBounded(stream: Readable, name: string): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > MOST_BYTES)
      throw new UsageError(`${name} has more than ${MOST_BYTES} bytes, so it is not a network config`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}
