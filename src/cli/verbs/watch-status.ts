/** Shows the status again whenever it changes: in place on a terminal, else one document after another. */

import { setTimeout as sleep } from 'node:timers/promises'
import type { Status } from '../../api/status'
import { withoutClocks } from '../../api/status-parts'
import { awaitChange, type Seen } from '../../client/daemon-status'
import { toJson } from '../../model/printable'
import type { Options } from '../../options/schema'
import { readLocalStatus } from '../ask/local-status'
import { findBehindBeside } from '../ask/whereabouts'
import { EXIT } from '../exit'
import { formatDocument, type Output } from '../show/output'
import { screenOf } from '../show/screen'
import type { View } from '../show/view'
import { watch } from '../show/watch'

/** Milliseconds between checks for a daemon that does not run. */
const DOWN_PERIOD = 500
/** Every so many of these checks, etcd and the kernel are read. */
const DOWN_CHECKS = 10

/** Runs until SIGINT or SIGTERM. @returns the exit code of the last status shown */
export async function watchStatus<Document>(
  options: Options,
  output: Output,
  view: View<Document>,
): Promise<number> {
  const last = await watch({
    output,
    heading: 'updates on change',
    documents: async function* (signal) {
      for await (const status of statuses(options, view.isBrief(output), signal))
        yield { status, where: await findBehindBeside(options['run-dir'], view.sought, status.peers) }
    },
    format: ({ status, where }) => {
      const document = view.document(status, where)
      // JSON on one line each, for programs that read line by line.
      return output === 'json'
        ? `${toJson(document)}\n`
        : formatDocument(document, output, (wide) => view.render(status, screenOf(), wide, where))
    },
  })
  return last === undefined ? EXIT.unreachable : view.exitCode(last.status)
}

/** Yields the status whenever it has changed. */
async function* statuses(
  options: Options,
  brief: boolean,
  signal: AbortSignal,
): AsyncGenerator<Status, void, void> {
  let seen: Seen | undefined
  let last: string | undefined
  for (let checks = 0; !signal.aborted; checks++) {
    seen = await awaitChange(options['run-dir'], brief, seen, signal)
    if (seen !== undefined) {
      // After an answer start counting again: if the daemon goes away, the next check reads etcd and the
      // kernel.
      checks = -1
      last = undefined
      yield seen.status
      continue
    }
    if (checks % DOWN_CHECKS === 0) {
      const status = await readLocalStatus(options)
      const text = JSON.stringify(withoutClocks(status))
      if (text !== last) yield status
      last = text
    }
    await sleep(DOWN_PERIOD, undefined, { signal })
  }
}
