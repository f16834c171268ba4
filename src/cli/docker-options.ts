/** `overlayctl docker-opts`: what flannel's mk-docker-opts.sh does, with its options. */
import { execFile } from 'node:child_process'
import { parseArgs, promisify } from 'node:util'
import { writeFileAtomically } from '../host/atomic-file'
import { readSubnetVariables } from '../host/subnet-env'
import { formatPrefix, networkOf, parseIpv4Prefix } from '../model/address'
import { describeError, OverlayError, systemErrorCode } from '../model/errors'
import { type DockerOptionsRequest, dockerOptions } from '../plan/docker-options'

export interface DockerOptionsFiles {
  /** subnet.env; a missing one gives no options. */
  readonly input: string
  readonly output: string
}

/** Milliseconds. */
const IP_DEADLINE = 5000

const FLAGS = {
  f: { type: 'string', short: 'f' },
  d: { type: 'string', short: 'd' },
  i: { type: 'boolean', short: 'i' },
  c: { type: 'boolean', short: 'c' },
  k: { type: 'string', short: 'k' },
  m: { type: 'boolean', short: 'm' },
} as const

/**
 * Brings the flags into the one form `--name=value`, by the rules of the shell's getopts, as unit files write them: `-ic`, `-kKEY`, and of
 * a flag given twice the last counts.
 * @throws {OverlayError} `docker-opts` for what is no flag, `-h` and `-?` included: flannel's exit code for all of them is 1
 */
export function splitGetopts(words: readonly string[]): string[] {
  try {
    const { values } = parseArgs({ args: [...words], options: FLAGS })
    return Object.entries(values).map(([name, value]) => `--${name}=${value}`)
  } catch (error) {
    const [problem = ''] = describeError(error).split('. ')
    throw new OverlayError(
      'docker-opts',
      `${problem}\nusage: overlayctl docker-opts [-f FILE] [-d FILE] [-i] [-c] [-m] [-k KEY]`,
      'overlayctl docker-opts --help explains each',
    )
  }
}

/**
 * Writes the options file.
 * @throws {OverlayError} `docker-opts`; after the file was written, as flannel does, when the subnet is routed elsewhere
 */
export async function runDockerOptions(
  files: DockerOptionsFiles,
  request: DockerOptionsRequest,
): Promise<void> {
  const variables = { ...process.env, ...(await readSubnetVariables(files.input)) }
  const { text, problem } = dockerOptions(variables, request)
  if (problem !== undefined) {
    throw new OverlayError('docker-opts', `${files.input}: ${problem}`, 'let overlayd write the file again')
  }
  try {
    await writeFileAtomically(files.output, text)
  } catch (error) {
    throw new OverlayError(
      'docker-opts',
      `cannot write ${files.output}: ${describeError(error)}`,
      'choose another file with -d, or correct its permissions',
      { cause: error },
    )
  }
  const bridge = parseIpv4Prefix(variables['FLANNEL_SUBNET'] ?? '')
  if (bridge === undefined) return
  const subnet = formatPrefix(networkOf(bridge.address, bridge.length))
  const route = (await listRoutes()).find((words) => words.includes(subnet) && words.includes('via'))
  if (route !== undefined) {
    throw new OverlayError(
      'docker-opts',
      `the subnet is routed elsewhere: ${route.join(' ')}`,
      `remove that route, or Docker's bridge will not be reached: ip route del ${subnet}`,
    )
  }
}

/** The words of each route of the main table; none without iproute2, for then flannel's script looks for none either. */
async function listRoutes(): Promise<string[][]> {
  try {
    const { stdout } = await promisify(execFile)('ip', ['route', 'show'], { timeout: IP_DEADLINE })
    return stdout.split('\n').map((line) => line.trim().split(' '))
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return []
    throw new OverlayError('docker-opts', `cannot list the routes: ${describeError(error)}`, undefined, {
      cause: error,
    })
  }
}
