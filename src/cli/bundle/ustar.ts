/**
 * Writes archives of plain files in the ustar format (POSIX.1-1988, IEEE Std 1003.1, pax, "ustar Interchange
 * Format"), which every tar reads. Names are ASCII, and files are regular.
 */

/** Bytes of a header, and of the blocks that a file fills. */
const BLOCK = 512
/** Bytes that a name may have. The prefix field, for longer names, is not used. */
const LONGEST_NAME = 100
/** Eleven octal digits. */
const MOST_BYTES = 8 ** 11 - 1

export interface ArchivedFile {
  /** Path in the archive. */
  readonly name: string
  readonly content: Uint8Array
}

/**
 * The archive, without compression.
 * @param at modification time of all files
 * @throws {RangeError} for a name or a size that the format cannot hold
 */
export function writeUstar(files: readonly ArchivedFile[], at: Date): Buffer {
  const blocks = files.flatMap(({ name, content }) => [
    headerOf(name, content.length, Math.floor(at.getTime() / 1000)),
    Buffer.from(content),
    Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK),
  ])
  // Two empty blocks are the end.
  return Buffer.concat([...blocks, Buffer.alloc(2 * BLOCK)])
}

function headerOf(name: string, size: number, seconds: number): Buffer {
  if (!/^[\x21-\x7e]+$/.test(name) || name.length > LONGEST_NAME)
    throw new RangeError(`${JSON.stringify(name)} is no name of 1 to ${LONGEST_NAME} ASCII characters`)
  if (size > MOST_BYTES) throw new RangeError(`${name} has ${size} bytes, and at most ${MOST_BYTES} fit`)
  const header = Buffer.alloc(BLOCK)
  const put = (at: number, text: string): unknown => header.write(text, at, 'latin1')
  const octal = (at: number, digits: number, value: number): unknown =>
    put(at, value.toString(8).padStart(digits, '0'))
  put(0, name)
  octal(100, 7, 0o600)
  // User and group 0: whoever unpacks it owns the files, unless that is root.
  octal(108, 7, 0)
  octal(116, 7, 0)
  octal(124, 11, size)
  octal(136, 11, seconds)
  // The checksum is made with blanks in its own place.
  put(148, ' '.repeat(8))
  put(156, '0')
  put(257, 'ustar\0' + '00')
  const sum = header.reduce((total, byte) => total + byte, 0)
  octal(148, 6, sum)
  put(154, '\0 ')
  return header
}
