/**
 * The system extension: an image that systemd-sysext merges into /usr of a host whose own /usr is read-only,
 * such as Flatcar. All of it is below /usr. Nothing is enabled, because an extension has no /etc.
 */
import { readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { addCache } from './image-cache'
import { run } from './run'
import type { Target } from './targets'
import { makeTree, type PackageRelease, setDates } from './tree'

const RELEASES = 'usr/lib/extension-release.d'

/**
 * @param fast whether the image is left without compression, which takes most of the time
 * @returns the image's file
 */
export async function writeSysext(
  directory: string,
  target: Target,
  release: PackageRelease,
  fast: boolean,
): Promise<string> {
  const name = `overlayd-${release.version}-${target.systemd}`
  const tree = await makeTree(join(directory, `sysext-${target.systemd}`), target, release, {
    zshCompletions: 'usr/share/zsh/site-functions',
  })
  await addCache(tree.root, target)
  // systemd demands a file for the name that the image has in its directory: its own, or the short one that a
  // link to the present version has, and that directories of versions (NAME.raw.v) have.
  const text = `ID=_any\nARCHITECTURE=${target.systemd}\nEXTENSION_RELOAD_MANAGER=1\n`
  for (const each of [name, 'overlayd']) await tree.put(`${RELEASES}/extension-release.${each}`, text)
  const outside = (await readdir(tree.root)).filter((path) => path !== 'usr')
  if (outside.length > 0) throw new Error(`a system extension has only /usr, and not ${outside.join(', ')}`)
  await setDates(tree.root, release.epoch)

  const file = join(directory, `${name}.raw`)
  const compression = fast
    ? ['-noInodeCompression', '-noDataCompression', '-noFragmentCompression', '-noXattrCompression']
    : ['-comp', 'zstd', '-Xcompression-level', '19']
  await run(
    [
      'mksquashfs',
      ...[tree.root, `${file}.new`, '-noappend', '-all-root', '-no-xattrs', '-no-progress', '-quiet'],
      ...compression,
    ],
    // The times of the image and of its links.
    { env: { SOURCE_DATE_EPOCH: String(release.epoch) }, debianPackage: 'squashfs-tools' },
  )
  await rename(`${file}.new`, file)
  await writeFile(file.replace(/raw$/, 'cdx.json'), tree.sbom)
  await rm(tree.root, { recursive: true })
  return file
}
