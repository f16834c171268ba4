/** subnet.env: how Docker and CNI learn the host's subnet (flannel: pkg/subnet/subnet.go; format in the order written here). */
import { readFile } from 'node:fs/promises'
import { parseEnv } from 'node:util'
import { formatPrefix, type Ipv4Prefix, ipv4, networkOf, parseIpv4Prefix } from '../model/address'
import { describeError, OverlayError, systemErrorCode } from '../model/errors'
import { writeFileAtomically } from './atomic-file'

export interface SubnetEnv {
  readonly network: Ipv4Prefix
  readonly subnet: Ipv4Prefix
  /** Bytes. */
  readonly mtu: number
  /** Whether this daemon masquerades, so that Docker need not. */
  readonly ipMasq: boolean
}

/** The file's text. FLANNEL_SUBNET is the bridge's address: the first one after the subnet's own. */
export function formatSubnetEnv(env: SubnetEnv): string {
  const bridge = { address: ipv4(env.subnet.address + 1), length: env.subnet.length }
  return [
    `FLANNEL_NETWORK=${formatPrefix(env.network)}`,
    `FLANNEL_SUBNET=${formatPrefix(bridge)}`,
    `FLANNEL_MTU=${env.mtu}`,
    `FLANNEL_IPMASQ=${env.ipMasq}`,
    '',
  ].join('\n')
}

/**
 * Reads which subnet this host had.
 * @returns `undefined` when the file is missing or has no single readable FLANNEL_SUBNET; `problem` says which
 * @throws {OverlayError} `subnet-file` when the file exists and cannot be opened
 */
export async function readPreviousSubnet(
  path: string,
): Promise<{ readonly subnet: Ipv4Prefix | undefined; readonly problem: string | undefined }> {
  const text = await readIfThere(path)
  if (text === undefined) return { subnet: undefined, problem: undefined }
  const value = parseEnv(text)['FLANNEL_SUBNET']
  const prefix = value === undefined ? undefined : parseIpv4Prefix(value)
  if (prefix === undefined) {
    const found = value === undefined ? 'no FLANNEL_SUBNET' : `FLANNEL_SUBNET=${value.slice(0, 64)}`
    return { subnet: undefined, problem: `${path} has ${found}, which names no subnet: ignored` }
  }
  return { subnet: networkOf(prefix.address, prefix.length), problem: undefined }
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
