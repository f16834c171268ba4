/** `overlayctl config`: reads, checks and writes the network config in etcd. */
import { text as readAll } from 'node:stream/consumers'
import { etcdOptions, type Options } from '../daemon/options'
import { openEtcd } from '../etcd/client'
import { Registry } from '../etcd/registry'
import { familyOf, formatIp, formatPrefix, prefixSize } from '../model/address'
import { OverlayError } from '../model/errors'
import {
  type NetworkConfig,
  parseNetworkConfig,
  type SubnetRange,
  subnetRanges,
} from '../model/network-config'
import { planConfigChange } from '../plan/config-change'

/** Milliseconds for all of etcd. */
const DEADLINE = 10_000

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
  process.stdout.write(`${explain(parseNetworkConfig(await readJson(json)))}\n`)
}

/**
 * Writes a config that was checked, and only over what was there when it was read.
 * @param json the text, or `-` for standard input
 * @throws {ConfigError}, {OverlayError} `config-changed`
 */
export async function setConfig(options: Options, json: string, ifAbsent: boolean): Promise<void> {
  const text = (await readJson(json)).trim()
  const meaning = explain(parseNetworkConfig(text))
  await withRegistry(options, async (registry, signal) => {
    const { config, configRevision } = await registry.snapshot(signal)
    if (config === text || (config !== undefined && ifAbsent)) {
      process.stdout.write(
        config === text ? 'unchanged: it is there already\n' : `unchanged: ${config} is there\n`,
      )
      return
    }
    if ((await registry.putConfig(text, configRevision ?? 'absent', signal)) === 'changed') {
      throw new OverlayError(
        'config-changed',
        'someone else changed the network config at the same time; nothing was written',
        'look at it: overlayctl config get, then try again',
      )
    }
    process.stdout.write(`written; ${describeEffect(config, text)}\n${meaning}\n`)
  })
}

/** What hosts make of a config that takes another's place. */
function describeEffect(before: string | undefined, after: string): string {
  if (before === undefined) return 'hosts that wait for it start now'
  let former: NetworkConfig
  try {
    former = parseNetworkConfig(before)
  } catch {
    return 'hosts that wait for a usable one start now'
  }
  const plan = planConfigChange(former, parseNetworkConfig(after), undefined)
  switch (plan.kind) {
    case 'nothing':
      return 'it means the same as before'
    case 'needs-new-subnet':
      return `running hosts go on as they are until overlayd is restarted on each, for they need new subnets: ${plan.reason}`
    case 'apply':
      return (
        `running hosts take it up now: ${plan.changes.join(', ')}\n` +
        'a host whose subnet it has no place for goes on as it is until overlayd is restarted there'
      )
  }
}

/** That there is no config, and how to put one. */
export function missingConfig(options: Options): OverlayError {
  return new OverlayError(
    'no-config',
    `there is no network config under ${options['etcd-prefix']}`,
    `put one: overlayctl config set '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'`,
  )
}

function explain(config: NetworkConfig): string {
  const { vni, port, directRouting } = config.backend
  const words = [
    'vxlan',
    `VNI ${vni}`,
    port === undefined ? "the kernel's default port (8472)" : `port ${port}`,
    ...(directRouting ? ['direct routing'] : []),
    config.nftables ? 'rules by nft' : 'rules by iptables',
  ]
  return [...subnetRanges(config).map(explainRange), words.join(', ')].join('\n')
}

function explainRange({ network, subnetLength, subnetMin, subnetMax }: SubnetRange): string {
  const size = prefixSize(familyOf(network.address), subnetLength)
  const count = (BigInt(subnetMax) - BigInt(subnetMin)) / size + 1n
  return `${formatPrefix(network)}: ${count} subnets of /${subnetLength}, ${formatIp(subnetMin)} to ${formatIp(subnetMax)}`
}

async function readJson(json: string): Promise<string> {
  // yargs makes an empty text of a lone dash.
  return json === '-' || json === '' ? readAll(process.stdin) : json
}

/** Opens etcd for one piece of work, which must be done within a deadline. */
export async function withRegistry<T>(
  options: Options,
  use: (registry: Registry, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const client = await openEtcd(etcdOptions(options))
  try {
    return await use(new Registry(client, { prefix: options['etcd-prefix'] }), AbortSignal.timeout(DEADLINE))
  } finally {
    client.close()
  }
}
