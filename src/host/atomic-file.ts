/** Files that are there as a whole or not at all. */
import { mkdir, open, realpath, rename, rm, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

/**
 * Writes a file by a hidden temporary one beside it, fsync and rename. A new file gets mode 0644 whatever the umask, an existing one
 * keeps its mode; a missing directory is made. A link is followed; a device or a pipe, such as /dev/stdout, is written as it is.
 * @param wanted the mode of the file whatever it had, and then of a new directory too, with search where there is reading
 * @throws Node's error; nothing is left behind then
 */
export async function writeFileAtomically(
  path: string,
  text: string | readonly Buffer[],
  wanted?: number,
): Promise<void> {
  const existing = await stat(path).catch(() => undefined)
  if (existing !== undefined && !existing.isFile()) return writeFile(path, text)
  const target = await realpath(path).catch(() => path)
  const temporary = join(dirname(target), `.${basename(target)}.${process.pid}`)
  try {
    await mkdir(dirname(target), { recursive: true, mode: withSearch(wanted ?? 0o644) })
    const mode = wanted ?? (existing === undefined ? 0o644 : existing.mode & 0o777)
    const file = await open(temporary, 'w', mode)
    try {
      await file.chmod(mode)
      await writeFile(file, text)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, target)
    // So that the name survives a power cut as well.
    const directory = await open(dirname(target), 'r')
    await directory.sync().finally(() => directory.close())
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}

const withSearch = (mode: number): number => mode | ((mode & 0o444) >> 2)
