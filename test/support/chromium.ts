/**
 * A headless Chromium, spoken to over pipes in the DevTools protocol
 * (https://chromedevtools.github.io/devtools-protocol/). The tests need a dozen of its commands, so no
 * library stands between.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable, Writable } from 'node:stream'
import { z } from 'zod'
import { describeError, systemErrorCode } from '../../src/model/errors'
import { patient } from '../lab/patience'
import { Pending, type WaitOptions, waitFor } from '../lab/wait'

const messageSchema = z.object({
  id: z.number().optional(),
  method: z.string().optional(),
  params: z.unknown().optional(),
  result: z.unknown().optional(),
  error: z.object({ message: z.string() }).optional(),
})
const targetsSchema = z.object({
  targetInfos: z.array(z.object({ type: z.string(), targetId: z.string() })),
})
const sessionSchema = z.object({ sessionId: z.string() })
const evaluatedSchema = z.object({
  result: z.object({ value: z.unknown().optional() }),
  exceptionDetails: z.unknown().optional(),
})
const treeSchema = z.object({
  nodes: z.array(
    z.object({
      ignored: z.boolean(),
      role: z.object({ value: z.string() }).optional(),
      name: z.object({ value: z.string() }).optional(),
    }),
  ),
})

/** Milliseconds for an answer: ten thousand hosts are drawn meanwhile. */
const DEADLINE = 10_000

export interface Look {
  readonly width: number
  readonly height: number
  readonly scheme: 'light' | 'dark'
}

/** One page of a Chromium of its own. */
export class Chromium {
  /** Messages of the console, violations of the policy, exceptions and failed loads. */
  readonly complaints: string[] = []
  #id = 0
  #rest = ''
  #session: string | undefined
  readonly #waiting = new Map<number, (answer: z.infer<typeof messageSchema>) => void>()
  readonly #directory = mkdtempSync(join(tmpdir(), 'overlayd-chromium-'))
  readonly #child: ChildProcess
  readonly #ended: Promise<unknown>
  readonly #input: Writable

  /** @param wrapper a command that runs Chromium's command, such as `ip netns exec host1` */
  static async open(wrapper: readonly string[] = []): Promise<Chromium> {
    const chromium = new Chromium(wrapper)
    try {
      await chromium.#attach()
      return chromium
    } catch (error) {
      await chromium.close()
      throw error
    }
  }

  private constructor(wrapper: readonly string[]) {
    const [program = '', ...args] = [
      ...wrapper,
      'chromium',
      // Its own sandbox needs namespaces that root has not in ours.
      ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run'],
      ...['--disable-background-networking', '--disable-component-update', '--hide-scrollbars'],
      ...['--remote-debugging-pipe', `--user-data-dir=${this.#directory}`, 'about:blank'],
    ]
    // A process group of its own: Chromium's other processes end with it.
    const child = spawn(program, args, {
      detached: true,
      stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
    })
    child.unref()
    this.#child = child
    this.#ended = new Promise((resolve) => {
      child.on('error', resolve)
      child.on('exit', resolve)
    })
    const [, , , input, output] = child.stdio
    if (!(input instanceof Writable && output instanceof Readable)) throw new Error('no pipes to Chromium')
    this.#input = input
    input.on('error', () => {})
    output.setEncoding('utf8').on('data', (text: string) => this.#read(text))
  }

  async #attach(): Promise<void> {
    const target = await waitFor('a page of Chromium', async () => {
      const { targetInfos } = targetsSchema.parse(await this.#ask('Target.getTargets', {}))
      return targetInfos.find(({ type }) => type === 'page') ?? new Pending('no page')
    })
    const { sessionId } = sessionSchema.parse(
      await this.#ask('Target.attachToTarget', { targetId: target.targetId, flatten: true }),
    )
    this.#session = sessionId
    for (const domain of ['Page', 'Runtime', 'Log', 'Audits']) await this.#ask(`${domain}.enable`, {})
  }

  #read(text: string): void {
    const messages = (this.#rest + text).split('\0')
    this.#rest = messages.pop() ?? ''
    for (const each of messages) {
      const message = messageSchema.parse(JSON.parse(each))
      if (message.id !== undefined) {
        this.#waiting.get(message.id)?.(message)
        this.#waiting.delete(message.id)
      } else if (COMPLAINTS.has(message.method ?? ''))
        this.complaints.push(`${message.method}: ${JSON.stringify(message.params).slice(0, 600)}`)
    }
  }

  #ask(method: string, params: object): Promise<unknown> {
    const id = ++this.#id
    const session = this.#session === undefined ? {} : { sessionId: this.#session }
    this.#input.write(`${JSON.stringify({ id, method, params, ...session })}\0`)
    const answer = new Promise<unknown>((resolve, reject) => {
      this.#waiting.set(id, ({ result, error }) =>
        error === undefined ? resolve(result) : reject(new Error(`${method}: ${error.message}`)),
      )
    })
    const ended = this.#ended.then((why) => {
      throw new Error(`Chromium has ended during ${method}: ${String(why)}`)
    })
    const late = new Promise<never>((_, reject) => {
      setTimeout(() => reject(new Error(`no answer to ${method}`)), patient(DEADLINE)).unref()
    })
    return Promise.race([answer, ended, late])
  }

  async look({ width, height, scheme }: Look): Promise<void> {
    const metrics = { width, height, deviceScaleFactor: 1, mobile: false }
    await this.#ask('Emulation.setDeviceMetricsOverride', metrics)
    await this.#ask('Emulation.setEmulatedMedia', {
      features: [{ name: 'prefers-color-scheme', value: scheme }],
    })
  }

  async goTo(url: string): Promise<void> {
    await this.#ask('Page.navigate', { url })
  }

  /**
   * The value of an expression in the page. Chromium evaluates it past the policy of the page.
   * @throws {Error} where it throws
   */
  async evaluate(expression: string): Promise<unknown> {
    const { result, exceptionDetails } = evaluatedSchema.parse(
      await this.#ask('Runtime.evaluate', { expression, returnByValue: true, awaitPromise: true }),
    )
    if (exceptionDetails !== undefined) throw new Error(`${expression}: ${JSON.stringify(exceptionDetails)}`)
    return result.value
  }

  /** Waits until an expression gives something other than false, null or undefined. @returns its value */
  until(expression: string, options?: WaitOptions): Promise<unknown> {
    return waitFor(
      expression,
      async () => {
        const value = await this.evaluate(expression)
        return value === false || value === null || value === undefined ? new Pending(String(value)) : value
      },
      { ...options, context: () => this.complaints.join('\n') },
    )
  }

  /** Presses a key: `Tab`, `Enter`, `ArrowDown`. */
  async press(key: keyof typeof KEYS): Promise<void> {
    const params = { key, code: key, windowsVirtualKeyCode: KEYS[key] }
    const text = key === 'Enter' ? { text: '\r' } : {}
    await this.#ask('Input.dispatchKeyEvent', { type: 'keyDown', ...params, ...text })
    await this.#ask('Input.dispatchKeyEvent', { type: 'keyUp', ...params })
  }

  /** Types into what has the focus. */
  async type(text: string): Promise<void> {
    await this.#ask('Input.insertText', { text })
  }

  /** Role and name of everything that a screen reader is told. */
  async accessible(): Promise<readonly { readonly role: string; readonly name: string }[]> {
    const { nodes } = treeSchema.parse(await this.#ask('Accessibility.getFullAXTree', {}))
    return nodes
      .filter(({ ignored }) => !ignored)
      .map(({ role, name }) => ({ role: role?.value ?? '', name: name?.value ?? '' }))
  }

  /** Writes what is seen as a PNG. */
  async screenshot(path: string): Promise<void> {
    const { data } = z.object({ data: z.string() }).parse(await this.#ask('Page.captureScreenshot', {}))
    writeFileSync(path, Buffer.from(data, 'base64'))
  }

  async close(): Promise<void> {
    const { pid } = this.#child
    try {
      if (pid !== undefined) process.kill(-pid, 'SIGKILL')
    } catch (error) {
      if (systemErrorCode(error) !== 'ESRCH') throw error
    }
    await this.#ended
    // Processes of the group that have not ended yet still write files there.
    await waitFor("Chromium's folder to be removed", () => {
      try {
        rmSync(this.#directory, { recursive: true, force: true })
        return true
      } catch (error) {
        return new Pending(describeError(error))
      }
    })
  }
}

const COMPLAINTS: ReadonlySet<string> = new Set([
  'Runtime.consoleAPICalled',
  'Runtime.exceptionThrown',
  'Log.entryAdded',
  'Audits.issueAdded',
])

/** Key -> its number in Windows, which Chromium wants. */
const KEYS = {
  Tab: 9,
  Enter: 13,
  Escape: 27,
  Home: 36,
  ArrowLeft: 37,
  ArrowUp: 38,
  ArrowRight: 39,
  ArrowDown: 40,
} as const
