/** What the dockerd of this host says. */
import { DOCKER_RIGHTS, readDockerNetworks } from '../../host/docker-socket'
import { type DockerFacts, NO_RIGHTS } from '../../judge/facts'
import { isOverlayError, OverlayError } from '../../model/errors'

/** Milliseconds. dockerd answers from memory. */
const DEADLINE = 3000

/** @throws {OverlayError} {@link NO_RIGHTS} where this user may not ask; `docker` */
export async function readDocker(): Promise<DockerFacts | undefined> {
  try {
    const networks = await readDockerNetworks(AbortSignal.timeout(DEADLINE))
    return networks && { networks }
  } catch (error) {
    if (isOverlayError(error) && error.code === DOCKER_RIGHTS)
      throw new OverlayError(NO_RIGHTS, error.message, undefined, { cause: error })
    throw error
  }
}
