/** The common part of the demos: their course, and their output. */
import { AsyncLocalStorage } from 'node:async_hooks'
import { parseArgs } from 'node:util'
import { type Place, serve } from './demo-server'

/**
 * Marks the end of the output of `scripts/demo --keep`. After it follows the id of the process through whose
 * namespaces the demo is entered.
 */
const END_MARK = '\x1e'

const colour = process.env['OVERLAYD_DEMO_COLOUR'] === '1'
const paint = (code: string) => (text: string) => (colour ? `\x1b[${code}m${text}\x1b[0m` : text)
export const bold = paint('1')
export const dim = paint('2')
export const green = paint('32')
const red = paint('31')

/** Where the output of a request to the kept demo goes. */
const output = new AsyncLocalStorage<(text: string) => void>()

export const say = (text = ''): void => {
  const write = output.getStore() ?? ((line: string) => process.stdout.write(line))
  write(`${text}\n`)
}
export const indent = (text: string): string => text.trimEnd().replace(/^(?=.)/gm, '    ')

/** Prints a table whose first row holds the headings. */
export function sayTable(rows: readonly (readonly string[])[]): void {
  const width = (column: number) => Math.max(...rows.map((row) => row[column]?.length ?? 0))
  for (const [index, row] of rows.entries()) {
    const text = row
      .map((cell, column) => cell.padEnd(width(column)))
      .join('  ')
      .trimEnd()
    say(index === 0 ? bold(text) : text)
  }
}

/** The parts of a demo; `L` is its lab. */
export interface Demo<L extends { close(): Promise<void> }> {
  create(hosts: number): Promise<L>
  show(lab: L, hosts: number): Promise<void>
  /** For `--keep`: prints what the user can do now. */
  sayHowToGoOn(lab: L): void
  /**
   * The words of a command that runs another one, whose words are appended, on a host or in a container;
   * without more words, a shell.
   * @throws {Error} with a message for the user, if there is no such place
   */
  enter(lab: L, place: Place): readonly string[]
  /** Adds a host with a container, and shows that other hosts reach it. */
  add(lab: L): Promise<void>
  sayStatus(lab: L): Promise<void>
}

/**
 * Performs a demo by the arguments of this process, cleans up, and ends the process: with 1 after a failure.
 */
export function perform<L extends { close(): Promise<void> }>(demo: Demo<L>): void {
  course(demo).then(
    () => process.exit(0),
    (error: unknown) => {
      sayFailure(error)
      process.exit(1)
    },
  )
}

const sayFailure = (error: unknown): void =>
  say(`\n${red('failed')}: ${error instanceof Error ? error.message : String(error)}`)

async function course<L extends { close(): Promise<void> }>(demo: Demo<L>): Promise<void> {
  const { values } = parseArgs({ options: { hosts: { type: 'string' }, keep: { type: 'boolean' } } })
  const hosts = Number(values.hosts ?? 2)
  const lab = await demo.create(hosts)
  try {
    await demo.show(lab, hosts)
    if (values.keep === true) await keep(demo, lab)
  } catch (error) {
    await lab.close()
    throw error
  }
  await lab.close()
}

/** Serves requests until this process, and the sandbox with it, is ended. */
async function keep<L extends { close(): Promise<void> }>(demo: Demo<L>, lab: L): Promise<void> {
  /** Requests for changes are served one after another. */
  let last: Promise<unknown> = Promise.resolve()
  /** @returns whether it succeeded; a failure is printed */
  const perform = (write: (text: string) => void, act: () => Promise<void>): Promise<boolean> =>
    output.run(write, async () => {
      try {
        await act()
        return true
      } catch (error) {
        sayFailure(error)
        return false
      }
    })
  await serve({
    enter: (place) => demo.enter(lab, place),
    add: (write) => {
      const added = last.then(() => perform(write, () => demo.add(lab)))
      last = added
      return added
    },
    status: (write) => perform(write, () => demo.sayStatus(lab)),
  })
  demo.sayHowToGoOn(lab)
  // The reader of the output ends at the mark.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
  say(`${END_MARK}${process.env['OVERLAYD_SANDBOX_PID'] ?? ''}`)
  // The sandbox ends with this process, so it must not end.
  await new Promise(() => setInterval(() => {}, 2 ** 30))
}
