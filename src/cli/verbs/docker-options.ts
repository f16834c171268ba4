/** `overlayctl docker-opts`: does the work of flannel's mk-docker-opts.sh, with its options. */
import { execFile } from 'node:child_process'
import { stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { parseArgs, promisify } from 'node:util'
import { z } from 'zod'
import { installedDocker } from '../../firewall/docker'
import { writeFileAtomically } from '../../host/atomic-file'
import { complain } from '../../host/streams'
import { readSubnetVariables } from '../../host/subnet-env'
import { openPlace, readFileOfOthers } from '../../host/trusted-path'
import { formatPrefix, networkOf, parseIpv4Prefix } from '../../model/address'
import { childEnvironment } from '../../model/child-environment'
import { hasNetworkDefaults } from '../../model/docker'
import { DERIVED_FLAG } from '../../model/docker-lines'
import { DEFAULT_DOCKER_MARK, formatMark, usersOfMark } from '../../model/docker-mark'
import { describeError, OverlayError, systemErrorCode } from '../../model/errors'
import type { Problem } from '../../model/result'
import type { Options } from '../../options/schema'
import { nftablesFlags } from '../../plan/host/docker-backend'
import {
  type DockerOptionsRequest,
  dockerOptions,
  isVariableName,
  type NetworksRequest,
  OF_REQUEST,
  optionsOfNetworks,
  SUBNET_VARIABLES,
} from '../../plan/host/docker-options'
import { readFurther } from '../ask/further-subnets'

export interface DockerOptionsFiles {
  /** subnet.env; a missing file gives no options. */
  readonly input: string
  readonly output: string
}

/** Milliseconds. */
const IP_DEADLINE = 5000
/** Milliseconds. */
const DOCKER_DEADLINE = 5000

const FLAGS = {
  f: { type: 'string', short: 'f' },
  d: { type: 'string', short: 'd' },
  i: { type: 'boolean', short: 'i' },
  c: { type: 'boolean', short: 'c' },
  k: { type: 'string', short: 'k' },
  m: { type: 'boolean', short: 'm' },
  networks: { type: 'string' },
} as const

/**
 * Converts the flags to the form `--name=value`, by the rules of the shell's getopts, as unit files write
 * them: `-ic`, `-kKEY`; the last value of a repeated flag counts.
 * @throws {OverlayError} `docker-opts` for an invalid flag, including `-h` and `-?`: flannel's exit code for
 *   all of them is 1
 */
export function splitGetopts(words: readonly string[]): string[] {
  try {
    const { values } = parseArgs({ args: [...words], options: FLAGS })
    return Object.entries(values).map(([name, value]) => `--${name}=${value}`)
  } catch (error) {
    const [problem = ''] = describeError(error).split('. ')
    complain('usage: overlayctl docker-opts [-f FILE] [-d FILE] [-i] [-c] [-m] [-k KEY] [--networks SIZE]')
    throw new OverlayError('docker-opts', problem, 'overlayctl docker-opts --help explains each')
  }
}

/**
 * Writes the options file.
 * @param host where to ask for further subnets; without it there are none
 * @throws {OverlayError} `docker-opts`; also, as in flannel after the file was written, if the subnet is
 *   routed elsewhere
 */
export async function runDockerOptions(
  files: DockerOptionsFiles,
  asked: DockerOptionsRequest,
  host?: Pick<Options, 'run-dir' | 'state-dir'>,
): Promise<void> {
  let request = asked
  if (!isVariableName(request.key)) {
    throw new OverlayError(
      'docker-opts',
      `-k is ${JSON.stringify(request.key)}, which is not a variable name`,
      'use letters, digits and _: -k DOCKER_OPTS',
    )
  }
  const found = await readSubnetVariables(files.input)
  const variables: Record<string, string | undefined> = { ...process.env }
  for (const name of SUBNET_VARIABLES) if (found[name] !== undefined) variables[name] = found[name]
  if (host !== undefined && request.networks !== undefined) {
    const further = await readFurther(host, parseIpv4Prefix(variables['FLANNEL_SUBNET'] ?? ''))
    request = { ...request, networks: { ...request.networks, further } }
  }
  const made = dockerOptions(variables, request)
  if (!made.ok) throw refusal(files, made.problem)
  const isOwnInput = await isSameFile(files.input, files.output)
  complainOfLeftOut(files.input, found, isOwnInput)
  if (isOwnInput) complainOfInput(files)
  else await complainOfOwner(files.output)
  try {
    await writeFileAtomically(files.output, isOwnInput ? besideSubnet(found, made.value) : made.value)
  } catch (error) {
    throw new OverlayError(
      'docker-opts',
      `cannot write ${files.output}: ${describeError(error)}`,
      'choose another file with -d, or correct its permissions',
      { cause: error },
    )
  }
  if (request.networks !== undefined) complainOfNetworks(variables, request, request.networks)
  const bridge = parseIpv4Prefix(variables['FLANNEL_SUBNET'] ?? '')
  if (bridge === undefined) return
  const subnet = formatPrefix(networkOf(bridge.address, bridge.length))
  const routes = await listRoutes()
  const hole = routes.find((words) => words[0] === 'blackhole' && words[1] === subnet)
  if (hole !== undefined && request.networks !== undefined)
    complain(
      `overlayctl: there is a route "${hole.join(' ')}", and Docker makes no network that overlaps a ` +
        'route; ' +
        'leave out --ip-blackhole-route of overlayd, or name the subnet of each network',
    )
  const route = routes.find((words) => words.includes(subnet) && words.includes('via'))
  if (route !== undefined) {
    throw new OverlayError(
      'docker-opts',
      `the subnet is routed elsewhere: ${route.join(' ')}`,
      `remove that route, or Docker's bridge will not be reached: ip route del ${subnet}`,
    )
  }
}

function refusal({ input }: DockerOptionsFiles, { part, text, code }: Problem): OverlayError {
  return part === OF_REQUEST
    ? new OverlayError(code, text)
    : new OverlayError(code, `${input}: ${text}`, 'let overlayd write the file again')
}

/**
 * Reads the value of --networks.
 * @throws {OverlayError} `docker-opts`
 */
export async function readNetworks(size: string): Promise<NetworksRequest> {
  const [, length] = /^\/?(\d{1,2})$/.exec(size) ?? []
  if (length === undefined) {
    throw new OverlayError(
      'docker-opts',
      `--networks is ${JSON.stringify(size.slice(0, 64))}, which is not a prefix length`,
      "name the length of docker0's part and of each network, as in --networks=27",
    )
  }
  return { length: Number(length), docker: await installedDocker(AbortSignal.timeout(DOCKER_DEADLINE)) }
}

/** dockerd's settings, unless a flag names another file. */
const DAEMON_JSON = '/etc/docker/daemon.json'
/** Bytes. */
const MOST_SETTINGS = 1024 * 1024

/**
 * The flags that dockerd's nftables backend needs, where daemon.json or the environment chooses it.
 * @param markOf the bit that overlayd sets; asked only where it is needed
 */
export async function readBackend(markOf: () => Promise<number | undefined>): Promise<readonly string[]> {
  const given = Object.entries(process.env).filter(([name]) => /^DOCKER_OPT(?:S$|_)/.test(name))
  const flags = given.flatMap(([, value = '']) => value.split(/\s+/).filter((word) => word !== ''))
  const settings = { file: await readDaemonJson(), flags }
  if (nftablesFlags(settings, DEFAULT_DOCKER_MARK).length === 0) return []
  const mark = await markOf()
  if (mark === undefined) {
    complain(
      'overlayctl: --docker-mark=off: the nftables backend of Docker drops what comes from other hosts',
    )
    return []
  }
  const users = usersOfMark(mark)
  if (users.length > 0)
    complain(`overlayctl: --docker-mark=${formatMark(mark)}: that bit is used by ${users.join(' and ')} too`)
  return nftablesFlags(settings, mark)
}

/** An unreadable file is dockerd's to complain of. */
async function readDaemonJson(): Promise<Readonly<Record<string, unknown>>> {
  try {
    const parsed: unknown = JSON.parse((await readFileOfOthers(DAEMON_JSON, MOST_SETTINGS)) ?? '{}')
    return settingsSchema.parse(parsed)
  } catch {
    return {}
  }
}
const settingsSchema = z.record(z.string(), z.unknown())

/** Says what each network needs where dockerd has no defaults for networks. */
function complainOfNetworks(
  variables: Readonly<Record<string, string | undefined>>,
  request: DockerOptionsRequest,
  { docker }: NetworksRequest,
): void {
  if (docker !== undefined && hasNetworkDefaults(docker)) return
  const options = optionsOfNetworks(variables, request)
  if (options.length === 0) return
  const which =
    docker === undefined
      ? 'dockerd is not found in PATH, so its version is not known'
      : `Docker ${docker.text} has no default options for networks (Docker 24 has)`
  const flags = options.map(([name, value]) => `-o ${name}=${value}`).join(' ')
  const lines = options.map(([name, value]) => `${name}: "${value}"`).join(', ')
  complain(
    `overlayctl: ${which}: each network needs its own: docker network create ${flags}; ` +
      `in a compose file: networks: {default: {driver_opts: {${lines}}}}`,
  )
}

/** Whether both paths name the same file, also through links. */
async function isSameFile(input: string, output: string): Promise<boolean> {
  const [one, other] = await Promise.all([input, output].map((path) => stat(path).catch(() => undefined)))
  if (one === undefined || other === undefined) return resolve(input) === resolve(output)
  return one.dev === other.dev && one.ino === other.ino && one.isFile()
}

/** Warns of unknown variables. They do not get to dockerd, which runs as root. */
function complainOfLeftOut(
  path: string,
  found: Readonly<Record<string, string | undefined>>,
  isOwnInput: boolean,
): void {
  const known: readonly string[] = SUBNET_VARIABLES
  const names = Object.keys(found).filter((name) => !known.includes(name))
  // Options that an earlier run wrote there are not worth a warning.
  const strange = isOwnInput
    ? names.filter((name) => !(found[name] ?? '').split(' ').some((word) => DERIVED_FLAG.test(word)))
    : names
  if (strange.length === 0) return
  const some = strange.slice(0, 5).map((name) => name.slice(0, 64))
  const listed = `${some.join(', ')}${strange.length > some.length ? ', ...' : ''}`
  complain(
    `overlayctl: ${path} has ${listed}, which is not for Docker and is ignored; ` +
      'your own options belong in DOCKER_OPTS in /etc/default/docker',
  )
}

function complainOfInput({ output }: DockerOptionsFiles): void {
  complain(
    `overlayctl: ${output} is the subnet file itself, which belongs to overlayd: ` +
      "Docker's options are written below its own lines, and overlayd keeps them there; " +
      'better write them to a file of their own, -d /run/docker_opts.env, ' +
      "and name that in Docker's EnvironmentFile=",
  )
}

/** Docker's unit reads the file as root, so whoever can replace it controls dockerd. */
async function complainOfOwner(output: string): Promise<void> {
  const place = await openPlace(output).catch(() => undefined)
  await place?.close()
  if (place?.otherWriter === undefined) return
  complain(
    `overlayctl: ${dirname(output)} can be changed by ${place.otherWriter}, ` +
      `and Docker reads its options from ${output} as root; ` +
      "better write them to a directory of root's: -d /run/docker_opts.env",
  )
}

/** Addresses, prefixes, numbers and words. */
const PLAIN = /^[\w.:/,]+$/

/** The text of the subnet file with the options below its own lines. */
function besideSubnet(found: Readonly<Record<string, string | undefined>>, text: string): string {
  const own = SUBNET_VARIABLES.flatMap((name) =>
    PLAIN.test(found[name] ?? '') ? [`${name}=${found[name]}\n`] : [],
  )
  if (own.length === 0) {
    throw new OverlayError(
      'docker-opts',
      'the subnet file has no subnet yet, and a file of options only would pass for one with a subnet',
      'start overlayd first, or write the options into a file of their own: -d /run/docker_opts.env',
    )
  }
  return own.join('') + text
}

/** The words of each route in the main table; none without iproute2, as in flannel's script. */
async function listRoutes(): Promise<string[][]> {
  try {
    const { stdout } = await promisify(execFile)('ip', ['route', 'show'], {
      timeout: IP_DEADLINE,
      env: childEnvironment(),
    })
    return stdout.split('\n').map((line) => line.trim().split(' '))
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return []
    throw new OverlayError('docker-opts', `cannot list the routes: ${describeError(error)}`, undefined, {
      cause: error,
    })
  }
}
