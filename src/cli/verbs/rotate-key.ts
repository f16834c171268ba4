/** `overlayctl rotate-key`: changes the WireGuard key of this host before its time. */
import { daemonIsDown, orderDaemon } from '../../client/daemon-socket'
import { print } from '../../host/streams'
import { commandsFor, networkOfRunDirectory } from '../../model/commands'
import type { Options } from '../../options/schema'

const ASKED = `asked for: other hosts move to the next key of this host, which they know already
when they have moved, the former key is deleted and another next one is made: a minute at least
see both steps: overlayctl events --follow --kind=encryption-key
`

/**
 * Asks the daemon for a change of keys. The change itself goes on for a minute or more.
 * @throws {OverlayError} `control-socket`, or the daemon's refusal
 */
export async function runRotateKey({ 'run-dir': runDirectory }: Options): Promise<void> {
  const answer = await orderDaemon(runDirectory, 'rotateKey', { schema: 1 })
  if (answer === undefined) throw daemonIsDown(runDirectory)
  print(commandsFor(networkOfRunDirectory(runDirectory), ASKED))
}
