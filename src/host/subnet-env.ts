/**
 * subnet.env: tells Docker and CNI the host's subnet. Format and order of lines as in flannel:
 * pkg/subnet/subnet.go.
 */
import type { Stats } from 'node:fs'
import { chmod, lstat, realpath, rm, rmdir, stat, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { parseEnv } from 'node:util'
import {
  addressAfter,
  formatPrefix,
  type IpAddress,
  type Ipv4,
  type Ipv4Prefix,
  type Ipv6,
  type Ipv6Prefix,
  networkOf,
  type Prefix,
  parseIpv4Prefix,
  parseIpv6Prefix,
} from '../model/address'
import { withDockerLines } from '../model/docker-lines'
import { describeError, isOverlayError, OverlayError, systemErrorCode } from '../model/errors'
import { writeFileAtomically } from './atomic-file'
import { readFileOfOthers } from './trusted-path'

/** One family's part of the file. */
export interface SubnetOfNetwork<Address extends IpAddress> {
  readonly network: Prefix<Address>
  readonly subnet: Prefix<Address>
}

export interface SubnetEnv {
  readonly ipv4?: SubnetOfNetwork<Ipv4> | undefined
  readonly ipv6?: SubnetOfNetwork<Ipv6> | undefined
  /** Bytes. */
  readonly mtu: number
  /** Whether this daemon masquerades, so that Docker need not. */
  readonly ipMasq: boolean
}

/** The subnets this host had before, as far as the file can be read. */
export interface PreviousSubnets {
  readonly ipv4: Ipv4Prefix | undefined
  readonly ipv6: Ipv6Prefix | undefined
  /** Why a subnet is undefined although the file has text for it. Empty if there is no file. */
  readonly problems: readonly string[]
}

/** The file's text. */
export function formatSubnetEnv({ ipv4, ipv6, mtu, ipMasq }: SubnetEnv): string {
  return [
    ...formatFamily('FLANNEL', ipv4),
    ...formatFamily('FLANNEL_IPV6', ipv6),
    `FLANNEL_MTU=${mtu}`,
    `FLANNEL_IPMASQ=${ipMasq}`,
    '',
  ].join('\n')
}

/**
 * FLANNEL_SUBNET holds the bridge's address, the first one after the subnet's own, with the subnet's length.
 */
function formatFamily(name: string, family: SubnetOfNetwork<IpAddress> | undefined): string[] {
  if (family === undefined) return []
  const { network, subnet } = family
  const bridge = { address: addressAfter(subnet.address, 1n), length: subnet.length }
  return [`${name}_NETWORK=${formatPrefix(network)}`, `${name}_SUBNET=${formatPrefix(bridge)}`]
}

/**
 * Reads the subnets that this host had.
 * @throws {OverlayError} `subnet-file` when the file exists and cannot be opened
 */
export async function readPreviousSubnets(path: string): Promise<PreviousSubnets> {
  let text: string | undefined
  try {
    text = await readIfThere(path)
  } catch (error) {
    const cause = isOverlayError(error) ? error.cause : error
    // A device or pipe such as /dev/stdout, or a huge file: the former subnets are unknown.
    if (!['EINVAL', 'EFBIG'].includes(systemErrorCode(cause) ?? '')) throw error
    return { ipv4: undefined, ipv6: undefined, problems: [`${path}: ${describeError(cause)}: ignored`] }
  }
  if (text === undefined) return { ipv4: undefined, ipv6: undefined, problems: [] }
  const variables = parseEnv(text)
  const ipv4 = readFamily(variables, 'FLANNEL_SUBNET', parseIpv4Prefix)
  const ipv6 = readFamily(variables, 'FLANNEL_IPV6_SUBNET', parseIpv6Prefix)
  const problems = [...ipv4.problems, ...ipv6.problems]
  if (problems.length + ipv4.found.length + ipv6.found.length === 0) problems.push('no FLANNEL_SUBNET')
  return {
    ipv4: ipv4.found[0],
    ipv6: ipv6.found[0],
    problems: problems.map((problem) => `${path} has ${problem}: ignored`),
  }
}

/** Reads a comma list that should name one subnet. If it names several, none is used (flannel: main.go). */
function readFamily<Address extends IpAddress>(
  variables: Readonly<Record<string, string | undefined>>,
  name: string,
  parse: (text: string) => Prefix<Address> | undefined,
): { readonly found: readonly Prefix<Address>[]; readonly problems: string[] } {
  const value = variables[name] ?? ''
  const shown = `${name}=${value.slice(0, 64)}`
  const items = value === '' ? [] : value.split(',').map((item) => parse(item.trim()))
  const found = items.filter((prefix) => prefix !== undefined)
  if (found.length > 1) return { found: [], problems: [`${shown}, which names more than one subnet`] }
  return {
    found: found.map(({ address, length }) => networkOf(address, length)),
    problems: found.length < items.length ? [`${shown}, part of which is not a subnet`] : [],
  }
}

/**
 * As flannel's: readable by all whatever the umask is, for Docker, CNI and people; writable by the owner
 * only.
 */
const MODE = 0o644

/** The kind of file found in the subnet file's place at the first check. */
export interface SubnetPlace {
  /** `link`: a link to a file; writes go through the link. `stream`: a device or a pipe. */
  readonly kind: 'file' | 'link' | 'stream'
  readonly path: string
  /** Permissions of its directory; `undefined` if there is no directory. */
  readonly directoryMode: number | undefined
}

/**
 * Inspects the place of the subnet file.
 * @throws {OverlayError} `subnet-file`
 */
export async function findPlace(path: string): Promise<SubnetPlace> {
  const behind = await ifPresent(path, () => stat(path))
  const own = await ifPresent(path, () => lstat(path))
  const directory = await ifPresent(path, () => stat(dirname(path)))
  const isStream = behind !== undefined && !behind.isFile() && !behind.isDirectory()
  const kind = isStream ? 'stream' : own?.isSymbolicLink() === true ? 'link' : 'file'
  return { kind, path, directoryMode: directory && directory.mode & 0o777 }
}

/** Checks and restores the file in its place. Each call throws an {@link OverlayError} `subnet-file`. */
export interface KeptSubnetFile {
  /** How the file differs from the text, as words that follow its name; `undefined` if it does not. */
  difference(text: string): Promise<string | undefined>
  /**
   * Makes the file hold the text, readable by all. A non-file that took its place is removed first; a
   * directory only if it is empty, as Docker makes one for a mount of a missing file.
   * @returns whether anything was written
   */
  enforce(text: string): Promise<boolean>
}

export function subnetFileAt({ kind, path, directoryMode }: SubnetPlace): KeptSubnetFile {
  /** Path of the file itself: the target of the link, if the link still exists. */
  const target = async (): Promise<string> =>
    kind === 'link' ? ((await ifPresent(path, () => realpath(path))) ?? path) : path
  return {
    async difference(text) {
      if (kind === 'stream') return 'needs another text'
      const file = await target()
      const found = await ifPresent(path, () => lstat(file))
      if (found === undefined) return 'was deleted'
      if (!found.isFile()) return `was replaced by ${describeKind(found)}`
      if (found.size === 0) return 'was emptied'
      if (!(await hasText(file, found, text))) return 'was changed'
      const mode = found.mode & 0o777
      if (mode !== MODE) return `has the mode ${mode.toString(8)} instead of ${MODE.toString(8)}`
      const directory = await ifPresent(path, () => stat(dirname(path)))
      const lost = (directoryMode ?? 0) & ~(directory?.mode ?? 0) & 0o555
      return lost === 0 ? undefined : 'is in a directory that other users can no longer enter'
    },
    async enforce(text) {
      if (kind === 'stream') {
        await change(path, () => writeFile(path, text))
        return true
      }
      const file = await target()
      const found = await ifPresent(path, () => lstat(file))
      const isFile = found?.isFile() === true
      if (found !== undefined && !isFile) {
        await change(path, () => (found.isDirectory() ? rmdir(file) : rm(file)))
      }
      const isRight = isFile && (found.mode & 0o777) === MODE && (await hasText(file, found, text))
      if (!isRight) {
        const content = isFile ? await readBounded(file, found) : undefined
        await change(path, () => writeFileAtomically(file, withDockerLines(text, content ?? ''), MODE))
      }
      const directory = dirname(path)
      const entered = await ifPresent(path, () => stat(directory))
      const lost = (directoryMode ?? 0) & ~(entered?.mode ?? 0) & 0o555
      if (lost !== 0 && entered !== undefined)
        await change(path, () => chmod(directory, (entered.mode & 0o7777) | lost))
      return !isRight || lost !== 0
    },
  }
}

/** Whether the file holds the text, plus the lines for Docker that belong to it. */
async function hasText(file: string, found: Stats, text: string): Promise<boolean> {
  const content = await readBounded(file, found)
  return content !== undefined && content === withDockerLines(text, content)
}

/** Bytes. The file has less, also with the longest lines of Docker that are kept. */
const MOST_BYTES = 65_536

/** @returns undefined for a file that is too large, or gone */
const readBounded = async (file: string, { size }: Stats): Promise<string | undefined> =>
  size > MOST_BYTES ? undefined : readIfThere(file)

function describeKind(found: Stats): string {
  if (found.isSymbolicLink()) return 'a link'
  return found.isDirectory() ? 'a directory' : 'something that is not a file'
}

/**
 * Writes the file, unless it holds the text already.
 * @returns whether it was written
 * @throws {OverlayError} `subnet-file`
 */
export async function writeSubnetEnv(path: string, env: SubnetEnv): Promise<boolean> {
  return subnetFileAt(await findPlace(path)).enforce(formatSubnetEnv(env))
}

/** @returns `undefined` if nothing exists at the path */
async function ifPresent<T>(path: string, read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read()
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined
    throw subnetFileError(path, 'read', error)
  }
}

async function change<T>(path: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act()
  } catch (error) {
    throw subnetFileError(path, 'written', error)
  }
}

/**
 * All variables of such a file, as text; none if there is no file.
 * @throws {OverlayError} `subnet-file`
 */
export async function readSubnetVariables(
  path: string,
): Promise<Readonly<Record<string, string | undefined>>> {
  return parseEnv((await readIfThere(path)) ?? '')
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFileOfOthers(path, MOST_BYTES)
  } catch (error) {
    // Docker makes a directory for a mount of a file that does not exist.
    if (['ENOENT', 'EISDIR'].includes(systemErrorCode(error) ?? '')) return undefined
    throw subnetFileError(path, 'read', error)
  }
}

function subnetFileError(path: string, verb: string, error: unknown): OverlayError {
  return new OverlayError(
    'subnet-file',
    `subnet file ${path} cannot be ${verb}: ${describeError(error)}`,
    ['EACCES', 'ENOENT'].includes(systemErrorCode(error) ?? '')
      ? `make the directory ${dirname(path)} for the user of this process, as a restart of the service ` +
          'does, or choose another with --subnet-file'
      : 'choose another with --subnet-file, or correct its permissions or the space on it',
    { cause: error },
  )
}
