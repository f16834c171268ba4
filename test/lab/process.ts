/**
 * Child processes of tests. {@link run} waits for a command's end. {@link LongProcess} runs until it is
 * stopped, and keeps its output.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { Socket } from 'node:net'
import { patient } from './patience'
import { Pending, type WaitOptions, waitFor } from './wait'

export interface RunOptions {
  readonly input?: string
  readonly env?: NodeJS.ProcessEnv
  readonly timeoutMs?: number
}

/** How a process ended. `code` is null if a signal ended it. */
export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface RunResult extends Exit {
  readonly stdout: string
  readonly stderr: string
}

/** A program and its arguments; no shell interprets them. */
export type Command = readonly [string, ...string[]]

/** Runs a command to its end. Any exit code is accepted, unlike {@link runOk}. */
export function run(command: Command, options: RunOptions = {}): Promise<RunResult> {
  const [program, ...args] = command
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      env: options.env ?? process.env,
      timeout: patient(options.timeoutMs ?? 30_000),
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
    // EPIPE: the command ended without reading all its input. Its exit code shows whether that is an error.
    child.stdin.on('error', () => {})
    child.stdin.end(options.input ?? '')
  })
}

/**
 * Runs a command that has to succeed.
 * @returns its standard output
 * @throws {Error} with the command's output if the exit code is not 0
 */
export async function runOk(command: Command, options: RunOptions = {}): Promise<string> {
  const result = await run(command, options)
  if (result.code !== 0) {
    const output = (result.stderr || result.stdout).trim()
    throw new Error(`\`${command.join(' ')}\` failed (${describeExit(result)}): ${output}`)
  }
  return result.stdout
}

export function describeExit({ code, signal }: Exit): string {
  return code === null ? `ended by ${signal}` : `exit code ${code}`
}

/** A process that runs until it is stopped. Keeps all its output to stdout and stderr. */
export class LongProcess {
  readonly exited: Promise<Exit>
  #exit: Exit | undefined
  #output = ''
  readonly #child: ChildProcess

  /** @param name for messages */
  constructor(
    readonly name: string,
    command: Command,
    env: NodeJS.ProcessEnv = process.env,
  ) {
    const [program, ...args] = command
    const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'] })
    // A failed test may leave the process running. The sandbox ends the process then, once jest has ended.
    child.unref()
    for (const stream of [child.stdout, child.stderr]) {
      if (stream instanceof Socket) stream.unref()
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

  /** Stdout and stderr so far. */
  get output(): string {
    return this.#output
  }

  /** The last lines of the output under a headline, for a failure's message. */
  tail(lines = 25): string {
    const end = this.#exit === undefined ? 'running' : describeExit(this.#exit)
    const last = this.#output.trimEnd().split('\n').slice(-lines)
    return [`--- ${this.name} (${end}), last lines of its output:`, ...last].join('\n')
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  /** Sends the signal and waits for the exit. Harmless if the process has exited already. */
  async stop(signal: NodeJS.Signals = 'SIGTERM', timeoutMs = 5000): Promise<Exit> {
    this.signal(signal)
    return this.waitForExit(timeoutMs)
  }

  async waitForExit(timeoutMs = 5000): Promise<Exit> {
    const probe = () => this.#exit ?? new Pending('it is still running')
    return this.#wait(`${this.name} to exit`, probe, { timeoutMs })
  }

  /**
   * Waits for text in the output.
   * @param options.from ignores the output before this offset: an earlier `output.length`
   */
  async waitForOutput(pattern: RegExp, { from = 0, timeoutMs = 10_000 } = {}): Promise<string> {
    return this.#wait(
      `${pattern} in the output of ${this.name}`,
      () => {
        const match = pattern.exec(this.#output.slice(from))
        if (match !== null) return match[0]
        return new Pending(this.running ? 'no such text yet' : 'no such text, and the process has exited')
      },
      { timeoutMs },
    )
  }

  #wait<T>(what: string, probe: () => T | Pending, options: WaitOptions): Promise<T> {
    return waitFor(what, probe, { intervalMs: 5, ...options, context: () => this.tail() })
  }
}
