/**
 * The Debian package, made without debhelper: one folder with the package's files, and dpkg-deb.
 *
 * The package brings its own node. Debian 12 has Node.js 18, so a dependency on nodejs (>= 20.12) could not
 * be met there. A known node also lets the programs start from V8's cache. A single executable (node's SEA)
 * is as large, starts slower than a bundle with a cache, and cannot hold the native addons.
 */

import { createHash } from 'node:crypto'
import {
  chmod,
  copyFile,
  lstat,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { PROGRAMS, ROOT, writeBundle } from './bundle'
import { debianChangelog, type Release } from './changelog'
import { completion, defaultsFile, installedPage, manPage } from './documents'
import { run } from './run'
import { readIngredients, writeSbom } from './sbom'
import { findAddons, findNode, ingredientsOf, stripBinary, type Target } from './targets'

const SOURCES = join(__dirname, 'debian')
const UNITS = join(ROOT, 'scripts/systemd')
/** Files for programs that manage networks -> where each program looks. */
const NETWORK_FILES = {
  '05-overlayd.network': 'usr/lib/systemd/network',
  '05-overlayd.link': 'usr/lib/systemd/network',
  '05-overlayd.conf': 'usr/lib/NetworkManager/conf.d',
}
const MONITORING = join(ROOT, 'scripts/monitoring')
const PAGES = join(ROOT, 'scripts/docs')
const LIBRARY = '/usr/lib/overlayd'
const SYSTEMD = 'usr/lib/systemd/system'

/** The part of the package's version after the dash: how often this version was packed. */
const REVISION = '1'

export interface DebRelease {
  /** Of package.json. */
  readonly version: string
  /** Seconds since 1970: the date of every file in the package. */
  readonly epoch: number
  /** The text of CHANGELOG.md, and its releases. */
  readonly changelog: string
  readonly releases: readonly Release[]
}

/**
 * @param fast whether the package is left without compression, which takes most of the time
 * @returns the package's file
 */
export async function writeDeb(
  directory: string,
  target: Target,
  release: DebRelease,
  fast: boolean,
): Promise<string> {
  const debianVersion = `${release.version}-${REVISION}`
  const root = join(directory, `deb-${target.debian}`)
  await rm(root, { recursive: true, force: true })
  await mkdir(root, { recursive: true })
  const put = async (path: string, content: string | Uint8Array, mode = 0o644): Promise<void> => {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), content)
    await chmod(join(root, path), mode)
  }
  const putGz = (path: string, text: string) => put(`${path}.gz`, gzipSync(text, { level: 9 }))

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
  await put(`${LIBRARY}/mk-docker-opts.sh`, await readFile(join(SOURCES, 'mk-docker-opts.sh')), 0o755)
  await mkdir(join(root, 'usr/bin'), { recursive: true })

  const date = new Date(release.epoch * 1000).toISOString().slice(0, 10)
  for (const name of PROGRAMS) {
    await symlink(`../lib/overlayd/${name}.js`, join(root, 'usr/bin', name))
    const sections = await readFile(join(SOURCES, `${name}.sections`), 'utf8')
    await putGz(`usr/share/man/man8/${name}.8`, manPage(name, { version: release.version, date, sections }))
    await put(`usr/share/bash-completion/completions/${name}`, completion('bash', name))
    await put(`usr/share/zsh/vendor-completions/_${name}`, completion('zsh', name))
    await put(`usr/share/fish/vendor_completions.d/${name}.fish`, completion('fish', name))
  }
  // The file is no conffile: where an administrator had made it before the package, dpkg would ask about a
  // conffile, and an installation without a terminal would fail.
  await put('usr/share/overlayd/default', defaultsFile())
  await putUnits(put)
  for (const [file, directory] of Object.entries(NETWORK_FILES))
    await put(`${directory}/${file}`, await readFile(join(__dirname, 'network', file)))
  await put('usr/lib/sysusers.d/overlayd.conf', await readFile(join(SOURCES, 'sysusers.conf')))
  for (const file of ['alerts.yml', 'dashboard.json']) {
    await put(`usr/share/overlayd/monitoring/${file}`, await readFile(join(MONITORING, file)))
  }

  const doc = 'usr/share/doc/overlayd'
  const licence = await readFile(join(ROOT, 'LICENSE'), 'utf8')
  await put(`${doc}/copyright`, copyright(licence))
  await putGz(`${doc}/changelog`, release.changelog)
  await putGz(`${doc}/changelog.Debian`, debianChangelog(release.releases, REVISION))
  for (const name of (await readdir(PAGES)).filter((file) => file.endsWith('.md'))) {
    await put(`${doc}/${name}`, installedPage(await readFile(join(PAGES, name), 'utf8')))
  }
  for (const name of (await readdir(PAGES)).filter((file) => file.endsWith('.png'))) {
    await put(`${doc}/${name}`, await readFile(join(PAGES, name)))
  }
  await putGz(`${doc}/SBOM.cdx.json`, sbom)
  await putGz(`${doc}/NOTICES`, await readFile(join(library, 'NOTICES'), 'utf8'))
  await putGz(`${doc}/NOTICES.node`, await readFile(join(node, 'LICENSE'), 'utf8'))
  await rm(join(library, 'NOTICES'))
  await put('usr/share/lintian/overrides/overlayd', await readFile(join(SOURCES, 'lintian-overrides')))

  const files = await listFiles(root)
  await put('DEBIAN/control', control(target, debianVersion, await installedKilobytes(root, files)))
  await put('DEBIAN/md5sums', await md5sums(root, files))
  for (const script of ['postinst', 'prerm', 'postrm']) {
    await put(`DEBIAN/${script}`, await readFile(join(SOURCES, script)), 0o755)
  }
  await setDates(root, release.epoch)

  const file = join(directory, `overlayd_${debianVersion}_${target.debian}.deb`)
  await run(
    [
      'dpkg-deb',
      '--root-owner-group',
      ...(fast ? ['-Znone'] : ['-Zxz', '-z3']),
      '--build',
      root,
      `${file}.new`,
    ],
    {
      env: { SOURCE_DATE_EPOCH: String(release.epoch) },
      debianPackage: 'dpkg',
    },
  )
  await rename(`${file}.new`, file)
  await writeFile(file.replace(/deb$/, 'cdx.json'), sbom)
  await rm(root, { recursive: true })
  return file
}

/**
 * The units of the tree. Docker's drop-in is in the bundle's directory, where systemd does not look: an
 * installed drop-in would make Docker wait at the next boot of a host where nobody has configured the overlay
 * yet.
 */
async function putUnits(put: (path: string, content: Uint8Array) => Promise<void>): Promise<void> {
  for (const unit of (await readdir(UNITS)).filter((name) => /\.(?:service|path)$/.test(name))) {
    await put(`${SYSTEMD}/${unit}`, await readFile(join(UNITS, unit)))
  }
}

function control({ debian }: Target, version: string, kilobytes: number): string {
  return `Package: overlayd
Version: ${version}
Architecture: ${debian}
Maintainer: overlayd maintainers <maintainers@overlayd.invalid>
Installed-Size: ${kilobytes}
Depends: libc6 (>= 2.28), libgcc-s1, libstdc++6 (>= 5), systemd | systemd-standalone-sysusers | systemd-sysusers
Recommends: iptables, nftables
Suggests: docker.io, etcd-server
Section: net
Priority: optional
Description: overlay network for Docker hosts
 Every host gets a subnet of its own out of one network, and containers on any
 host reach containers on every other by IP. overlayd leases the subnet in etcd
 and programs VXLAN devices, routes and neighbours over netlink; the kernel
 carries every packet, with or without the daemon.
 .
 It is a drop-in for flannel's vxlan backend on etcd: the same keys, flags,
 environment and subnet.env.
`
}

function copyright(licence: string): string {
  const indent = (text: string): string =>
    text
      .trim()
      .split('\n')
      .map((line) => (line.trim() === '' ? ' .' : ` ${line}`))
      .join('\n')
  const [, holder = ''] = /^Copyright \(c\) (.*)$/m.exec(licence) ?? []
  const own = licence.slice(licence.indexOf('Permission'))
  return `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: overlayd

Files: *
Copyright: ${holder}
License: Expat

Files: usr/lib/overlayd/node
Copyright: Node.js contributors
License: node
 MIT, and the licences of the libraries in it: see NOTICES.node.gz beside this
 file.

Files: usr/lib/overlayd/bundle-*.js usr/lib/overlayd/*.node
Copyright: the authors of the libraries in them
License: libraries
 overlayd's own code is under the licence above; the licences of the libraries
 are in NOTICES.gz beside this file.

License: Expat
${indent(own)}
`
}

async function listFiles(root: string): Promise<string[]> {
  const entries = await readdir(root, { recursive: true })
  return entries.filter((path) => !path.startsWith('DEBIAN')).sort()
}

/** Installed-Size of Debian Policy 5.6.20: files in kilobytes, folders and links one each. */
async function installedKilobytes(root: string, paths: readonly string[]): Promise<number> {
  const sizes = paths.map(async (path) => {
    const found = await lstat(join(root, path))
    return found.isFile() ? Math.ceil(found.size / 1024) : 1
  })
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0)
}

async function md5sums(root: string, paths: readonly string[]): Promise<string> {
  const lines: string[] = []
  for (const path of paths) {
    if (path.startsWith('etc/') || !(await lstat(join(root, path))).isFile()) continue
    const sum = createHash('md5')
      .update(await readFile(join(root, path)))
      .digest('hex')
    lines.push(`${sum}  ${path}\n`)
  }
  return lines.join('')
}

async function setDates(root: string, epoch: number): Promise<void> {
  for (const path of await readdir(root, { recursive: true })) {
    if (!(await lstat(join(root, path))).isSymbolicLink()) await utimes(join(root, path), epoch, epoch)
  }
}
