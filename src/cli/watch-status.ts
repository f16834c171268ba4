/** Shows the status again whenever it changes: in place on a terminal, one document after another elsewhere. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Options } from '../daemon/options'
import { type Status, withoutClocks } from '../daemon/status'
import { awaitChange, type Seen } from './daemon-status'
import { EXIT } from './exit'
import { readLocalStatus } from './local-status'
import { formatDocument, type Output } from './output'
import { screenOf } from './screen'
import type { View } from './status'

/** Milliseconds between two looks for a daemon that does not run; every so many of them etcd and the kernel are asked what they have. */
const DOWN_LOOK = 500
const DOWN_LOOKS = 10

/** Runs until SIGINT or SIGTERM; answers the exit code of what was shown last. */
export async function watchStatus<Document>(
  options: Options,
  output: Output,
  view: View<Document>,
): Promise<number> {
  const stop = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => stop.abort())
  const paper =
    process.stdout.isTTY === true && (output === 'text' || output === 'wide') ? inPlace() : inTurn(output)
  let code: number = EXIT.unreachable
  let shown: Status | undefined
  const draw = (): void => {
    if (shown === undefined) return
    const status = shown
    const document = view.document(status)
    // One line each, for programs that read line by line.
    paper(
      output === 'json'
        ? `${JSON.stringify(document)}\n`
        : formatDocument(document, output, (wide) => view.render(status, screenOf(), wide)),
    )
  }
  process.on('SIGWINCH', draw)
  try {
    for await (const status of statuses(options, view.isBrief(output), stop.signal)) {
      shown = status
      code = view.exitCode(status)
      draw()
    }
  } catch (error) {
    if (!stop.signal.aborted) throw error
  } finally {
    process.off('SIGWINCH', draw)
  }
  return code
}

/** One whenever it is another than before. */
async function* statuses(
  options: Options,
  brief: boolean,
  signal: AbortSignal,
): AsyncGenerator<Status, void, void> {
  let seen: Seen | undefined
  let last: string | undefined
  for (let looks = 0; !signal.aborted; looks++) {
    seen = await awaitChange(options['run-dir'], brief, seen, signal)
    if (seen !== undefined) {
      // Where it is gone next, the first look is one at all there is.
      looks = -1
      last = undefined
      yield seen.status
      continue
    }
    if (looks % DOWN_LOOKS === 0) {
      const status = await readLocalStatus(options)
      const text = JSON.stringify(withoutClocks(status))
      if (text !== last) yield status
      last = text
    }
    await sleep(DOWN_LOOK, undefined, { signal })
  }
}

/** Each over the one before, without flicker: what stays the same is written over with itself. */
function inPlace(): (text: string) => void {
  process.stdout.write('\u001b[2J')
  return (text) => {
    const at = new Date().toTimeString().slice(0, 8)
    const rows = Math.max(4, process.stdout.rows ?? 24)
    const lines = [
      `shown anew when it changes, last at ${at}; ctrl-c ends`,
      '',
      ...text.trimEnd().split('\n'),
    ]
    const kept =
      lines.length < rows ? lines : [...lines.slice(0, rows - 2), `... ${lines.length - rows + 2} more lines`]
    process.stdout.write(`\u001b[H${kept.map((line) => `${line}\u001b[K\n`).join('')}\u001b[J`)
  }
}

function inTurn(output: Output): (text: string) => void {
  let isFirst = true
  return (text) => {
    const before = output === 'yaml' ? '---\n' : output === 'json' || isFirst ? '' : '\n'
    isFirst = false
    process.stdout.write(`${before}${text}`)
  }
}
