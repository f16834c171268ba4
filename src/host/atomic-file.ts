/** Writes files atomically: a reader sees the whole new file or the old one. */
import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { open, rename, rm, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { openPlace, type Place } from './trusted-path'

/**
 * Writes a file through a hidden temporary file in the same directory, fsync and rename. A new file gets mode
 * 0644 whatever the umask is; an existing file keeps its mode. Missing directories are made. A link is
 * followed; root follows it only if root made it. A device or pipe of this process, such as /dev/stdout, is
 * written directly.
 * @param wanted mode of the file, new or existing; a new directory gets it too, with search (x) wherever it
 *   has read (r)
 * @throws Node's error; no temporary file is left behind then
 */
export async function writeFileAtomically(
  path: string,
  text: string | readonly Buffer[],
  wanted?: number,
): Promise<void> {
  if (await isOwnStream(path)) return writeFile(path, text)
  const place = await openPlace(path, { makeDirectories: withSearch(wanted ?? 0o644) })
  try {
    await replace(place, text, wanted)
  } finally {
    await place.close()
  }
}

/**
 * Whether the path is a descriptor of this process (/dev/stdout, /dev/fd/3), or a trustworthy device or pipe.
 */
async function isOwnStream(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined)
  if (found === undefined || found.isFile() || found.isDirectory()) return false
  if (/^\/dev\/|^\/proc\/(?:self|thread-self|\d+)\/fd\//.test(path)) return true
  const place = await openPlace(path)
  await place.close()
  if (place.otherWriter === undefined && (found.uid === 0 || found.uid === process.geteuid?.())) return true
  throw Object.assign(
    new Error(`EINVAL: ${path} is not a regular file, and user ${found.uid} could have put it there`),
    { code: 'EINVAL' },
  )
}

async function replace(
  { path, name, found }: Place,
  text: string | readonly Buffer[],
  wanted: number | undefined,
): Promise<void> {
  const mode = wanted ?? (found?.isFile() === true ? found.mode & 0o777 : 0o644)
  const suffix = `${process.pid}.${randomBytes(4).toString('hex')}`
  const temporary = join(dirname(path), `.${basename(name)}.${suffix}`)
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants
  // O_EXCL: a file with that name would be someone else's, or a link.
  const file = await open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode)
  try {
    try {
      await file.chmod(mode)
      await writeFile(file, text)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
    // fsync of the directory: the new name survives a power cut too.
    const opened = await open(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY)
    await opened.sync().finally(() => opened.close())
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined)
    throw error
  }
}

/**
 * Removes a file or a link. A missing file is not an error.
 * @throws Node's error
 */
export async function removeFile(path: string): Promise<void> {
  const place = await openPlace(path, { linkItself: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
  try {
    if (place !== undefined) await rm(place.path, { force: true })
  } finally {
    await place?.close()
  }
}

const withSearch = (mode: number): number => mode | ((mode & 0o444) >> 2)
