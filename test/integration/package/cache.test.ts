/** V8's cache of the bundles: V8 takes the cache, and a start finds its functions compiled. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { patient } from '../../lab/patience'
import { type Command, LongProcess, runOk } from '../../lab/process'
import { Pending, waitFor } from '../../lab/wait'
import { makePackages, NONE_REJECTED, printRejected } from '../../support/packages'

jest.setTimeout(patient(120_000))

let directory: string
let bundle: string

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'overlayd-cache-'))
  await makePackages(['--kinds=bundle', `--output=${directory}`])
  const [name] = readdirSync(directory).filter((each) => each.endsWith(`-linux-${process.arch}`))
  if (name === undefined) throw new Error(`no bundle in ${directory}`)
  bundle = join(directory, name)
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

/** A copy of the bundle without caches. @returns its folder, and a function that runs a command there */
async function copyWithoutCache(name: string) {
  const copy = join(directory, name)
  await runOk(['cp', '-r', bundle, copy])
  for (const file of readdirSync(copy)) if (file.endsWith('.cache')) rmSync(join(copy, file))
  const inCopy = (...args: Command) => runOk(['sh', '-c', 'cd "$0" && exec "$@"', copy, ...args])
  return { copy, inCopy }
}

test('V8 takes the cache, however long a slow machine took to make it', async () => {
  const { copy, inCopy } = await copyWithoutCache('slow')
  const slow = join(copy, 'slow.cjs')
  // As if more than 10 s went by while the cache is made.
  const script = 'const later = setTimeout; setTimeout = (run, ms) => later(run, ms < 10000 ? ms : 0)'
  writeFileSync(slow, script)
  await inCopy('node', `--require=${slow}`, 'make-cache.js')
  expect(await inCopy('node', '--eval', printRejected('./launch.js'))).toBe(NONE_REJECTED)
})

/** The line of make-cache.js that names the parts whose functions are all in the cache. */
const WHOLE = /^const WHOLE = JSON\.parse\('(.*)'\)$/m

test('a start compiles no function of the parts that the cache has whole', async () => {
  const compiled = await compiledAtStart('as-made', (text) => text)
  expect(compiled).toEqual([])
  // This witness shows that a start runs functions of these parts, and that the test would see them compiled.
  const without = await compiledAtStart('without', (text) => text.replace(WHOLE, 'const WHOLE = []'))
  expect(without.length).toBeGreaterThan(50)
})

/**
 * Starts overlayd until it waits for etcd.
 * @param edit changes make-cache.js before it makes the cache
 * @returns the functions in these parts that V8 compiled meanwhile, as `NAME at OFFSET`
 */
async function compiledAtStart(name: string, edit: (text: string) => string): Promise<readonly string[]> {
  const { copy, inCopy } = await copyWithoutCache(name)
  const maker = join(copy, 'make-cache.js')
  const text = readFileSync(maker, 'utf8')
  const parts: readonly (readonly number[])[] = JSON.parse(WHOLE.exec(text)?.[1] ?? '')
  writeFileSync(maker, edit(text))
  const log = join(copy, 'v8.log')
  // V8 takes a cache only with the options that it was made with.
  const node = ['node', '--initial-old-space-size=32', '--log-function-events', `--logfile=${log}`] as const
  await inCopy(...node, '--no-logfile-per-isolate', 'make-cache.js')
  rmSync(log)
  mkdirSync(join(copy, 'run'))
  const overlayd = new LongProcess('overlayd', [
    ...node,
    '--no-logfile-per-isolate',
    join(copy, 'overlayd.js'),
    '--etcd-endpoints=http://127.0.0.1:1',
    ...[`--run-dir=${copy}/run`, `--state-dir=${copy}/run`, `--subnet-file=${copy}/run/subnet.env`],
  ])
  try {
    await waitFor(
      'overlayd to wait for etcd',
      () => overlayd.output.includes('nothing listens on port 1') || new Pending(overlayd.output),
      { timeoutMs: 60_000 },
    )
  } finally {
    await overlayd.stop()
  }
  const file = readdirSync(copy).find((each) => /^bundle-.*\.js$/.test(each)) ?? ''
  const offset = offsetsIn(readFileSync(join(copy, file), 'latin1'))
  const ranges = parts.map(([line = 0, column = 0, endLine = 0, endColumn = 0]) => [
    offset(line, column),
    offset(endLine, endColumn),
  ])
  return functionsCompiled(readFileSync(log, 'utf8'), file)
    .filter(({ begin }) => ranges.some(([from = 0, to = 0]) => from <= begin && begin < to))
    .map(({ name, begin }) => `${name} at ${begin}`)
}

/** @returns the offset of a line and a column in a text, all from 0 */
function offsetsIn(text: string): (line: number, column: number) => number {
  const lines = text.split('\n')
  const begins = [0]
  for (const { length } of lines) begins.push((begins.at(-1) ?? 0) + length + 1)
  return (line, column) => (begins[line] ?? text.length) + column
}

/** The functions of a script that V8 compiled when they were first called, from V8's log. */
function functionsCompiled(log: string, file: string) {
  const rows = log.split('\n').map((line) => line.split(','))
  const scripts = new Set(
    rows.flatMap(([kind, id, path]) => (kind === 'script-details' && path?.endsWith(file) ? [id] : [])),
  )
  // function,parse-function,SCRIPT,BEGIN,END,MILLISECONDS,TIME,NAME
  return rows.flatMap(([kind, event, script, begin, , , , name]) =>
    kind === 'function' && event === 'parse-function' && scripts.has(script)
      ? [{ name: name || '(anonymous)', begin: Number(begin) }]
      : [],
  )
}
