/**
 * The files of every package that installs overlayd on a host, below one folder. Each kind of package adds
 * its own description to them.
 *
 * A package brings its own node. Debian 12 has Node.js 18, so a dependency on nodejs (>= 20.12) could not be
 * met there. A known node also lets the programs start from V8's cache. A single executable (node's SEA) is
 * as large, starts slower than a bundle with a cache, and cannot hold the native addons.
 */

import {
  chmod,
  copyFile,
  lstat,
  mkdir,
  readdir,
  readFile,
  rm,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { PROGRAMS, ROOT, writeBundle } from './bundle'
import type { Release } from './changelog'
import { completion, defaultsFile, installedPage, manPage } from './documents'
import { readIngredients, writeSbom } from './sbom'
import { findAddons, findNode, ingredientsOf, stripBinary, type Target } from './targets'

const PARTS = join(__dirname, 'installed')
const UNITS = join(ROOT, 'scripts/systemd')
/** Files for programs that manage networks -> where each program looks. */
const NETWORK_FILES = {
  '05-overlayd.network': 'usr/lib/systemd/network',
  '05-overlayd.link': 'usr/lib/systemd/network',
  '05-overlayd.conf': 'usr/lib/NetworkManager/conf.d',
}
const MONITORING = join(ROOT, 'scripts/monitoring')
const PAGES = join(ROOT, 'scripts/docs')
/** Where the programs are, in each package. */
export const LIBRARY = '/usr/lib/overlayd'
const SYSTEMD = 'usr/lib/systemd/system'
/** Where the documents are, from the root. */
export const DOC = 'usr/share/doc/overlayd'

export interface PackageRelease {
  /** Of package.json. */
  readonly version: string
  /** The part of a package's version after the dash: how often this version was packed. */
  readonly revision: string
  /** Seconds since 1970: the date of every file in a package. */
  readonly epoch: number
  /** The text of CHANGELOG.md, and its releases. */
  readonly changelog: string
  readonly releases: readonly Release[]
}

/** What differs from distribution to distribution. */
export interface Layout {
  /** Where zsh looks for completions. */
  readonly zshCompletions: string
}

/** Adds files. Paths begin at a root. */
export interface Files {
  put(path: string, content: string | Uint8Array, mode?: number): Promise<void>
  /** Adds a text, compressed, with the ending .gz. */
  putGz(path: string, text: string): Promise<void>
}

/** The files below a folder. */
export interface Tree extends Files {
  readonly root: string
  /** The list of the libraries in the files. */
  readonly sbom: string
  /** Folders of the libraries from npm, from the project's root. */
  readonly libraries: readonly string[]
}

/** @param root removed first */
export async function makeTree(
  root: string,
  target: Target,
  release: PackageRelease,
  { zshCompletions }: Layout,
): Promise<Tree> {
  await rm(root, { recursive: true, force: true })
  await mkdir(root, { recursive: true })
  const files = filesBelow(root)
  const { put, putGz } = files

  const library = join(root, LIBRARY)
  const addons = await findAddons(target)
  const folders = await writeBundle(library, addons, release.version, { node: `${LIBRARY}/node` })
  const sbom = writeSbom(release, [
    ...(await readIngredients(folders)),
    ...(await ingredientsOf(target, true)),
  ])
  for (const name of Object.keys(addons)) {
    const file = join(library, `${name}.node`)
    await stripBinary(target, file, file)
  }
  const node = await findNode(target)
  await copyFile(join(node, 'bin/node.stripped'), join(library, 'node'))
  await chmod(join(library, 'node'), 0o755)
  await put(`${LIBRARY}/mk-docker-opts.sh`, await readFile(join(PARTS, 'mk-docker-opts.sh')), 0o755)
  await mkdir(join(root, 'usr/bin'), { recursive: true })
  for (const name of PROGRAMS) await symlink(`../lib/overlayd/${name}.js`, join(root, 'usr/bin', name))

  await putHostFiles(files, release, zshCompletions)

  await putGz(`${DOC}/changelog`, release.changelog)
  for (const name of (await readdir(PAGES)).filter((file) => file.endsWith('.md'))) {
    await put(`${DOC}/${name}`, installedPage(await readFile(join(PAGES, name), 'utf8')))
  }
  for (const name of (await readdir(PAGES)).filter((file) => file.endsWith('.png'))) {
    await put(`${DOC}/${name}`, await readFile(join(PAGES, name)))
  }
  await putGz(`${DOC}/SBOM.cdx.json`, sbom)
  await putGz(`${DOC}/NOTICES`, await readFile(join(library, 'NOTICES'), 'utf8'))
  await putGz(`${DOC}/NOTICES.node`, await readFile(join(node, 'LICENSE'), 'utf8'))
  await rm(join(library, 'NOTICES'))
  return { root, put, putGz, sbom, libraries: folders }
}

/** Functions that add files below a folder. */
export function filesBelow(root: string): Files {
  const put = async (path: string, content: string | Uint8Array, mode = 0o644): Promise<void> => {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), content)
    await chmod(join(root, path), mode)
  }
  return { put, putGz: (path, text) => put(`${path}.gz`, gzipSync(text, { level: 9 })) }
}

/**
 * Adds what a host has besides the programs themselves: units, man pages, completions, settings, what tells
 * other programs of the devices.
 */
export async function putHostFiles(
  { put, putGz }: Files,
  release: PackageRelease,
  zshCompletions: string,
): Promise<void> {
  const date = new Date(release.epoch * 1000).toISOString().slice(0, 10)
  for (const name of PROGRAMS) {
    const sections = await readFile(join(PARTS, `${name}.sections`), 'utf8')
    await putGz(`usr/share/man/man8/${name}.8`, manPage(name, { version: release.version, date, sections }))
    await put(`usr/share/bash-completion/completions/${name}`, completion('bash', name))
    await put(`${zshCompletions}/_${name}`, completion('zsh', name))
    await put(`usr/share/fish/vendor_completions.d/${name}.fish`, completion('fish', name))
  }
  await put('usr/share/overlayd/default', defaultsFile())
  await putUnits(put)
  for (const [file, directory] of Object.entries(NETWORK_FILES))
    await put(`${directory}/${file}`, await readFile(join(__dirname, 'network', file)))
  await put('usr/lib/sysusers.d/overlayd.conf', await readFile(join(PARTS, 'sysusers.conf')))
  for (const file of ['alerts.yml', 'dashboard.json']) {
    await put(`usr/share/overlayd/monitoring/${file}`, await readFile(join(MONITORING, file)))
  }
}

/**
 * The units of the tree. Docker's drop-in is in the bundle's directory, where systemd does not look: an
 * installed drop-in would make Docker wait at the next boot of a host where nobody has configured the overlay
 * yet.
 */
async function putUnits(put: Files['put']): Promise<void> {
  for (const unit of (await readdir(UNITS)).filter((name) => /\.(?:service|path)$/.test(name))) {
    await put(`${SYSTEMD}/${unit}`, await readFile(join(UNITS, unit)))
  }
}

/** Gives every file and folder of a tree the same date. @param epoch seconds since 1970 */
export async function setDates(root: string, epoch: number): Promise<void> {
  for (const path of await readdir(root, { recursive: true })) {
    if (!(await lstat(join(root, path))).isSymbolicLink()) await utimes(join(root, path), epoch, epoch)
  }
}
