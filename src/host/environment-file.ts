/**
 * Files for systemd's EnvironmentFile=, read exactly as systemd reads them (systemd.exec(5);
 * src/basic/env-file.c, parse_env_file_internal): there is no shell, so nothing is expanded. Assignments that
 * systemd ignores are ignored here too, and reported.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { constants } from 'node:os'

export interface EnvironmentFile {
  /** The last assignment of each name. */
  readonly variables: Readonly<Record<string, string>>
  /** Assignments that systemd ignores, each with its line number and the reason. */
  readonly passedOver: readonly string[]
}

/** Bytes. A file with all our options has 6 kB. */
const MOST_BYTES = 65_536
/** At most this many ignored assignments are listed. */
const MOST_NAMED = 5
/** O_NONBLOCK: opening a FIFO must not wait for its writer. */
const NON_BLOCKING = 0o4000

/**
 * Reads such a file. Not by node:fs/promises: each command of overlayctl reads it, and loading that part of
 * node would be a seventh of the command's time.
 * @returns undefined if the file does not exist
 * @throws {Error} the system's error, with its code; or one that says why this is not such a file
 */
export async function readEnvironmentFile(path: string): Promise<EnvironmentFile | undefined> {
  const file = openIfThere(path)
  if (file === undefined) return undefined
  try {
    if (!fstatSync(file).isFile()) throw new Error('it is not a regular file')
    const buffer = Buffer.alloc(MOST_BYTES + 1)
    let length = 0
    for (let read = -1; read !== 0 && length < buffer.length; length += read) {
      read = readSync(file, buffer, length, buffer.length - length, null)
    }
    if (length > MOST_BYTES) throw new Error(`it has more than ${MOST_BYTES} bytes`)
    return parseEnvironmentFile(buffer.subarray(0, length))
  } finally {
    closeSync(file)
  }
}

function openIfThere(path: string): number | undefined {
  try {
    return openSync(path, NON_BLOCKING)
  } catch (error) {
    const errno = (error as NodeJS.ErrnoException).errno
    if (errno === -constants.errno.ENOENT || errno === -constants.errno.ENOTDIR) return undefined
    throw error
  }
}

/** Text that needs no quotes there. */
const PLAIN_VALUE = /^[\w./:=@%+,-]+$/

/** One assignment, as {@link readEnvironmentFile} and systemd read it. The value has one line. */
export const environmentLine = (name: string, value: string): string =>
  `${name}=${PLAIN_VALUE.test(value) ? value : `"${value.replaceAll(/["\\`$]/g, '\\$&')}"`}`

type State =
  | 'before-name'
  | 'name'
  | 'before-value'
  | 'value'
  | 'value-escape'
  | 'single'
  | 'double'
  | 'double-escape'
  | 'comment'
  | 'comment-escape'

const isNewline = (char: string): boolean => char === '\n' || char === '\r'
const isBlank = (char: string): boolean => isNewline(char) || char === ' ' || char === '\t'
/** Characters that a backslash escapes within double quotes (SHELL_NEED_ESCAPE). */
const ESCAPED = '"\\`$'
/** env_name_is_valid. */
const NAME = /^[A-Za-z_]\w*$/
/** env_value_is_valid: no control characters but tab and newline. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: the expression looks for control characters
const BAD_VALUE = /[\u0000-\u0008\u000b-\u001f\u007f]/

/** @param bytes UTF-8; an assignment that is not valid UTF-8 is ignored and reported */
export function parseEnvironmentFile(bytes: Uint8Array): EnvironmentFile {
  const variables: Record<string, string> = {}
  const passedOver: string[] = []
  let more = 0
  const passOver = (line: number, why: string): void => {
    if (passedOver.length < MOST_NAMED) passedOver.push(`line ${line}: ${why}`)
    else more++
  }
  const assign = (line: number, name: string, value: string): void => {
    // U+FFFD: the decoder puts it in place of bytes that are not UTF-8.
    if (!NAME.test(name)) passOver(line, `${JSON.stringify(name.slice(0, 40))} is not the name of a variable`)
    else if (value.includes('\ufffd')) passOver(line, `the value of ${name} is not UTF-8`)
    else if (BAD_VALUE.test(value)) passOver(line, `the value of ${name} has control characters`)
    else variables[name] = value
  }
  let state: State = 'before-name'
  let name = ''
  let value = ''
  /** Length of the part of `value` that must not be trimmed: it ends with a quoted or escaped character. */
  let kept = 0
  let line = 1
  let begun = 1
  const end = (): void => {
    const trimmed = value.slice(kept).replace(/[ \t]+$/, '')
    assign(begun, name.replace(/[ \t]+$/, ''), value.slice(0, kept) + trimmed)
    name = ''
    value = ''
    kept = 0
  }
  const keep = (char: string): void => {
    value += char
    kept = value.length
  }
  // ignoreBOM keeps a byte order mark in the text: systemd takes it as part of the first name.
  for (const char of new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes)) {
    switch (state) {
      case 'before-name':
        if (char === '#' || char === ';') state = 'comment'
        else if (!isBlank(char)) {
          state = 'name'
          begun = line
          name = char
        }
        break
      case 'name':
        if (char === '=') state = 'before-value'
        else if (isNewline(char)) {
          passOver(begun, `${JSON.stringify(name.trim().slice(0, 40))} has no "="`)
          name = ''
          state = 'before-name'
        } else name += char
        break
      case 'before-value':
        if (isNewline(char)) {
          end()
          state = 'before-name'
        } else if (char === "'") state = 'single'
        else if (char === '"') state = 'double'
        else if (char === '\\') state = 'value-escape'
        else if (!isBlank(char)) {
          state = 'value'
          value += char
        }
        break
      case 'value':
        if (isNewline(char)) {
          end()
          state = 'before-name'
        } else if (char === '\\') {
          kept = value.length
          state = 'value-escape'
        } else value += char
        break
      case 'value-escape':
        state = 'value'
        if (!isNewline(char)) keep(char)
        break
      case 'single':
        if (char === "'") state = 'before-value'
        else keep(char)
        break
      case 'double':
        if (char === '"') state = 'before-value'
        else if (char === '\\') state = 'double-escape'
        else keep(char)
        break
      case 'double-escape':
        state = 'double'
        if (ESCAPED.includes(char)) keep(char)
        else if (char !== '\n') keep(`\\${char}`)
        break
      case 'comment':
        if (char === '\\') state = 'comment-escape'
        else if (isNewline(char)) state = 'before-name'
        break
      case 'comment-escape':
        // Up to systemd 253 an escaped line end continued the comment; since 254 it ends the comment.
        state = isNewline(char) ? 'before-name' : 'comment'
        break
    }
    if (char === '\n') line++
  }
  if (name !== '') {
    if (state === 'name') passOver(begun, `${JSON.stringify(name.trim().slice(0, 40))} has no "="`)
    else end()
  }
  if (more > 0) passedOver.push(`and ${more} more`)
  return { variables, passedOver }
}
