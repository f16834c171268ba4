/** The allowed imports between rooms, of values and types: they point inward, and form no cycle. */
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { preProcessFile } from 'typescript'

const ROOT = resolve(__dirname, '../..')

/** Rooms that do I/O. They do not import each other. */
const EDGES = ['etcd', 'kernel', 'firewall', 'host'] as const

/** Room of `src` -> rooms it may import from, besides itself. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  model: [],
  native: ['model'],
  api: ['model'],
  options: ['model'],
  plan: ['model', 'api'],
  etcd: ['model'],
  firewall: ['model'],
  kernel: ['model', 'native'],
  host: ['model', 'native'],
  judge: ['model', 'api', 'plan'],
  client: ['model', 'api', 'options', 'host'],
  doctor: ['model', 'api', 'options', 'plan', 'judge', 'client', ...EDGES],
  daemon: ['model', 'native', 'api', 'options', 'plan', 'judge', ...EDGES],
  cli: ['model', 'api', 'options', 'plan', 'judge', 'client', 'doctor', ...EDGES],
}

interface Import {
  readonly file: string
  readonly target: string
}

const typescriptOf = (folder: string): string[] =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => join(folder, file))

/** All imports in a folder's files, including types and dynamic imports; paths from the project's root. */
function importsOf(folder: string): Import[] {
  return typescriptOf(folder).flatMap((file) =>
    preProcessFile(readFileSync(join(ROOT, file), 'utf8'))
      .importedFiles.filter(({ fileName }) => fileName.startsWith('.'))
      .map(({ fileName }) => ({
        file,
        target: relative(ROOT, resolve(ROOT, file, '..', fileName.replace(/\.js$/, ''))).concat('.ts'),
      })),
  )
}

/** The folder below `src`. The two programs are above all rooms. */
const roomOf = (path: string): string => path.split('/').slice(1, -1)[0] ?? 'program'

const SRC = importsOf('src')

test('every room of src is in the table', () => {
  const rooms = readdirSync(join(ROOT, 'src'), { withFileTypes: true }).filter((entry) => entry.isDirectory())
  expect(rooms.map(({ name }) => name).sort()).toEqual(Object.keys(ALLOWED).sort())
})

test('imports point inward', () => {
  expect(SRC.length).toBeGreaterThan(500)
  const wrong = SRC.filter(({ file, target }) => {
    const [from, to] = [roomOf(file), roomOf(target)]
    return from !== 'program' && from !== to && ALLOWED[from]?.includes(to) !== true
  })
  expect(wrong.map(({ file, target }) => `${file} -> ${target}`)).toEqual([])
})

test('netlink errors leave their room as codes only', () => {
  const wrong = SRC.filter(
    ({ file, target }) => roomOf(file) !== 'kernel' && target.startsWith('src/kernel/netlink/'),
  )
  expect(wrong.map(({ file, target }) => `${file} -> ${target}`)).toEqual([])
})

/** @returns the files of the first cycle found, with the first file again at the end */
function findCircle(imports: readonly Import[]): readonly string[] | undefined {
  const targets = new Map<string, string[]>()
  for (const { file, target } of imports) targets.set(file, [...(targets.get(file) ?? []), target])
  const done = new Set<string>()
  const path: string[] = []
  const visit = (file: string): readonly string[] | undefined => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file]
    if (done.has(file)) return undefined
    path.push(file)
    for (const target of targets.get(file) ?? []) {
      const circle = visit(target)
      if (circle !== undefined) return circle
    }
    path.pop()
    done.add(file)
    return undefined
  }
  for (const file of targets.keys()) {
    const circle = visit(file)
    if (circle !== undefined) return circle
  }
  return undefined
}

test('imports form no cycle', () => {
  const edge = (file: string, target: string) => ({ file, target })
  expect(findCircle([edge('a', 'b'), edge('b', 'c'), edge('a', 'c')])).toBeUndefined()
  expect(findCircle([edge('a', 'b'), edge('b', 'c'), edge('c', 'b')])).toEqual(['b', 'c', 'b'])
  expect(findCircle(SRC)).toBeUndefined()
})

test.each(['scripts', 'test/lab', 'test/nemesis', 'src'])(
  '%s imports nothing from test folders',
  (folder) => {
    const wrong = importsOf(folder).filter(({ target }) =>
      /^test\/(support|unit|integration|e2e)\//.test(target),
    )
    expect(wrong.map(({ file, target }) => `${file} -> ${target}`)).toEqual([])
  },
)
