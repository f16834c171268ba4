/** Test files that several runners share: each takes the next one that no other has taken. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'

/**
 * Takes a file, unless another runner has. Only one can make a directory, also over 9p.
 * @param queue directory that all runners share, empty at first
 * @param file path from the project's root
 * @throws {NodeJS.ErrnoException} if the directory cannot be written
 */
export function takeFile(queue: string, file: string): boolean {
  try {
    mkdirSync(join(queue, file.replaceAll('/', ':')))
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false
    throw error
  }
}

/**
 * A long file that is taken last leaves the other runners without work.
 * @param long ends of paths, in the order of their files
 * @param pathOf the path of a file
 */
export function longestFirst<T>(
  files: readonly T[],
  long: readonly string[],
  pathOf: (file: T) => string,
): readonly T[] {
  const first = long.flatMap((end) => files.filter((file) => pathOf(file).endsWith(`/${end}`)))
  return [...first, ...files.filter((file) => !first.includes(file))]
}
