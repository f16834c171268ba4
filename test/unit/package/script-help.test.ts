/** Every script has a --help, which neither installs nor starts anything. */
import { execFileSync } from 'node:child_process'
import { accessSync, constants, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const ROOT = resolve(__dirname, '../../..')

const isExecutable = (path: string): boolean => {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** The executable shell scripts. */
const scripts = readdirSync(join(ROOT, 'scripts'), { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map(({ parentPath, name }) => join(parentPath, name))
  .filter((path) => isExecutable(path) && readFileSync(path, 'utf8').startsWith('#!/usr/bin/env bash'))
  .map((path) => path.slice(ROOT.length + 1))

test('the scripts are found', () => {
  expect(scripts).toEqual(expect.arrayContaining(['scripts/demo', 'scripts/test', 'scripts/docs/generate']))
})

test.each(
  scripts.flatMap((script) => [
    [script, '--help'],
    [script, '-h'],
  ]),
)('%s %s says what it does and how it is called', (script, flag) => {
  const text = execFileSync(join(ROOT, script), [flag], { encoding: 'utf8', cwd: '/' })
  const name = script === 'scripts/package/make' ? 'npm run package' : script
  expect(text).toMatch(/^[A-Z]/)
  expect(text).toContain(`  ${name}`)
  expect(text).not.toMatch(/^#/m)
})
