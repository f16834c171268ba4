/**
 * Standard output and standard error: the only place where our programs write text to a terminal, a pipe or a
 * file. Control and format characters in the text are replaced. Our own colours pass on a terminal, and so do
 * line ends.
 */
import { once } from 'node:events'
import { fstatSync, readFileSync } from 'node:fs'
import { printable, printableLines } from '../model/printable'

/** Properties of an output stream. */
export interface Output {
  readonly isTTY?: boolean
  readonly columns?: number
  readonly rows?: number
}

/** Standard output. */
export const standardOutput = (): Output => process.stdout

/** NO_COLOR (no-color.org) and TERM=dumb switch colour off. */
export const mayColour = ({ isTTY }: Output, env: NodeJS.ProcessEnv = process.env): boolean =>
  isTTY === true && (env['NO_COLOR'] ?? '') === '' && env['TERM'] !== 'dumb'

/**
 * Select Graphic Rendition (ECMA-48, 8.3.117) as util.styleText writes it. It only changes how the following
 * text looks.
 */
const COLOUR = new RegExp(`(${String.fromCharCode(0x1b)}\\[\\d{1,2}m)`)

/** @param colour whether colour sequences are kept */
export function cleaned(text: string, colour: boolean): string {
  if (!colour) return printableLines(text)
  // split() with a capture group: every second part is a colour sequence.
  return text
    .split(COLOUR)
    .map((part, place) => (place % 2 === 1 ? part : printableLines(part)))
    .join('')
}

/**
 * Writes to standard output.
 * @returns false if the reader is slower than the writer: wait for 'drain' before writing more
 */
export const print = (text: string): boolean => process.stdout.write(cleaned(text, mayColour(process.stdout)))

/** Writes to standard output, and waits if the reader is slower than the writer. */
export async function printSlowly(text: string): Promise<void> {
  if (!print(text)) await once(process.stdout, 'drain')
}

/** Writes bytes to standard output as they are, and waits until they are taken. It must be no terminal. */
export const writeBytes = (bytes: Uint8Array): Promise<void> =>
  new Promise((resolve, reject) => {
    process.stdout.write(bytes, (error) => (error == null ? resolve() : reject(error)))
  })

/** Writes a line to standard error. */
export function complain(line: string): void {
  process.stderr.write(`${printable(line)}\n`)
}

/** Writes a line about the end of a service: the journal shows it as an error (sd-daemon(3): SD_ERR). */
export function complainAsError(line: string): void {
  complain(`${isUnderJournald() ? '<3>' : ''}${line}`)
}

/**
 * Whether standard error goes to the journal. systemd.exec(5): JOURNAL_STREAM holds the device and inode of
 * the stream; it is compared because a shell within a service inherits the variable.
 */
export function isUnderJournald(env: NodeJS.ProcessEnv = process.env): boolean {
  const journal = env['JOURNAL_STREAM']
  if (journal === undefined) return false
  try {
    const { dev, ino } = fstatSync(2)
    return journal === `${dev}:${ino}`
  } catch {
    return false
  }
}

/** Writes several lines to standard error, such as a stack. */
export function complainAtLength(text: string): void {
  process.stderr.write(`${printableLines(text)}\n`)
}

/** Calls back when the reader of standard output is gone, for example a `head` that has read enough. */
export function onReaderGone(then: () => void): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
    then()
  })
}

/** Whether a person can be asked: input and standard error are terminals. */
export const canAsk = (): boolean => process.stdin.isTTY === true && process.stderr.isTTY === true

/** Asks a person. @returns the typed line */
export async function ask(question: string): Promise<string> {
  const { createInterface } = await import('node:readline/promises')
  const terminal = createInterface({ input: process.stdin, output: process.stderr })
  try {
    return await terminal.question(printable(question))
  } finally {
    terminal.close()
  }
}

/** Ctrl-C and Ctrl-Z, as a terminal in raw mode sends them. */
const INTERRUPT = '\u0003'
const SUSPEND = '\u001a'

/**
 * Listens to single keys while something is shown. Restores the terminal at the end, while the program is
 * suspended, and at any exit.
 * @param quit called for q and Ctrl-C
 * @param resumed called when the program continues after a suspension
 * @returns function that stops listening
 */
export function listenToKeys(quit: () => void, resumed: () => void): () => void {
  const { stdin } = process
  // A background program that changes the terminal mode would be stopped (termios(3), SIGTTOU).
  if (stdin.isTTY !== true || !isInForeground()) return () => undefined
  const raw = (mode: boolean): unknown => stdin.setRawMode(mode)
  const suspend = (): void => {
    raw(false)
    process.kill(process.pid, 'SIGSTOP')
  }
  const resume = (): void => {
    if (isInForeground()) raw(true)
    resumed()
  }
  const readKeys = (keys: Buffer): void => {
    for (const key of keys.toString('latin1')) {
      if (key === 'q' || key === 'Q' || key === INTERRUPT) quit()
      else if (key === SUSPEND) suspend()
    }
  }
  const restore = (): void => {
    raw(false)
  }
  raw(true)
  stdin.on('data', readKeys)
  process.on('SIGTSTP', suspend).on('SIGCONT', resume).on('exit', restore)
  return () => {
    process.off('SIGTSTP', suspend).off('SIGCONT', resume).off('exit', restore)
    stdin.off('data', readKeys)
    restore()
    stdin.pause()
    stdin.unref()
  }
}

/** Whether this process group is in the terminal's foreground (proc(5): fields 5 and 8 of stat). */
function isInForeground(): boolean {
  try {
    const stat = readFileSync('/proc/self/stat', 'latin1')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[2] === fields[5]
  } catch {
    return false
  }
}

const CSI = '\u001b['

/** Clears the screen. */
export function clearScreen(): void {
  process.stdout.write(`${CSI}2J`)
}

/**
 * Writes lines from the top of the screen. Lines are overwritten instead of cleared first, so there is no
 * flicker.
 */
export function redraw(lines: readonly string[]): void {
  const colour = mayColour(process.stdout)
  const text = lines.map((line) => `${cleaned(line, colour).replaceAll('\n', ' ')}${CSI}K\n`).join('')
  process.stdout.write(`${CSI}H${text}${CSI}J`)
}
