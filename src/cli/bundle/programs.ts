/** Output of the host's own programs, for a bundle. */
import { findProgram, runProgram } from '../../firewall/program'
import { describeError, OverlayError } from '../../model/errors'

/** Where administrators' programs are; not in the PATH of every user. */
const ADMIN = '/usr/local/sbin:/usr/sbin:/sbin'

/** Milliseconds for one program. */
const DEADLINE = 8000

/**
 * What a program prints.
 * @throws {OverlayError} `program-missing`; `program` with the program's complaint
 */
export async function outputOf(name: string, ...args: readonly string[]): Promise<string> {
  const program = await findProgram(name, `${process.env['PATH'] ?? ''}:${ADMIN}`)
  if (program === undefined) throw new OverlayError('program-missing', `there is no program ${name} here`)
  const signal = AbortSignal.timeout(DEADLINE)
  try {
    return await runProgram('program', { command: [program, ...args], signal })
  } catch (error) {
    if (signal.aborted) throw new OverlayError('program', `${name}: no answer within ${DEADLINE / 1000} s`)
    // The arguments are in the part itself, where there is one.
    const complaint = (error instanceof Error ? error.message : '').replace(` ${args.join(' ')}`, '')
    throw new OverlayError('program', complaint, undefined, { cause: error })
  }
}

/** What several commands print, each under its own words. A failure is the text of that command alone. */
export async function outputsOf(commands: readonly (readonly [string, ...string[]])[]): Promise<string> {
  const texts = await Promise.all(
    commands.map(async ([name, ...args]) => {
      const text = await outputOf(name, ...args).catch((error) => `(${describeError(error)})`)
      return `$ ${[name, ...args].join(' ')}\n${text.trimEnd()}\n`
    }),
  )
  return texts.join('\n')
}

/** As {@link outputsOf}, where at least one has to succeed. */
export async function someOutputsOf(commands: readonly (readonly [string, ...string[]])[]): Promise<string> {
  const tried = await Promise.allSettled(commands.map(([name, ...args]) => outputOf(name, ...args)))
  if (tried.some(({ status }) => status === 'fulfilled')) {
    return tried
      .map((each, place) => {
        const text = each.status === 'fulfilled' ? each.value : `(${describeError(each.reason)})`
        return `$ ${commands[place]?.join(' ')}\n${text.trimEnd()}\n`
      })
      .join('\n')
  }
  const [first] = tried
  throw first?.status === 'rejected' ? first.reason : new Error('there is nothing to run')
}
