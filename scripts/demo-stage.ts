/** What the demos have in common: their course, and how they print. */
import { parseArgs } from 'node:util'

/** Ends what `scripts/demo --keep` prints. */
const END_MARK = '\x1e'

const colour = process.env['OVERLAYD_DEMO_COLOUR'] === '1'
const paint = (code: string) => (text: string) => (colour ? `\x1b[${code}m${text}\x1b[0m` : text)
export const bold = paint('1')
export const dim = paint('2')
export const green = paint('32')
const red = paint('31')

export const say = (text = ''): void => {
  process.stdout.write(`${text}\n`)
}
export const indent = (text: string): string => text.trimEnd().replace(/^(?=.)/gm, '    ')

/** A demo by its parts; `L` is where it plays. */
export interface Demo<L extends { close(): Promise<void> }> {
  create(hosts: number): Promise<L>
  show(lab: L, hosts: number): Promise<void>
  /** For `--keep`: how to look around in it, and how to end it. */
  sayHowToGoOn(lab: L): void
}

/** Performs it by the arguments of this process, cleans up, and ends the process: with 1 when something failed. */
export function perform<L extends { close(): Promise<void> }>(demo: Demo<L>): void {
  course(demo).then(
    () => process.exit(0),
    (error: unknown) => {
      say(`\n${red('failed')}: ${error instanceof Error ? error.message : String(error)}`)
      process.exit(1)
    },
  )
}

async function course<L extends { close(): Promise<void> }>(demo: Demo<L>): Promise<void> {
  const { values } = parseArgs({ options: { hosts: { type: 'string' }, keep: { type: 'boolean' } } })
  const hosts = Number(values.hosts ?? 2)
  const lab = await demo.create(hosts)
  try {
    await demo.show(lab, hosts)
  } catch (error) {
    await lab.close()
    throw error
  }
  if (values.keep === true) {
    demo.sayHowToGoOn(lab)
    say(END_MARK)
    // The sandbox ends with this process, so it stays.
    await new Promise(() => setInterval(() => {}, 2 ** 30))
  }
  await lab.close()
}
