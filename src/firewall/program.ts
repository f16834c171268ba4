/** Programs of other packages: found in PATH, run to their end, and what they say made into an error. */
import { execFile } from 'node:child_process'
import { access, constants } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { describeError, OverlayError } from '../model/errors'

/** Milliseconds until a program is given up. */
const DEADLINE = 10_000

/** Bytes of output that are taken: a ruleset of 100,000 rules. */
const LONGEST_OUTPUT = 64 * 1024 * 1024

/** The first program of that name in PATH. */
export async function findProgram(
  name: string,
  path = process.env['PATH'] ?? '',
): Promise<string | undefined> {
  for (const directory of path.split(delimiter).filter((each) => each !== '')) {
    const candidate = join(directory, name)
    const usable = await access(candidate, constants.X_OK).then(
      () => true,
      () => false,
    )
    if (usable) return candidate
  }
  return undefined
}

/**
 * Finds a program that has to be there.
 * @throws {OverlayError} `program-missing`
 */
export async function requireProgram(name: string, debianPackage: string): Promise<string> {
  const program = await findProgram(name)
  if (program !== undefined) return program
  throw new OverlayError(
    'program-missing',
    `${name} is not in PATH`,
    `install the package ${debianPackage}; it is looked for again by itself`,
  )
}

export interface Call {
  /** The program, as a path, and its arguments. */
  readonly command: readonly [string, ...string[]]
  readonly input?: string
  readonly signal: AbortSignal
}

/**
 * Runs a program to its end.
 * @returns what it printed
 * @throws {OverlayError} of this code, with what the program said
 * @throws the signal's reason when it fired
 */
export function runProgram(code: string, { command, input, signal }: Call): Promise<string> {
  const [program, ...args] = command
  return new Promise((resolve, reject) => {
    const options = { timeout: DEADLINE, maxBuffer: LONGEST_OUTPUT, signal }
    const child = execFile(program, args, options, (error, stdout, stderr) => {
      if (error === null) resolve(stdout)
      else if (signal.aborted) reject(signal.reason)
      else reject(failure(code, command, { error, stderr, timedOut: child.killed }))
    })
    // A program that fails at once does not read its input; its exit tells the story.
    child.stdin?.on('error', () => {})
    child.stdin?.end(input ?? '')
  })
}

interface Failure {
  readonly error: Error
  readonly stderr: string
  readonly timedOut: boolean
}

function failure(code: string, command: Call['command'], { error, stderr, timedOut }: Failure): OverlayError {
  const [program, ...args] = command
  const said = stderr
    .split('\n')
    .map((line) => line.trim())
    .find((line) => line !== '' && !line.startsWith('#'))
  const what = timedOut ? `no end after ${DEADLINE / 1000} s` : (said ?? describeError(error))
  const name = program.slice(program.lastIndexOf('/') + 1)
  return new OverlayError(
    code,
    `${[name, ...args].join(' ')}: ${what}`,
    'run the same command by hand to see what is wrong',
    { cause: error },
  )
}
