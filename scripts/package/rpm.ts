/** The RPM package, made by rpmbuild from the files that the Debian package has too. */
import { lstat, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ROOT } from './bundle'
import { rpmChangelog } from './changelog'
import { run } from './run'
import { withSteps } from './steps'
import type { Target } from './targets'
import { makeTree, type PackageRelease, setDates } from './tree'

const SOURCES = join(__dirname, 'rpm')
const LICENCES = 'usr/share/licenses/overlayd'
const SETTINGS = 'etc/default/overlayd'

/** Directories of the package's own. All others belong to other packages. */
const OWN_DIRECTORY = /^usr\/(lib|share(\/(doc|licenses))?)\/overlayd(\/|$)/

/** Macros that make the same bytes of the same files on any machine and leave the files as they are. */
const MACROS: Readonly<Record<string, string>> = {
  _buildhost: 'localhost',
  use_source_date_epoch_as_buildtime: '1',
  clamp_mtime_to_source_date_epoch: '1',
  source_date_epoch_from_changelog: '0',
  // No stripping, no compression of man pages, no links of build ids.
  __os_install_post: '%{nil}',
  debug_package: '%{nil}',
  _build_id_links: 'none',
  // Debian's rpm names Debian as the vendor's system in it otherwise.
  _vendor: 'overlayd',
  _docdir: '/usr/share/doc',
}

/**
 * @param fast whether the package is left without compression, which takes most of the time
 * @returns the package's file
 */
export async function writeRpm(
  directory: string,
  target: Target,
  release: PackageRelease,
  fast: boolean,
): Promise<string> {
  const architecture = target.rpm
  const tree = await makeTree(join(directory, `rpm-${architecture}`), target, release, {
    zshCompletions: 'usr/share/zsh/site-functions',
  })
  await tree.put(`${LICENCES}/LICENSE`, await readFile(join(ROOT, 'LICENSE')))
  await tree.put(SETTINGS, await readFile(join(tree.root, 'usr/share/overlayd/default')), 0o640)
  await setDates(tree.root, release.epoch)

  const work = await mkdtemp(join(tmpdir(), 'overlayd-rpm-'))
  try {
    const files = join(work, 'files')
    await writeFile(files, await fileList(tree.root))
    const filled = {
      VERSION: release.version,
      REVISION: release.revision,
      TREE: tree.root,
      FILES: files,
      CHANGELOG: rpmChangelog(release.releases, release.revision),
    }
    const text = await withSteps(await readFile(join(SOURCES, 'overlayd.spec'), 'utf8'))
    const spec = join(work, 'overlayd.spec')
    await writeFile(
      spec,
      text.replaceAll(/@([A-Z]+)@/g, (_, name: keyof typeof filled) => filled[name]),
    )
    const macros = { ...MACROS, _topdir: work, _binary_payload: fast ? 'w0.ufdio' : 'w3.xzdio' }
    await mkdir(join(work, 'BUILD'))
    await run(
      [
        'rpmbuild',
        '-bb',
        `--target=${architecture}-linux`,
        ...Object.entries(macros).flatMap(([name, value]) => ['--define', `${name} ${value}`]),
        spec,
      ],
      { env: { SOURCE_DATE_EPOCH: String(release.epoch), TZ: 'UTC' }, debianPackage: 'rpm' },
    )
    const name = `overlayd-${release.version}-${release.revision}.${architecture}.rpm`
    const file = join(directory, name)
    await run(['mv', join(work, 'RPMS', architecture, name), `${file}.new`])
    await rename(`${file}.new`, file)
    await writeFile(file.replace(/rpm$/, 'cdx.json'), tree.sbom)
    return file
  } finally {
    await rm(work, { recursive: true, force: true })
    await rm(tree.root, { recursive: true, force: true })
  }
}

/** The lines of %files. */
async function fileList(root: string): Promise<string> {
  const paths = (await readdir(root, { recursive: true })).sort()
  const lines = await Promise.all(
    paths.map(async (path) => {
      if ((await lstat(join(root, path))).isDirectory())
        return OWN_DIRECTORY.test(path) ? [`%dir /${path}`] : []
      if (path === SETTINGS) return [`%config(noreplace) %attr(0640,root,root) /${path}`]
      if (path.startsWith(LICENCES)) return [`%license /${path}`]
      if (path.startsWith('usr/share/doc/') || path.startsWith('usr/share/man/')) return [`%doc /${path}`]
      const [, bundle] = /^(usr\/lib\/overlayd\/(?:bundle|overlayctl)-[0-9a-f]+)\.js$/.exec(path) ?? []
      // The cache is made at the installation, and goes with the package.
      return bundle === undefined
        ? [`/${path}`]
        : [`/${path}`, `%ghost %attr(0644,root,root) /${bundle}.cache`]
    }),
  )
  return `${lines.flat().join('\n')}\n`
}
