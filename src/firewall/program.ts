/**
 * Runs programs of other packages: finds them in PATH, runs them to the end, and turns failures into errors.
 */
import { execFile } from 'node:child_process'
import { access, constants } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { childEnvironment } from '../model/child-environment'
import { describeError, OverlayError } from '../model/errors'

/** Milliseconds until a program is killed. */
const DEADLINE = 10_000

/** Most bytes of output; enough for 100,000 rules. */
const LONGEST_OUTPUT = 64 * 1024 * 1024

/** The first executable with that name in PATH. */
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
 * Finds a program that must exist.
 * @throws {OverlayError} `program-missing`
 */
export async function requireProgram(name: string, debianPackage: string): Promise<string> {
  const program = await findProgram(name)
  if (program !== undefined) return program
  throw new OverlayError(
    'program-missing',
    `${name} is not in PATH`,
    `install the package ${debianPackage}; overlayd keeps looking for it`,
  )
}

export interface Call {
  /** Path of the program, and its arguments. */
  readonly command: readonly [string, ...string[]]
  readonly input?: string
  readonly signal: AbortSignal
}

/**
 * Runs a program to its end.
 * @returns its standard output
 * @throws {OverlayError} with the given code and the first line of the program's standard error
 * @throws the signal's reason if the signal fired
 */
export function runProgram(code: string, { command, input, signal }: Call): Promise<string> {
  const [program, ...args] = command
  return new Promise((resolve, reject) => {
    const options = { timeout: DEADLINE, maxBuffer: LONGEST_OUTPUT, signal, env: childEnvironment() }
    const child = execFile(program, args, options, (error, stdout, stderr) => {
      if (error === null) resolve(stdout)
      else if (signal.aborted) reject(signal.reason)
      else reject(failure(code, command, { error, stderr, timedOut: child.killed }))
    })
    // EPIPE: a program that fails at once does not read its input. Its exit status is the error that counts.
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
  const complaint = stderr
    .split('\n')
    .map((line) => line.trim())
    .find((line) => line !== '' && !line.startsWith('#'))
  const what = timedOut ? `still running after ${DEADLINE / 1000} s` : (complaint ?? describeError(error))
  const name = program.slice(program.lastIndexOf('/') + 1)
  return new OverlayError(
    code,
    `${[name, ...args].join(' ')}: ${what}`,
    'run the same command by hand to see what is wrong',
    { cause: error },
  )
}
