/**
 * Makes under dist/package, for each architecture: a folder with the bundle, which runs on a node of 20.12 or newer, and the Debian package.
 *
 *   npm run package [-- --arch=amd64,arm64] [--fetch]
 *
 *   --arch   for these only
 *   --fetch  only download what has to be, so that a later run needs no network
 */
import { readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import packageJson from '../../package.json'
import { PROGRAMS, ROOT, writeBundle } from './bundle'
import { writeDeb } from './deb'
import type { Helps } from './documents'
import { type Help, parseHelp } from './help'
import { run } from './run'
import { findAddons, findNode, TARGETS, type Target } from './targets'

const OUTPUT = join(ROOT, 'dist/package')

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { arch: { type: 'string' }, fetch: { type: 'boolean' } } })
  const targets = readTargets(values.arch)
  if (values.fetch) {
    for (const target of targets) await Promise.all([findNode(target), findAddons(target)])
    return
  }
  const changelog = await readFile(join(__dirname, 'debian/changelog'), 'utf8')
  const release = { version: packageJson.version, epoch: sourceDate(changelog), changelog }
  for (const target of targets) {
    const bundle = join(OUTPUT, `overlayd-${release.version}-linux-${target.node}`)
    await rm(bundle, { recursive: true, force: true })
    await writeBundle(bundle, await findAddons(target), release.version)
    // V8's cache is for one processor and one node: those of whoever packs. Elsewhere make-cache.js makes it.
    if (target.node === process.arch) await run([process.execPath, join(bundle, 'make-cache.js')])
    await report(bundle)
  }
  const helps = new Map<string, Helps>()
  for (const program of PROGRAMS) helps.set(program, await readHelps(program))
  for (const target of targets) await report(await writeDeb(OUTPUT, target, release, helps))
}

function readTargets(names: string | undefined): readonly Target[] {
  if (names === undefined) return TARGETS
  return names.split(',').map((name) => {
    const target = TARGETS.find(({ debian }) => debian === name)
    if (target === undefined) throw new Error(`--arch takes amd64 and arm64, not ${name}`)
    return target
  })
}

/** The same source gives the same package: its files have the date that SOURCE_DATE_EPOCH says, or that of the changelog. */
function sourceDate(changelog: string): number {
  const given = process.env['SOURCE_DATE_EPOCH']
  const [, date = ''] = /^ -- .*> {2}(.*)$/m.exec(changelog) ?? []
  const epoch = given === undefined ? Date.parse(date) / 1000 : Number(given)
  if (!Number.isSafeInteger(epoch)) throw new Error(`neither SOURCE_DATE_EPOCH nor the changelog has a date`)
  return epoch
}

/** The help of a program and of all its commands, from the program as it is in the tree. */
async function readHelps(program: string): Promise<Helps> {
  const helps = new Map<string, Help>()
  const source = join(ROOT, 'src', `${program}.ts`)
  const read = async (path: readonly string[]): Promise<void> => {
    const command = path.slice(1)
    const text = await run([process.execPath, '--import', 'tsx', source, ...command, '--help'], { cwd: ROOT })
    const help = parseHelp(text, path.join(' '))
    helps.set(path.join(' '), help)
    if (path.length > 1 && help.commands.length === 0 && help.examples.length === 0) {
      throw new Error(`the help of ${path.join(' ')} has no example`)
    }
    for (const { name } of help.commands) await read([...path, name])
  }
  await read([program])
  return helps
}

async function report(path: string): Promise<void> {
  const { size } = await stat(path)
  process.stdout.write(path.endsWith('.deb') ? `${path} (${(size / 1e6).toFixed(1)} MB)\n` : `${path}\n`)
}

// The files' modes are those of the package, whoever makes it.
process.umask(0o022)
main().catch((error: unknown) => {
  process.stderr.write(`package: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
})
