/** Scripts of the packages, with the steps that they have in common. */
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { withSteps } from '../../../scripts/package/steps'

const PACKAGE = join(__dirname, '../../../scripts/package')
const SCRIPTS = ['debian/postinst', 'debian/prerm', 'debian/postrm', 'rpm/overlayd.spec']
const read = (path: string): string => readFileSync(join(PACKAGE, path), 'utf8')

/** The shell in a file: all of it, or the scripts of a spec. */
const shellOf = (text: string): string =>
  text.startsWith('#!')
    ? text
    : Array.from(text.matchAll(/^%(?:post|preun|postun)\n([\s\S]*?)(?=^%)/gm), ([, script]) => script).join(
        '\n',
      )

test.each(SCRIPTS)('%s is shell, with its steps filled in', async (path) => {
  const before = read(path)
  const shell = shellOf(await withSteps(before))
  expect(before).toMatch(/^ *#step \S/m)
  expect(shell).not.toMatch(/#step/)
  // The steps ask for the root of the installation.
  expect(shell).toMatch(/^root=/m)
  expect(execFileSync('sh', ['-n'], { input: shell, encoding: 'utf8' })).toBe('')
})

test('each step is part of a script of both kinds, and a step that does not exist is an error', async () => {
  const steps = readdirSync(join(PACKAGE, 'steps')).map((name) => name.replace(/\.sh$/, ''))
  const used = (kind: string) =>
    SCRIPTS.filter((path) => path.startsWith(kind)).flatMap((path) =>
      Array.from(read(path).matchAll(/#step (\S+)$/gm), ([, name]) => name),
    )
  for (const kind of ['debian', 'rpm']) expect(new Set(used(kind))).toEqual(new Set(steps))
  await expect(withSteps('#step no-such')).rejects.toThrow('no-such.sh')
})

test('a step is indented as its line is', async () => {
  const text = await withSteps('if true; then\n  #step stop\nfi')
  expect(text).toMatch(
    /^if true; then\n {2}# A stop[\s\S]*\n {2}if \[[\s\S]*\n {4}systemctl stop[\s\S]*\n {2}fi\nfi$/,
  )
})
