/** The networks of container engines other than Docker, by the files that the engines read. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { type Prefix, parseIpv4Prefix, parseIpv6Prefix } from '../model/address'
import { describeError, OverlayError, systemErrorCode } from '../model/errors'
import { CNI_DIRECTORY } from './cni'
import { readFileOfOthers } from './trusted-path'

/** Where Podman keeps the networks of root (network_config_dir in containers.conf(5)). */
const PODMAN_DIRECTORY = '/etc/containers/networks'

export interface EngineFile {
  readonly engine: 'cni' | 'podman'
  readonly path: string
  /** Of the network. */
  readonly name: string
  /** From which its containers get addresses. */
  readonly subnets: readonly Prefix[]
  /** Whether its containers get addresses of all of the host's subnet, by flannel's plugin. */
  readonly isFlannel: boolean
  /** The command that made the file, if overlayctl did. */
  readonly madeBy: string | undefined
}

export interface EngineFiles {
  readonly files: readonly EngineFile[]
  /** Files that no engine can use either: each with the reason. */
  readonly problems: readonly string[]
}

const text = z.string().max(1000)
const rangeSchema = z.object({ subnet: text.optional() })
const pluginSchema = z.object({
  type: text,
  ipam: z
    .object({ subnet: text.optional(), ranges: z.array(z.array(rangeSchema)).optional() })
    .nullish()
    .catch(undefined),
})
const cniSchema = z.union([
  z.object({ name: text, plugins: z.array(pluginSchema), overlayd: text.optional().catch(undefined) }),
  pluginSchema.extend({ name: text }).transform(({ name, ...plugin }) => ({
    name,
    plugins: [plugin],
    overlayd: undefined,
  })),
])
const podmanSchema = z.object({
  name: text,
  subnets: z.array(rangeSchema).nullish(),
  labels: z.record(z.string(), z.string()).nullish(),
})

type Read = Omit<EngineFile, 'engine' | 'path'>

function parseCniFile(content: string): Read {
  const { name, plugins, overlayd } = cniSchema.parse(JSON.parse(content))
  const ranges = plugins.flatMap(({ ipam }) => [{ subnet: ipam?.subnet }, ...(ipam?.ranges ?? []).flat()])
  return {
    name,
    subnets: prefixesOf(ranges),
    isFlannel: plugins.some(({ type }) => type === 'flannel'),
    madeBy: overlayd,
  }
}

function parsePodmanFile(content: string): Read {
  const { name, subnets, labels } = podmanSchema.parse(JSON.parse(content))
  return { name, subnets: prefixesOf(subnets ?? []), isFlannel: false, madeBy: labels?.['overlayd'] }
}

const prefixesOf = (ranges: readonly z.infer<typeof rangeSchema>[]): Prefix[] =>
  ranges.flatMap(({ subnet = '' }) => parseIpv4Prefix(subnet) ?? parseIpv6Prefix(subnet) ?? [])

/**
 * Reads the text of a file of an engine.
 * @throws {Error} if it is no network
 */
export const parseEngineFile = (engine: EngineFile['engine'], content: string): Read =>
  ({ cni: parseCniFile, podman: parsePodmanFile })[engine](content)

const SOURCES = [
  { engine: 'cni', directory: CNI_DIRECTORY, names: /\.(?:conf|conflist|json)$/ },
  { engine: 'podman', directory: PODMAN_DIRECTORY, names: /\.json$/ },
] as const

/**
 * Reads all networks of CNI and of Podman.
 * @param root of the system
 * @throws {OverlayError} `engine-files` where a directory or a file may not be read
 */
export async function readEngineFiles(root = ''): Promise<EngineFiles> {
  const files: EngineFile[] = []
  const problems: string[] = []
  for (const { engine, directory, names } of SOURCES) {
    const all = await ifThere(`${root}${directory}`, (path) => readdir(path))
    for (const name of (all ?? []).filter((each) => names.test(each)).sort()) {
      const path = join(directory, name)
      const content = await ifThere(`${root}${path}`, (each) => readFileOfOthers(each))
      if (content === undefined) continue
      try {
        files.push({ engine, path, ...parseEngineFile(engine, content) })
      } catch (error) {
        problems.push(`${path} is not a network: ${describeError(error)}`)
      }
    }
  }
  return { files, problems }
}

async function ifThere<T>(path: string, read: (path: string) => Promise<T>): Promise<T | undefined> {
  try {
    return await read(path)
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(systemErrorCode(error) ?? '')) return undefined
    const fix = systemErrorCode(error) === 'EACCES' ? 'run overlayctl as root' : undefined
    throw new OverlayError('engine-files', `cannot read ${path}: ${describeError(error)}`, fix, {
      cause: error,
    })
  }
}
