/** `overlayctl identity`: prints the identity of this host, for the operator who pins it. */
import { daemonIsDown, orderDaemon } from '../../client/daemon-socket'
import { print } from '../../host/streams'
import type { Options } from '../../options/schema'

/**
 * Asks the daemon, which makes the identity if there is none. The daemon needs no etcd for that.
 * @throws {OverlayError} `control-socket`, or the daemon's refusal
 */
export async function runIdentity({ 'run-dir': runDirectory }: Options): Promise<void> {
  const answer = await orderDaemon(runDirectory, 'identity', { schema: 1 })
  if (answer === undefined) throw daemonIsDown(runDirectory)
  print(`${answer.key}\n`)
}
