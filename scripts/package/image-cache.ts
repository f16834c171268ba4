/**
 * V8's cache for images, which nothing writes to once they are made. Packages make theirs when they are
 * installed: see steps/cache.sh.
 */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { BUNDLE_FILE } from './bundle'
import { run } from './run'
import { findBase, type Target } from './targets'
import { LIBRARY } from './tree'

/**
 * With these the cache has the same bytes each time. V8 leaves both out of the hash of its options, so that a
 * start without them takes the cache (FlagList::Hash in src/flags/flags.cc).
 */
const ALWAYS_ALIKE = ['--predictable', '--random-seed=1']

/** Architecture and bundles -> the caches that were made first, in the bundles' order. */
const made = new Map<string, readonly Uint8Array[]>()

/**
 * Adds the cache to the files of an image. Their own node makes the cache. A node of another architecture
 * runs under QEMU's emulation, with the libraries of the container image.
 * @param root the folder of the image's files
 */
export async function addCache(root: string, target: Target): Promise<void> {
  const library = join(root, LIBRARY)
  const bundles = (await readdir(library)).filter((name) => BUNDLE_FILE.test(name)).sort()
  if (bundles.length === 0) throw new Error(`${library} has no bundle`)
  const caches = bundles.map((name) => join(library, name.replace(/js$/, 'cache')))
  const key = [target.debian, ...bundles].join(' ')
  const known = made.get(key)
  if (known !== undefined) {
    await Promise.all(caches.map((cache, place) => writeFile(cache, known[place] ?? '', { mode: 0o644 })))
    return
  }
  const emulator = target.node === process.arch ? [] : [`qemu-${target.rpm}`, '-L', await findBase(target)]
  const node = [...emulator, join(library, 'node'), ...ALWAYS_ALIKE]
  // The folder's name is in the cache, and it differs from one build to another.
  const [program, ...args] = [...(await privileges()), ...node, join(library, 'make-cache.js'), LIBRARY]
  await run([program ?? '', ...args], { debianPackage: emulator.length === 0 ? 'util-linux' : 'qemu-user' })
  made.set(key, await Promise.all(caches.map((cache) => readFile(cache))))
}

/**
 * A start of whoever may make devices goes further, and more functions get into the cache. So everyone gets
 * these rights, in a network namespace, where the system grants namespaces.
 */
async function privileges(): Promise<readonly string[]> {
  const namespaces = ['--net', ...(process.getuid?.() === 0 ? [] : ['--user', '--map-root-user'])]
  try {
    await run(['unshare', ...namespaces, 'true'])
    return ['unshare', ...namespaces]
  } catch {
    return []
  }
}
