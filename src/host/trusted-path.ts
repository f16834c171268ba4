/**
 * Access to files in directories that belong to other users. The daemon's user owns /run/flannel,
 * /run/overlayd and /var/lib/overlayd, and root reads, writes and removes files there. A name in such a
 * directory may be a link to any file of the host, and may change at any moment. So a directory is held open
 * while names in it are used, and a link is followed only if nobody but root can have made it.
 * (fs.protected_symlinks does this for sticky directories such as /tmp only.)
 */
import { constants, type Stats } from 'node:fs'
import { type FileHandle, lstat, mkdir, open, readlink } from 'node:fs/promises'
import { basename, isAbsolute, join, resolve } from 'node:path'

/** Most links on the way to one file; the kernel's own limit (fs/namei.c, MAXSYMLINKS). */
const MOST_LINKS = 40

const S_IFMT = 0o170000
const S_IFLNK = 0o120000
const STICKY = 0o1000
const OTHERS_WRITE = 0o022

/** A name in a directory that is held open. */
export interface Place {
  /** Path through the directory's descriptor: it stays in that directory even if the directory is renamed. */
  readonly path: string
  /** Path for people, links resolved. */
  readonly name: string
  readonly directory: FileHandle
  /** Which user other than root and us can replace the file, such as `user 990`; undefined if none can. */
  readonly otherWriter: string | undefined
  /** What the name stands for now; a link only with `linkItself`. */
  readonly found: Stats | undefined
  close(): Promise<void>
}

export interface PlaceOptions {
  /** Mode of missing directories, which are made; without it they are an error. */
  readonly makeDirectories?: number
  /** Whether a link at the end of the path is used itself instead of being followed. */
  readonly linkItself?: boolean
}

const failure = (code: string, message: string): NodeJS.ErrnoException =>
  Object.assign(new Error(`${code}: ${message}`), { code })

/**
 * Opens the directory of a file.
 * @throws Node's error; `ELOOP` for a link that another user made, or can have made
 */
export async function openPlace(
  path: string,
  { makeDirectories, linkItself = false }: PlaceOptions = {},
): Promise<Place> {
  let directory: FileHandle = await openDirectory('/')
  let reached = '/'
  let ahead = namesOf(resolve(path))
  let links = 0
  try {
    for (;;) {
      const [name = '.', ...rest] = ahead
      // Not path.join: `..` must be resolved by the kernel, relative to the open directory.
      const here = `/proc/self/fd/${directory.fd}/${name}`
      const found = await lstat(here).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return undefined
        throw error
      })
      const isLast = rest.length === 0
      const otherWriter = writerOf(await directory.stat())
      if (found !== undefined && (found.mode & S_IFMT) === S_IFLNK && !(isLast && linkItself)) {
        links += 1
        if (links > MOST_LINKS) throw failure('ELOOP', `too many links, open '${path}'`)
        const target = await readlink(here)
        assertTrusted(join(reached, name), target, found.uid, otherWriter)
        ahead = [...namesOf(target), ...rest]
        if (isAbsolute(target)) {
          await directory.close()
          directory = await openDirectory('/')
          reached = '/'
        }
        continue
      }
      if (isLast) {
        const held = directory
        return {
          path: here,
          name: join(reached, name),
          directory: held,
          otherWriter,
          found,
          close: () => held.close(),
        }
      }
      if (found === undefined && makeDirectories !== undefined) await makeDirectory(here, makeDirectories)
      const next = await openDirectory(here)
      await directory.close()
      directory = next
      reached = join(reached, name)
      ahead = rest
    }
  } catch (error) {
    await directory.close().catch(() => undefined)
    throw error
  }
}

const namesOf = (path: string): string[] => path.split('/').filter((name) => name !== '' && name !== '.')

/**
 * asm-generic/fcntl.h. An O_PATH descriptor resolves names without needing the right to list the directory.
 */
const O_PATH = 0o10000000

const openDirectory = (path: string): Promise<FileHandle> =>
  open(path, O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW)

async function makeDirectory(path: string, mode: number): Promise<void> {
  await mkdir(path, mode).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error
  })
}

/** Whether the user is root or the user of this process. */
const isTrusted = (uid: number): boolean => uid === 0 || uid === (process.geteuid?.() ?? uid)

function writerOf({ uid, mode }: Stats): string | undefined {
  if (!isTrusted(uid)) return `user ${uid}`
  // In a sticky directory that all may write, only a file's owner can replace it.
  return (mode & OTHERS_WRITE) === 0 || (mode & STICKY) !== 0 ? undefined : 'others'
}

/** Checks links for root only: other users gain no rights by following a link. */
function assertTrusted(link: string, target: string, owner: number, otherWriter: string | undefined): void {
  if (process.geteuid?.() !== 0) return
  if (otherWriter === undefined && isTrusted(owner)) return
  throw failure(
    'ELOOP',
    `${link} is a link to ${target} that ${otherWriter ?? `user ${owner}`} made or can change, ` +
      'and root does not follow it',
  )
}

/** Bytes; far more than any settings file has. */
const MOST_BYTES = 1024 * 1024

/**
 * Reads a file that another user may have put there. Refuses anything but a regular file, limits the size,
 * and does not follow untrusted links.
 * @throws Node's error; `ENOENT` if there is none; `EISDIR`; `EINVAL` for other non-files; `EFBIG`; `ELOOP`
 */
export async function readFileOfOthers(path: string, most = MOST_BYTES): Promise<string> {
  const place = await openPlace(path)
  try {
    const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK, O_NOCTTY } = constants
    const file = await open(place.path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)
    try {
      const found = await file.stat()
      if (found.isDirectory()) throw failure('EISDIR', `${basename(path)} is a directory`)
      if (!found.isFile()) throw failure('EINVAL', 'it is not a regular file')
      if (found.size > most) throw failure('EFBIG', `it has ${found.size} bytes; at most ${most} are read`)
      // The file may grow while it is read: stop at the limit.
      const bytes = Buffer.alloc(most + 1)
      let length = 0
      for (;;) {
        const { bytesRead } = await file.read(bytes, length, bytes.length - length, length)
        length += bytesRead
        if (length > most) throw failure('EFBIG', `it has more than ${most} bytes`)
        if (bytesRead === 0) return bytes.toString('utf8', 0, length)
      }
    } finally {
      await file.close()
    }
  } finally {
    await place.close()
  }
}
