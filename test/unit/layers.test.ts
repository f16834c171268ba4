/** The import rule: model imports nothing of ours, plan imports model, an edge imports model, daemon and cli import all. */
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { preProcessFile } from 'typescript'

const SRC = resolve(__dirname, '../../src')

/** folder -> folders it may import from, besides itself */
const ALLOWED: Record<string, readonly string[]> = {
  model: [],
  plan: ['model'],
  etcd: ['model'],
  kernel: ['model'],
  firewall: ['model'],
  host: ['model'],
  daemon: ['model', 'plan', 'etcd', 'kernel', 'firewall', 'host'],
  cli: ['model', 'plan', 'etcd', 'kernel', 'firewall', 'host', 'daemon'],
}

interface Import {
  readonly file: string
  readonly from: string
  readonly to: string
}

function imports(): Import[] {
  const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'))
  return files.flatMap((file) => {
    const { importedFiles } = preProcessFile(readFileSync(join(SRC, file), 'utf8'))
    return importedFiles
      .filter(({ fileName }) => fileName.startsWith('.'))
      .map(({ fileName }) => {
        const target = relative(SRC, resolve(SRC, file, '..', fileName))
        return { file, from: room(file), to: room(target) }
      })
  })
}

/** The top folder; the two entries stand above all. */
const room = (path: string): string => (path.includes('/') ? (path.split('/')[0] ?? '') : 'entry')

test('every folder under src is in the rule', () => {
  const rooms = readdirSync(SRC, { withFileTypes: true }).filter((entry) => entry.isDirectory())
  expect(rooms.map(({ name }) => name).filter((name) => !(name in ALLOWED))).toEqual([])
})

test('imports point inward', () => {
  const all = imports()
  expect(all.length).toBeGreaterThan(50)
  const wrong = all.filter(
    ({ from, to }) => from !== 'entry' && from !== to && ALLOWED[from]?.includes(to) !== true,
  )
  expect(wrong).toEqual([])
})
