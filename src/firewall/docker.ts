/** The Docker that is installed on this host, by its program. */
import { type DockerVersion, parseDockerVersion } from '../model/docker'
import { findProgram, runProgram } from './program'

/**
 * The version of the dockerd in PATH, which need not run.
 * @returns `undefined` where there is none, or it does not tell its version
 * @throws the signal's reason
 */
export async function installedDocker(signal: AbortSignal): Promise<DockerVersion | undefined> {
  const program = await findProgram('dockerd')
  if (program === undefined) return undefined
  try {
    return parseDockerVersion(await runProgram('dockerd', { command: [program, '--version'], signal }))
  } catch (error) {
    if (signal.aborted) throw error
    return undefined
  }
}
