/**
 * Makes two bundles for guests, under dist/guest: the programs, as in the package, and the tests with their
 * runner. A bundle starts in a third of the time that its single files take. `scripts/guest/test` runs this
 * file.
 */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { OnLoadArgs, Plugin } from 'esbuild'
import { type Addons, ROOT, writeBundle } from '../package/bundle'
import { makeBundle, makeCache, ownAddons } from '../package/own-bundle'

const OUTPUT = join(ROOT, 'dist/guest')
/** The version that the programs say they have. */
const VERSION = 'guest'

async function main(): Promise<void> {
  await makeBundle(OUTPUT, VERSION)
  await makeTests(await ownAddons())
}

async function makeTests(addons: Addons): Promise<void> {
  const directory = join(OUTPUT, 'tests')
  await mkdir(directory, { recursive: true })
  const entry = join(directory, 'entry.ts')
  await writeFile(entry, await testEntry())
  await writeBundle(directory, addons, VERSION, {
    entry,
    programs: [],
    plugins: [ownDirectories(), withoutSnapshots()],
    sourceMap: true,
  })
  await writeFile(join(directory, 'tests.js'), `require('./launch.js').launch('tests')\n`)
  await makeCache(directory)
}

/** The bundle's contents, in the form of scripts/package/entry.ts. A test file is evaluated when it runs. */
async function testEntry(): Promise<string> {
  const files = await typescriptIn('test/guest', '.test.ts')
  const lab = await typescriptIn('test/lab', '.ts')
  const importOf = (file: string) => `import(${JSON.stringify(join(ROOT, file))})`
  return `import { runFiles } from ${JSON.stringify(join(ROOT, 'scripts/guest/runner'))}
export const programs = {
  tests: () => runFiles({
    ${files.map((file) => `${JSON.stringify(file)}: () => ${importOf(file)}`).join(',\n    ')}
  }),
  rehearse: () => Promise.all([${lab.map(importOf).join(', ')}]),
}
`
}

/** @returns paths from the project's root, sorted */
async function typescriptIn(folder: string, end: string): Promise<string[]> {
  const files = await readdir(join(ROOT, folder), { recursive: true })
  return files
    .filter((file) => file.endsWith(end))
    .map((file) => join(folder, file))
    .sort()
}

/** Lets `__dirname` be the directory of the source and not that of the bundle. */
function ownDirectories(): Plugin {
  const give = async ({ path }: OnLoadArgs) => ({
    contents: (await readFile(path, 'utf8')).replace(/\b__dirname\b/g, JSON.stringify(join(path, '..'))),
    loader: 'ts' as const,
  })
  return {
    name: 'own-directories',
    setup: ({ onLoad }) => onLoad({ filter: new RegExp(`^${ROOT}/(test|scripts)/.*\\.ts$`) }, give),
  }
}

/** Snapshots, which tests of guests do not use, bring half of babel along. */
function withoutSnapshots(): Plugin {
  const contents = `exports.jestExpect = require('expect').expect`
  return {
    name: 'without-snapshots',
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /^@jest\/expect$/ }, ({ path }) => ({ path, namespace: 'jest-expect' }))
      onLoad({ filter: /.*/, namespace: 'jest-expect' }, () => ({ contents, resolveDir: ROOT }))
    },
  }
}

main().catch((error: unknown) => {
  process.stderr.write(`guest: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
})
