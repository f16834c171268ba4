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

type Command = readonly [string, ...string[]]

/** What several commands print, each under its own words. A failure is the text of that command alone. */
export async function outputsOf(commands: readonly Command[]): Promise<string> {
  return written(commands, await tried(commands))
}

/**
 * As {@link outputsOf}.
 * @throws {OverlayError} the first failure, where no command has succeeded
 */
export async function someOutputsOf(commands: readonly Command[]): Promise<string> {
  const outputs = await tried(commands)
  const [first] = outputs
  if (first?.status === 'rejected' && outputs.every(({ status }) => status === 'rejected')) throw first.reason
  return written(commands, outputs)
}

const tried = (commands: readonly Command[]): Promise<PromiseSettledResult<string>[]> =>
  Promise.allSettled(commands.map(([name, ...args]) => outputOf(name, ...args)))

const written = (commands: readonly Command[], outputs: readonly PromiseSettledResult<string>[]): string =>
  outputs
    .map((each, place) => {
      const text = each.status === 'fulfilled' ? each.value : `(${describeError(each.reason)})`
      return `$ ${commands[place]?.join(' ')}\n${text.trimEnd()}\n`
    })
    .join('\n')
