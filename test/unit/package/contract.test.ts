/** Each test named in the table of flannel's contract exists. The page of options has every flag. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseOptions } from '../../../src/options/schema'

const ROOT = join(__dirname, '../../..')
const table = readFileSync(join(ROOT, 'test/flannel-contract.md'), 'utf8')
const rows = table
  .split('\n')
  .filter((line) => line.startsWith('| ') && !/^\| (---|What)/.test(line))
  .map((line) => line.split(' | ').map((cell) => cell.replace(/^\| | \|$/g, '')))

test('each row names a test', () => {
  expect(rows.length).toBeGreaterThan(50)
  for (const [what, named] of rows) expect([what, named?.includes(' ›')]).toEqual([what, true])
})

const named = rows.flatMap(([, cell = '']) => Array.from(cell.matchAll(/`([^`]+\.test\.ts)` ›([^;|]*)/g)))

test.each(named.map(([, file = '', title = '']) => [file, title.trim()]))(
  '%s has a test called … %s …',
  (file, title) => {
    const path = join(ROOT, 'test', file)
    expect(existsSync(path)).toBe(true)
    expect(readFileSync(path, 'utf8')).toContain(title)
  },
)

test('the page of options has every flag', () => {
  const page = readFileSync(join(ROOT, 'scripts/docs/options.md'), 'utf8')
  const missing = Object.keys(parseOptions({}, {})).filter(
    (name) => !page.includes(`\`${name.length === 1 ? '-' : '--'}${name}\``),
  )
  expect(missing).toEqual([])
})
