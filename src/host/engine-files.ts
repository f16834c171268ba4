/** The networks of container engines other than Docker, by the files that the engines read. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { type Prefix, parseIpPrefix } from '../model/address'
import type { Engine, EngineFile, EngineFiles, UnreadEngineFile } from '../model/engines'
import { describeError, systemErrorCode } from '../model/errors'
import { CNI_DIRECTORY } from './cni'
import { readFileOfOthers } from './trusted-path'

/** Where Podman keeps the networks of root (network_config_dir in containers.conf(5)). */
const PODMAN_DIRECTORY = '/etc/containers/networks'

/** What CNI's plugin `bridge` takes where the file names none. */
const CNI_BRIDGE = 'cni0'
/** Most files of one engine that are read. A host has few networks, and each file costs a parse. */
const MOST_FILES = 500
/** Most plugins in a list, and ranges of one plugin. */
const MOST_PARTS = 100

const text = z.string().max(1000)
/** An option that does not have the expected form is as good as none: the engine is the one to complain. */
const optional = <T extends z.ZodType>(schema: T) => schema.optional().catch(undefined)
const flag = optional(z.boolean())
const rangeSchema = z.object({ subnet: text.optional() })
const rangesSchema = z.array(rangeSchema).max(MOST_PARTS)
const pluginSchema = z.object({
  type: text,
  bridge: optional(text),
  mtu: optional(z.int().nonnegative()),
  ipMasq: flag,
  ipam: z
    .object({ subnet: text.optional(), ranges: z.array(rangesSchema).max(MOST_PARTS).optional() })
    .nullish()
    .catch(undefined),
})
const cniSchema = z.union([
  z.object({
    name: text,
    plugins: z.array(pluginSchema).max(MOST_PARTS),
    overlayd: optional(text),
  }),
  pluginSchema.extend({ name: text }).transform(({ name, ...plugin }) => ({
    name,
    plugins: [plugin],
    overlayd: undefined,
  })),
])
const podmanSchema = z.object({
  name: text,
  driver: optional(text),
  network_interface: optional(text),
  internal: flag,
  subnets: rangesSchema.nullish(),
  labels: z.record(z.string(), z.string()).nullish(),
  options: z.record(z.string(), z.string()).nullish().catch(undefined),
})

type Read = Omit<EngineFile, 'engine' | 'path'>

function parseCniFile(content: string): Read {
  const { name, plugins, overlayd } = cniSchema.parse(JSON.parse(content))
  const ranges = plugins.flatMap(({ ipam }) => [{ subnet: ipam?.subnet }, ...(ipam?.ranges ?? []).flat()])
  const bridge = plugins.find(({ type }) => type === 'bridge')
  return {
    name,
    subnets: prefixesOf(ranges),
    bridge: bridge && (bridge.bridge ?? CNI_BRIDGE),
    // 0 is the default.
    mtu: bridge?.mtu || undefined,
    masquerades: plugins.some(({ ipMasq }) => ipMasq === true),
    isInternal: false,
    isFlannel: plugins.some(({ type }) => type === 'flannel'),
    madeBy: overlayd,
  }
}

function parsePodmanFile(content: string): Read {
  const network = podmanSchema.parse(JSON.parse(content))
  const { name, subnets, labels, options, internal = false, driver = 'bridge' } = network
  const mtu = /^\d{1,5}$/.test(options?.['mtu'] ?? '') ? Number(options?.['mtu']) : 0
  return {
    name,
    subnets: prefixesOf(subnets ?? []),
    bridge: driver === 'bridge' ? network.network_interface : undefined,
    mtu: mtu || undefined,
    // netavark has no option against it, but for a bridge that somebody else manages.
    masquerades: driver === 'bridge' && !internal && options?.['mode'] !== 'unmanaged',
    isInternal: internal,
    isFlannel: false,
    madeBy: labels?.['overlayd'],
  }
}

const prefixesOf = (ranges: readonly z.infer<typeof rangeSchema>[]): Prefix[] =>
  ranges.flatMap(({ subnet = '' }) => parseIpPrefix(subnet) ?? [])

/**
 * Reads the text of a file of an engine.
 * @throws {Error} if it is no network
 */
export const parseEngineFile = (engine: Engine, content: string): Read =>
  ({ cni: parseCniFile, podman: parsePodmanFile })[engine](content)

const SOURCES = [
  { engine: 'cni', directory: CNI_DIRECTORY, names: /\.(?:conf|conflist|json)$/ },
  { engine: 'podman', directory: PODMAN_DIRECTORY, names: /\.json$/ },
] as const

/**
 * Reads all networks of CNI and of Podman. What cannot be read is named, and the rest is there.
 * @param root of the system
 */
export async function readEngineFiles(root = ''): Promise<EngineFiles> {
  const files: EngineFile[] = []
  const problems: string[] = []
  const unread: UnreadEngineFile[] = []
  const ifThere = async <T>(path: string, read: (path: string) => Promise<T>): Promise<T | undefined> => {
    try {
      return await read(`${root}${path}`)
    } catch (error) {
      const code = systemErrorCode(error) ?? ''
      if (!['ENOENT', 'ENOTDIR'].includes(code))
        unread.push({ path, why: describeError(error), isDenied: code === 'EACCES' })
      return undefined
    }
  }
  for (const { engine, directory, names } of SOURCES) {
    const all = ((await ifThere(directory, (path) => readdir(path))) ?? []).filter((each) => names.test(each))
    if (all.length > MOST_FILES)
      unread.push({
        path: directory,
        why: `it has ${all.length} networks, more than the ${MOST_FILES} that are read`,
        isDenied: false,
      })
    for (const name of all.sort().slice(0, MOST_FILES)) {
      const path = join(directory, name)
      const content = await ifThere(path, (each) => readFileOfOthers(each))
      if (content === undefined) continue
      try {
        files.push({ engine, path, ...parseEngineFile(engine, content) })
      } catch (error) {
        problems.push(`${path} is not a network: ${describeError(error)}`)
      }
    }
  }
  return { files, problems, unread }
}
