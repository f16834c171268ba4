/** subnet.env: how Docker and CNI learn the host's subnet (flannel: pkg/subnet/subnet.go; format in the order written here). */
import { readFile } from 'node:fs/promises'
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
import { describeError, OverlayError, systemErrorCode } from '../model/errors'
import { writeFileAtomically } from './atomic-file'

/** One family's half of the file. */
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

/** What this host had before, as far as it can be read. */
export interface PreviousSubnets {
  readonly ipv4: Ipv4Prefix | undefined
  readonly ipv6: Ipv6Prefix | undefined
  /** Why a subnet is undefined although something is written; none when the file is missing. */
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

/** The subnet is written with the bridge's address: the first one after the subnet's own. */
function formatFamily(name: string, family: SubnetOfNetwork<IpAddress> | undefined): string[] {
  if (family === undefined) return []
  const { network, subnet } = family
  const bridge = { address: addressAfter(subnet.address, 1n), length: subnet.length }
  return [`${name}_NETWORK=${formatPrefix(network)}`, `${name}_SUBNET=${formatPrefix(bridge)}`]
}

/**
 * Reads which subnets this host had.
 * @throws {OverlayError} `subnet-file` when the file exists and cannot be opened
 */
export async function readPreviousSubnets(path: string): Promise<PreviousSubnets> {
  const text = await readIfThere(path)
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

/** Reads a comma list that may name one subnet: with more of them none is meant (flannel: main.go). */
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
    problems: found.length < items.length ? [`${shown}, part of which names no subnet`] : [],
  }
}

/**
 * Writes the file as a whole or not at all, and not when it already says the same.
 * @returns whether it was written
 * @throws {OverlayError} `subnet-file`
 */
export async function writeSubnetEnv(path: string, env: SubnetEnv): Promise<boolean> {
  const text = formatSubnetEnv(env)
  if ((await readIfThere(path)) === text) return false
  try {
    await writeFileAtomically(path, text)
    return true
  } catch (error) {
    throw subnetFileError(path, 'written', error)
  }
}

/**
 * All variables of such a file, as text; none when it is missing.
 * @throws {OverlayError} `subnet-file`
 */
export async function readSubnetVariables(
  path: string,
): Promise<Readonly<Record<string, string | undefined>>> {
  return parseEnv((await readIfThere(path)) ?? '')
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined
    throw subnetFileError(path, 'read', error)
  }
}

function subnetFileError(path: string, verb: string, error: unknown): OverlayError {
  return new OverlayError(
    'subnet-file',
    `subnet file ${path} cannot be ${verb}: ${describeError(error)}`,
    'choose another with --subnet-file, or correct its permissions',
    { cause: error },
  )
}
