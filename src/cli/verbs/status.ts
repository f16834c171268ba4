/**
 * `overlayctl status`, `peers` and `lease`: three views of one document. It comes from the daemon or, if that
 * does not run, from etcd and the kernel.
 */

import type { Status } from '../../api/status'
import { readDaemonStatus } from '../../client/daemon-status'
import type { Options } from '../../options/schema'
import { findBehindBeside } from '../ask/whereabouts'
import { type Output, printDocument } from '../show/output'
import { screenOf } from '../show/screen'
import type { View } from '../show/view'

export interface ViewFlags {
  readonly output: Output
  /** Whether to show it again whenever it changes, until the program is stopped. */
  readonly watch?: boolean
}

/** Prints the view of this host's status. @returns the exit code */
export async function showStatus<Document>(
  options: Options,
  { output, watch = false }: ViewFlags,
  view: View<Document>,
): Promise<number> {
  if (watch) {
    const { watchStatus } = await import('./watch-status.js')
    return watchStatus(options, output, view)
  }
  const status = await readStatus(options, view.isBrief(output))
  const where = await findBehindBeside(options['run-dir'], view.sought, status.peers)
  printDocument(view.document(status, where), output, (wide) => view.render(status, screenOf(), wide, where))
  return view.exitCode(status)
}

/**
 * The status from the daemon, else from this host and etcd.
 * @param brief whether a few of the peers suffice
 */
export async function readStatus(options: Options, brief = false): Promise<Status> {
  const status = await readDaemonStatus(options['run-dir'], brief)
  if (status !== undefined) return status
  const { readLocalStatus } = await import('../ask/local-status.js')
  return readLocalStatus(options)
}
