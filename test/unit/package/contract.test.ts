/** The table of what is held of flannel names tests: each of them has to be there. And the README has every flag. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseOptions } from '../../../src/daemon/options'

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

test('the README has every flag', () => {
  const readme = readFileSync(join(ROOT, 'README.md'), 'utf8')
  const missing = Object.keys(parseOptions({}, {})).filter(
    (name) => !readme.includes(name.length === 1 ? `\`-${name}\`` : `--${name}`),
  )
  expect(missing.filter((name) => !['version', 'help'].includes(name))).toEqual([])
})
