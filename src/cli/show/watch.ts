/** Shows documents one after another, as they come: in place on a terminal, else in turn. */
import { clearScreen, listenToKeys, print, redraw, standardOutput } from '../../host/streams'

export interface Watch<Document> {
  readonly output: 'text' | 'wide' | 'json' | 'yaml'
  /** What is written above the text on a terminal: `updates on change`. */
  readonly heading: string
  /** The documents, until the signal fires. */
  readonly documents: (signal: AbortSignal) => AsyncIterable<Document>
  readonly format: (document: Document) => string
}

/**
 * Runs until q, SIGINT or SIGTERM.
 * @returns the last document; undefined where none came
 */
export async function watch<Document>({
  output,
  heading,
  documents,
  format,
}: Watch<Document>): Promise<Document | undefined> {
  const stop = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => stop.abort())
  const isInPlace = standardOutput().isTTY === true && (output === 'text' || output === 'wide')
  const write = isInPlace ? inPlace(heading) : inTurn(output)
  let shown: { readonly document: Document } | undefined
  const draw = (): void => {
    if (shown !== undefined) write(format(shown.document))
  }
  process.on('SIGWINCH', draw)
  const stopListening = isInPlace ? listenToKeys(() => stop.abort(), draw) : () => undefined
  try {
    for await (const document of documents(stop.signal)) {
      shown = { document }
      draw()
    }
  } catch (error) {
    if (!stop.signal.aborted) throw error
  } finally {
    stopListening()
    process.off('SIGWINCH', draw)
  }
  return shown?.document
}

/** Shows each document over the previous one. Lines are overwritten, so there is no flicker. */
function inPlace(heading: string): (text: string) => void {
  clearScreen()
  return (text) => {
    const at = new Date().toTimeString().slice(0, 8)
    const rows = Math.max(4, standardOutput().rows ?? 24)
    const lines = [`${heading}; last at ${at}; q to quit`, '', ...text.trimEnd().split('\n')]
    const kept =
      lines.length < rows ? lines : [...lines.slice(0, rows - 2), `... ${lines.length - rows + 2} more lines`]
    redraw(kept)
  }
}

function inTurn(output: Watch<unknown>['output']): (text: string) => void {
  let isFirst = true
  return (text) => {
    const before = output === 'yaml' ? '---\n' : output === 'json' || isFirst ? '' : '\n'
    isFirst = false
    print(`${before}${text}`)
  }
}
