/** Files that are there as a whole or not at all. */
import { mkdir, open, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

/**
 * Writes a file by a hidden temporary one beside it, fsync and rename. A new file gets mode 0644 whatever the umask, an existing one
 * keeps its mode; a missing directory is made.
 * @throws Node's error; nothing is left behind then
 */
export async function writeFileAtomically(path: string, text: string): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}`)
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o755 })
    const mode = await stat(path).then(
      (info) => info.mode & 0o777,
      () => 0o644,
    )
    const file = await open(temporary, 'w', mode)
    try {
      await file.chmod(mode)
      await file.writeFile(text)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}
