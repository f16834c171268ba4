/**
 * `overlayctl status`, `peers` and `lease`: ask the daemon; when it does not run, show what etcd and the kernel say. Three views of one document.
 */
import type { Options } from '../daemon/options'
import type { Status } from '../daemon/status'
import { readDaemonStatus } from './daemon-status'
import { type Output, printDocument } from './output'
import { type Screen, screenOf } from './screen'

/** One way to look at the status. */
export interface View<Document> {
  readonly document: (status: Status) => Document
  /** For people. */
  readonly render: (status: Status, screen: Screen, wide: boolean) => string
  readonly exitCode: (status: Status) => number
  /** Whether it shows few peers at the most: with thousands of them most of the time goes into those that nobody sees. */
  readonly isBrief: (output: Output) => boolean
}

export interface ViewFlags {
  readonly output: Output
  /** Whether it is shown again whenever it changes, until the program is told to end. */
  readonly watch?: boolean
}

/** Prints what the view shows of this host, and answers the exit code. */
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
  printDocument(view.document(status), output, (wide) => view.render(status, screenOf(), wide))
  return view.exitCode(status)
}

/**
 * The status as the daemon tells it, else as this host and etcd show it.
 * @param brief whether few of the peers will do
 */
export async function readStatus(options: Options, brief = false): Promise<Status> {
  const told = await readDaemonStatus(options['run-dir'], brief)
  if (told !== undefined) return told
  const { readLocalStatus } = await import('./local-status.js')
  return readLocalStatus(options)
}
