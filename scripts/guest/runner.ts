/**
 * Runs test files of jest in one process: with jest's own describe, test and expect, but without its loader,
 * its transforms and an environment for each file, which take a guest as long as the tests themselves. Not
 * there: snapshots, mocks, and modules that each file has for itself.
 *
 *   [PATTERN ...]              files whose path one of these regular expressions matches; default: all
 *   -t, --testNamePattern RE   only tests whose title, with those of the blocks around it, matches
 *   --queue DIRECTORY          only files that no other runner with the same directory has taken
 *   --json --outputFile FILE   also writes the results as jest does, as far as scripts/test reads them
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { SourceMap } from 'node:module'
import { basename, dirname, relative, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { expect } from 'expect'
import * as circus from 'jest-circus'
import { patient } from '../../test/lab/patience'
import { longestFirst, takeFile } from '../../test/lab/queue'
import { timeLimits } from '../../test/lab/time-limits'

type TestEntry = ReturnType<typeof circus.getState>['rootDescribeBlock']['tests'][number]

const ROOT = resolve(__dirname, '../..')
/** Where jest-circus looks for the timeout of tests: `jest.setTimeout` of jest writes there. */
const TIMEOUT = Symbol.for('TEST_TIMEOUT_SYMBOL')

/** Path from the project's root -> evaluates the file. */
type Files = Readonly<Record<string, () => Promise<unknown>>>

/** Counts by the names that jest's results have. */
const counts = { numPassedTests: 0, numFailedTests: 0, numPendingTests: 0, numRuntimeErrorTestSuites: 0 }

/** Failures of one file, by the names that jest's results have. */
interface FileFailures {
  /** Path from the project's root. */
  readonly name: string
  /** Errors outside of tests. */
  message: string
  readonly assertionResults: {
    readonly status: 'failed'
    readonly ancestorTitles: readonly string[]
    readonly title: string
    readonly failureMessages: readonly string[]
  }[]
}
const testResults: FileFailures[] = []

/** The file that runs, as `lab` for test/guest/lab.test.ts. */
let subject = ''
/** Those of the file that runs. */
let failures: FileFailures = { name: '', message: '', assertionResults: [] }

/** Runs files and ends the process: exit code 0, 1 if a test failed or none passed, 2 for wrong arguments. */
export async function runFiles(files: Files): Promise<void> {
  const { chosen, titles, outputFile, queue } = readArguments(Object.keys(files))
  installGlobals()
  const started = performance.now()
  let run = 0
  for (const file of longestFirst(chosen, LONG, (path) => path)) {
    if (queue !== undefined && !takeFile(queue, file)) continue
    run += 1
    await runFile(file, files[file] ?? (() => Promise.resolve()), titles)
  }
  const { numPassedTests, numFailedTests, numPendingTests, numRuntimeErrorTestSuites } = counts
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  print(
    `\n${run} files, ${numPassedTests} tests passed, ${numFailedTests} failed, ` +
      `${numPendingTests} left out, ${numRuntimeErrorTestSuites} errors outside of tests; ${seconds} s`,
  )
  if (outputFile !== undefined) writeFileSync(outputFile, JSON.stringify({ ...counts, testResults }))
  const failed = numFailedTests + numRuntimeErrorTestSuites > 0
  process.exit(failed || (numPassedTests === 0 && run > 0) ? 1 : 0)
}

/** Files that take half a minute and more, longest first. */
const LONG = ['encryption.test.ts', 'encryption-families.test.ts', 'many-peers.test.ts', 'wireguard.test.ts']

function readArguments(all: readonly string[]) {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        testNamePattern: { type: 'string', short: 't' },
        queue: { type: 'string' },
        json: { type: 'boolean' },
        outputFile: { type: 'string' },
      },
    })
    const patterns = positionals.map((pattern) => new RegExp(pattern))
    const chosen = all.filter(
      (file) => patterns.length === 0 || patterns.some((pattern) => pattern.test(file)),
    )
    if (chosen.length === 0) throw new Error(`no file of ${all.join(', ')} matches`)
    const { testNamePattern, outputFile, queue } = values
    const titles = testNamePattern === undefined ? null : new RegExp(testNamePattern)
    return { chosen, titles, outputFile, queue }
  } catch (error) {
    print(error instanceof Error ? error.message : String(error))
    process.exit(2)
  }
}

/** Defines what jest gives test files, as far as tests of guests use it. */
function installGlobals(): void {
  const { afterAll, afterEach, beforeAll, beforeEach, describe, it, test } = circus
  const jest = { setTimeout: (milliseconds: number) => setTimeoutOfTests(milliseconds) }
  Object.assign(globalThis, { afterAll, afterEach, beforeAll, beforeEach, describe, it, test, expect, jest })
  circus.addEventHandler(timeLimits())
  circus.addEventHandler((event) => {
    if (event.name === 'test_done') reportTest(event.test)
    if (event.name === 'test_skip' || event.name === 'test_todo') counts.numPendingTests += 1
  })
  // An error that no test waits for fails the test that runs.
  for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
    process.on(event, (error: unknown) => {
      const { currentlyRunningTest, unhandledErrors } = circus.getState()
      if (currentlyRunningTest === null || currentlyRunningTest === undefined) unhandledErrors.push(error)
      else currentlyRunningTest.errors.push(error)
    })
  }
}

function setTimeoutOfTests(milliseconds: number): void {
  Object.assign(globalThis, { [TIMEOUT]: milliseconds })
}

async function runFile(file: string, load: () => Promise<unknown>, titles: RegExp | null): Promise<void> {
  print(`\n${file}`)
  subject = basename(file, '.test.ts')
  failures = { name: file, message: '', assertionResults: [] }
  testResults.push(failures)
  circus.resetState()
  circus.getState().testNamePattern = titles
  setTimeoutOfTests(patient(5000))
  const started = performance.now()
  try {
    await load()
    const { unhandledErrors } = await circus.run()
    for (const error of unhandledErrors) reportSuite(withSources(error))
  } catch (error) {
    reportSuite(textOf(error))
  }
  print(`  ${((performance.now() - started) / 1000).toFixed(1)} s`)
}

/** Prints a test's result when the test ends, because a file may take minutes. */
function reportTest({ name, parent, duration, errors }: TestEntry): void {
  const titles = [name]
  // The outermost block is the file. Its name is in each line because the lines of two guests may be mixed.
  for (let block = parent; block.parent !== undefined; block = block.parent) titles.unshift(block.name)
  const good = errors.length === 0
  counts[good ? 'numPassedTests' : 'numFailedTests'] += 1
  print(`  ${good ? '✓' : '✕'} ${[subject, ...titles].join(' › ')} (${Math.round(duration ?? 0)} ms)`)
  const failureMessages = errors.map(textOf)
  for (const text of failureMessages) print(indented(text))
  if (!good)
    failures.assertionResults.push({
      status: 'failed',
      ancestorTitles: titles.slice(0, -1),
      title: name,
      failureMessages,
    })
}

/** Prints an error that belongs to no test. */
function reportSuite(text: string): void {
  counts.numRuntimeErrorTestSuites += 1
  failures.message ||= text
  print(indented(`${subject}: error outside of tests: ${text}`))
}

/** An error, or jest-circus's pair of an error and the place of the test. */
function textOf(error: unknown): string {
  const [first, place] = Array.isArray(error) ? error : [error]
  const shown: unknown = first ?? place
  if (typeof shown !== 'object' || shown === null) return String(shown)
  const { stack, message } = shown as Partial<Error>
  const cause = shown instanceof Error && shown.cause !== undefined ? `\ncause: ${textOf(shown.cause)}` : ''
  return withSources(stack ?? String(message)) + cause
}

/** Source maps of bundles, read when the first error names a place: it is seldom needed, and large. */
const maps = new Map<string, SourceMap>()

/** Puts the places of sources into a stack trace, without frames of libraries and of the bundle itself. */
function withSources(stack: string): string {
  return stack
    .replace(/([^\s()]+\/bundle-\w+\.js):(\d+):(\d+)/g, (place, bundle: string, line, column) => {
      const map = maps.get(bundle) ?? new SourceMap(JSON.parse(readFileSync(`${bundle}.map`, 'utf8')))
      maps.set(bundle, map)
      const entry = map.findEntry(Number(line) - 1, Number(column) - 1)
      if (!('originalSource' in entry)) return place
      const source = relative(ROOT, resolve(dirname(bundle), entry.originalSource))
      return `${source}:${entry.originalLine + 1}:${entry.originalColumn + 1}`
    })
    .split('\n')
    .filter((line) => !/^\s+at .*(node_modules\/|node:|\/bundle-\w+\.js:)/.test(line))
    .join('\n')
}

const indented = (text: string): string => text.replace(/^/gm, '      ')

/** On standard error, as jest does. */
const print = (text: string): boolean => process.stderr.write(`${text}\n`)
