/**
 * Makes a bundle and packages for each architecture. The script `make` runs this file, and documents the
 * flags.
 */
import { readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import packageJson from '../../package.json'
import { ROOT, writeBundle } from './bundle'
import { dateOf, readReleases } from './changelog'
import { writeDeb } from './deb'
import { writeOci } from './oci'
import { makeBundle, makeCache } from './own-bundle'
import { writeRpm } from './rpm'
import { readIngredients, writeSbom } from './sbom'
import { writeSysext } from './sysext'
import { findAddons, findBase, findNode, ingredientsOf, TARGETS, type Target } from './targets'
import { filesBelow, type PackageRelease, putHostFiles, setDates } from './tree'

/** Kinds of packages -> what makes one. */
const KINDS = {
  bundle: writeOwnBundle,
  deb: writeDeb,
  rpm: writeRpm,
  oci: writeOci,
  sysext: writeSysext,
} as const
type Kind = keyof typeof KINDS

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      arch: { type: 'string' },
      both: { type: 'boolean' },
      fetch: { type: 'boolean' },
      bundle: { type: 'string' },
      kinds: { type: 'string', default: Object.keys(KINDS).join() },
      output: { type: 'string', default: 'dist/package' },
      revision: { type: 'string', default: '1' },
      fast: { type: 'boolean', default: false },
    },
  })
  const output = resolve(values.output)
  if (values.bundle !== undefined) {
    const bundle = resolve(values.bundle)
    await makeBundle(bundle, packageJson.version)
    return report(bundle)
  }
  const targets = values.both ? TARGETS : readTargets(values.arch)
  const kinds = readKinds(values.kinds)
  if (values.fetch) {
    for (const target of targets) {
      await Promise.all([findNode(target), findAddons(target)])
      // The cache of an image of another architecture is made with it.
      const isOther = target.node !== process.arch
      if (kinds.includes('oci') || (isOther && kinds.includes('sysext'))) await findBase(target)
    }
    return
  }
  const release = await readRelease(values.revision)
  for (const target of targets) {
    for (const kind of kinds) await report(await KINDS[kind](output, target, release, values.fast))
  }
}

/** @param names Debian's, comma separated; default: this machine's architecture */
function readTargets(names: string | undefined): readonly Target[] {
  if (names === undefined) {
    const own = TARGETS.filter(({ node }) => node === process.arch)
    if (own.length > 0) return own
    throw new Error(`this machine is ${process.arch}, and packages are for amd64 and arm64: say --arch=...`)
  }
  return names.split(',').map((name) => {
    const target = TARGETS.find(({ debian }) => debian === name)
    if (target === undefined) throw new Error(`--arch takes amd64 and arm64, not ${name}`)
    return target
  })
}

/** @returns the bundle's folder */
async function writeOwnBundle(output: string, target: Target, release: PackageRelease): Promise<string> {
  const bundle = join(output, `overlayd-${release.version}-linux-${target.node}`)
  await rm(bundle, { recursive: true, force: true })
  const folders = await writeBundle(bundle, await findAddons(target), release.version)
  const libraries = [...(await readIngredients(folders)), ...(await ingredientsOf(target, false))]
  await writeFile(join(bundle, 'SBOM.cdx.json'), writeSbom(release, libraries))
  const host = join(bundle, 'host')
  await putHostFiles(filesBelow(host), release, 'usr/share/zsh/site-functions')
  await setDates(host, release.epoch)
  if (target.node === process.arch) await makeCache(bundle)
  return bundle
}

function readKinds(names: string): readonly Kind[] {
  return names.split(',').map((name) => {
    const kind = Object.keys(KINDS).find((each): each is Kind => each === name)
    if (kind === undefined) throw new Error(`--kinds takes ${Object.keys(KINDS).join()}, not ${name}`)
    return kind
  })
}

/**
 * The same source gives the same package: its files have the date of SOURCE_DATE_EPOCH, else that of the
 * newest release.
 */
async function readRelease(revision: string): Promise<PackageRelease> {
  if (!/^[1-9]\d*$/.test(revision)) throw new Error(`--revision takes a number from 1 on, not ${revision}`)
  const changelog = await readFile(join(ROOT, 'CHANGELOG.md'), 'utf8')
  const releases = readReleases(changelog)
  const [newest] = releases
  const { version } = packageJson
  if (newest?.version !== version) {
    throw new Error(
      `package.json has version ${version}, CHANGELOG.md has ${newest?.version ?? 'no release'}`,
    )
  }
  const given = process.env['SOURCE_DATE_EPOCH']
  const epoch = given === undefined ? dateOf(newest) : Number(given)
  if (!Number.isSafeInteger(epoch)) throw new Error(`SOURCE_DATE_EPOCH is ${given}, which is no time`)
  return { version, revision, epoch, changelog, releases }
}

async function report(path: string): Promise<void> {
  const found = await stat(path)
  process.stdout.write(found.isFile() ? `${path} (${(found.size / 1e6).toFixed(1)} MB)\n` : `${path}\n`)
}

// The files' modes are those of the package, whoever makes it.
process.umask(0o022)
main().catch((error: unknown) => {
  process.stderr.write(`package: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
})
