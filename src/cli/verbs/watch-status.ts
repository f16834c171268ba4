/** Shows the status again whenever it changes: in place on a terminal, else one document after another. */
import { setTimeout as sleep } from 'node:timers/promises'
import { type Status, withoutClocks } from '../../api/status'
import { awaitChange, type Seen } from '../../client/daemon-status'
import { clearScreen, listenToKeys, print, redraw, standardOutput } from '../../host/streams'
import { toJson } from '../../model/printable'
import type { Options } from '../../options/schema'
import { readLocalStatus } from '../ask/local-status'
import { EXIT } from '../exit'
import { formatDocument, type Output } from '../show/output'
import { screenOf } from '../show/screen'
import type { View } from '../show/view'

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
  const stop = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => stop.abort())
  const isInPlace = standardOutput().isTTY === true && (output === 'text' || output === 'wide')
  const write = isInPlace ? inPlace() : inTurn(output)
  let code: number = EXIT.unreachable
  let shown: Status | undefined
  const draw = (): void => {
    if (shown === undefined) return
    const status = shown
    const document = view.document(status)
    // JSON on one line each, for programs that read line by line.
    write(
      output === 'json'
        ? `${toJson(document)}\n`
        : formatDocument(document, output, (wide) => view.render(status, screenOf(), wide)),
    )
  }
  process.on('SIGWINCH', draw)
  const stopListening = isInPlace ? listenToKeys(() => stop.abort(), draw) : () => undefined
  try {
    for await (const status of statuses(options, view.isBrief(output), stop.signal)) {
      shown = status
      code = view.exitCode(status)
      draw()
    }
  } catch (error) {
    if (!stop.signal.aborted) throw error
  } finally {
    stopListening()
    process.off('SIGWINCH', draw)
  }
  return code
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

/** Shows each document over the previous one. Lines are overwritten, so there is no flicker. */
function inPlace(): (text: string) => void {
  clearScreen()
  return (text) => {
    const at = new Date().toTimeString().slice(0, 8)
    const rows = Math.max(4, standardOutput().rows ?? 24)
    const lines = [`updates on change; last at ${at}; q to quit`, '', ...text.trimEnd().split('\n')]
    const kept =
      lines.length < rows ? lines : [...lines.slice(0, rows - 2), `... ${lines.length - rows + 2} more lines`]
    redraw(kept)
  }
}

function inTurn(output: Output): (text: string) => void {
  let isFirst = true
  return (text) => {
    const before = output === 'yaml' ? '---\n' : output === 'json' || isFirst ? '' : '\n'
    isFirst = false
    print(`${before}${text}`)
  }
}
