/**
 * The Debian package, made without debhelper: one folder with the package's files, and dpkg-deb.
 */

import { createHash } from 'node:crypto'
import { lstat, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ROOT } from './bundle'
import { debianChangelog } from './changelog'
import { run } from './run'
import { withSteps } from './steps'
import type { Target } from './targets'
import { DOC, makeTree, type PackageRelease, setDates } from './tree'

const SOURCES = join(__dirname, 'debian')

/**
 * @param fast whether the package is left without compression, which takes most of the time
 * @returns the package's file
 */
export async function writeDeb(
  directory: string,
  target: Target,
  release: PackageRelease,
  fast: boolean,
): Promise<string> {
  const debianVersion = `${release.version}-${release.revision}`
  const tree = await makeTree(join(directory, `deb-${target.debian}`), target, release, {
    zshCompletions: 'usr/share/zsh/vendor-completions',
  })
  const { root, put, putGz } = tree
  await put(`${DOC}/copyright`, copyright(await readFile(join(ROOT, 'LICENSE'), 'utf8')))
  await putGz(`${DOC}/changelog.Debian`, debianChangelog(release.releases, release.revision))
  await put('usr/share/lintian/overrides/overlayd', await readFile(join(SOURCES, 'lintian-overrides')))

  const files = await listFiles(root)
  await put('DEBIAN/control', control(target, debianVersion, await installedKilobytes(root, files)))
  await put('DEBIAN/md5sums', await md5sums(root, files))
  for (const script of ['postinst', 'prerm', 'postrm']) {
    await put(`DEBIAN/${script}`, await withSteps(await readFile(join(SOURCES, script), 'utf8')), 0o755)
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
  await writeFile(file.replace(/deb$/, 'cdx.json'), tree.sbom)
  await rm(root, { recursive: true })
  return file
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

Files: usr/lib/overlayd/bundle-*.js usr/lib/overlayd/overlayctl-*.js usr/lib/overlayd/*.node
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
