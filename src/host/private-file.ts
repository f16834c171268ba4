/** Files that only the user of this process may have written, and only that user may read. */
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'

/** The mode of such a file. */
export const PRIVATE_MODE = 0o600

/**
 * Reads a file that only the user of this process can have written.
 * @param most largest size in bytes
 * @throws {Error} with the reason, or with the code of a system call: `ENOENT`, ...
 */
export async function readPrivately(path: string, most: number): Promise<string> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    const { uid, mode, size } = await file.stat()
    const user = process.geteuid?.() ?? uid
    if ((mode & constants.S_IFMT) !== constants.S_IFREG) throw new Error('it is not a regular file')
    if (uid !== user) throw new Error(`it belongs to user ${uid}, and this is user ${user}`)
    if ((mode & 0o077) !== 0) {
      const [is, expected] = [mode & 0o777, PRIVATE_MODE].map((each) => each.toString(8))
      throw new Error(`others may use it (mode ${is}, expected ${expected})`)
    }
    if (size > most) throw new Error(`it has ${size} bytes, and at most ${most} are read`)
    return await file.readFile('utf8')
  } finally {
    await file.close()
  }
}
