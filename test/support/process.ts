/** Child processes of tests: short ones that are run to their end, and long ones whose output is kept and that are stopped. */
import { type ChildProcess, spawn } from 'node:child_process'
import { Pending, type WaitOptions, waitFor } from './wait'

export interface RunOptions {
  readonly input?: string
  readonly env?: NodeJS.ProcessEnv
  readonly timeoutMs?: number
}

/** How a process ended. `code` is null when a signal ended it. */
export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface RunResult extends Exit {
  readonly stdout: string
  readonly stderr: string
}

/** A command and its arguments; no shell reads it. */
export type Command = readonly [string, ...string[]]

/** Runs a command to its end, whatever that is; {@link runOk} also wants success. */
export function run(command: Command, options: RunOptions = {}): Promise<RunResult> {
  const [program, ...args] = command
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      env: options.env ?? process.env,
      timeout: options.timeoutMs ?? 30_000,
      killSignal: 'SIGKILL',
    })
    const output = { stdout: '', stderr: '' }
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output.stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      output.stderr += text
    })
    child.on('error', (error) =>
      reject(new Error(`cannot run ${program}: ${error.message}`, { cause: error })),
    )
    child.on('close', (code, signal) => resolve({ ...output, code, signal }))
    // A command that ends without reading all its input closes the pipe; its exit tells the story.
    child.stdin.on('error', () => {})
    child.stdin.end(options.input ?? '')
  })
}

/**
 * Runs a command that has to succeed.
 * @returns its standard output
 */
export async function runOk(command: Command, options: RunOptions = {}): Promise<string> {
  const result = await run(command, options)
  if (result.code !== 0) {
    const said = (result.stderr || result.stdout).trim()
    throw new Error(`\`${command.join(' ')}\` failed (${describeExit(result)}): ${said}`)
  }
  return result.stdout
}

export function describeExit({ code, signal }: Exit): string {
  return code === null ? `ended by ${signal}` : `exit code ${code}`
}

/** A process that goes on until it is stopped, with all it wrote to stdout and stderr. */
export class LongProcess {
  readonly exited: Promise<Exit>
  #exit: Exit | undefined
  #output = ''
  readonly #child: ChildProcess

  /** @param name how messages call it */
  constructor(
    readonly name: string,
    command: Command,
    env: NodeJS.ProcessEnv = process.env,
  ) {
    const [program, ...args] = command
    const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'] })
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.#output += text
      })
    }
    this.#child = child
    this.exited = new Promise((resolve) => {
      const ended = (exit: Exit) => {
        this.#exit = exit
        resolve(exit)
      }
      child.on('error', (error) => {
        this.#output += `cannot run ${program}: ${error.message}\n`
        ended({ code: 127, signal: null })
      })
      child.on('close', (code, signal) => ended({ code, signal }))
    })
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error(`${this.name} did not start`)
    return this.#child.pid
  }

  get running(): boolean {
    return this.#exit === undefined
  }

  /** All it has written so far. */
  get output(): string {
    return this.#output
  }

  /** The last lines of its output under a headline, for the message of a failure. */
  tail(lines = 25): string {
    const end = this.#exit === undefined ? 'running' : describeExit(this.#exit)
    const last = this.#output.trimEnd().split('\n').slice(-lines)
    return [`--- ${this.name} (${end}), last lines of its output:`, ...last].join('\n')
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  /** Sends the signal and waits for the end. Harmless when it has ended already. */
  async stop(signal: NodeJS.Signals = 'SIGTERM', timeoutMs = 5000): Promise<Exit> {
    this.signal(signal)
    return this.waitForExit(timeoutMs)
  }

  async waitForExit(timeoutMs = 5000): Promise<Exit> {
    return this.#wait(`${this.name} to exit`, () => this.#exit ?? new Pending('it still runs'), { timeoutMs })
  }

  /** Waits for text in its output, from the start or from an earlier `output.length`. */
  async waitForOutput(pattern: RegExp, { from = 0, timeoutMs = 10_000 } = {}): Promise<string> {
    return this.#wait(
      `${pattern} in the output of ${this.name}`,
      () => {
        const match = pattern.exec(this.#output.slice(from))
        if (match !== null) return match[0]
        return new Pending(this.running ? 'no such text yet' : 'no such text, and it has ended')
      },
      { timeoutMs },
    )
  }

  #wait<T>(what: string, probe: () => T | Pending, options: WaitOptions): Promise<T> {
    return waitFor(what, probe, { intervalMs: 5, ...options, context: () => this.tail() })
  }
}
