/** `overlayctl docker-opts`: what flannel's mk-docker-opts.sh does, with its options. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { writeFileAtomically } from '../host/atomic-file'
import { readSubnetVariables } from '../host/subnet-env'
import { formatPrefix, networkOf, parseIpv4Prefix } from '../model/address'
import { describeError, OverlayError } from '../model/errors'
import { type DockerOptionsRequest, dockerOptions } from '../plan/docker-options'

export interface DockerOptionsFiles {
  /** subnet.env; a missing one gives no options. */
  readonly input: string
  readonly output: string
}

/** Milliseconds. */
const IP_DEADLINE = 5000

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
  const route = (await listRoutes()).find((line) => line.startsWith(`${subnet} `) && / via /.test(line))
  if (route !== undefined) {
    throw new OverlayError(
      'docker-opts',
      `the subnet is routed elsewhere: ${route.trim()}`,
      `remove that route, or Docker's bridge will not be reached: ip route del ${subnet}`,
    )
  }
}

async function listRoutes(): Promise<string[]> {
  try {
    const { stdout } = await promisify(execFile)('ip', ['route', 'show'], { timeout: IP_DEADLINE })
    return stdout.split('\n')
  } catch (error) {
    throw new OverlayError(
      'docker-opts',
      `cannot list the routes: ${describeError(error)}`,
      'install iproute2',
      {
        cause: error,
      },
    )
  }
}
