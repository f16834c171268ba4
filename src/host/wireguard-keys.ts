/**
 * The private keys of this host, in a file of the state directory that only the daemon may read. The time of
 * the file's last change says how far this host's clock has been: WireGuard refuses handshakes of a key whose
 * clock has gone back.
 */
import { stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { describeError, OverlayError, systemErrorCode } from '../model/errors'
import { LAST_TURN } from '../model/lease'
import { PrivateKey } from '../model/wireguard-secret'
import { writeFileAtomically } from './atomic-file'
import { PRIVATE_MODE, readPrivately } from './private-file'

const NAME = 'wireguard-keys.json'
/** To be raised when an older daemon could misread a newer file. */
const VERSION = 1
/** The file has 300 bytes. */
const MOST_BYTES = 4096

/** The keys of both slots. */
export interface HostKeys {
  readonly keys: readonly [PrivateKey, PrivateKey]
  /** As the lease says it. */
  readonly turn: number
  /** When the turn was taken, in milliseconds since the epoch. */
  readonly since: number
  /** Whether the key of the slot that was left is still the one that was used. */
  readonly isLeaving: boolean
}

const keySchema = z.string().transform((text, context) => {
  const key = PrivateKey.fromText(text)
  if (key !== undefined) return key
  context.addIssue({ code: 'custom', message: 'expected a private key' })
  return z.NEVER
})

const fileSchema = z.object({
  version: z.literal(VERSION),
  turn: z.int().min(0).max(LAST_TURN),
  since: z.number().min(0),
  isLeaving: z.boolean(),
  keys: z.tuple([keySchema, keySchema]),
})

/** The keys with the last time that this host is known to have had, or why the file was refused. */
export type FoundKeys =
  | { readonly kind: 'none' }
  | { readonly kind: 'found'; readonly keys: HostKeys; readonly clock: number }
  | { readonly kind: 'refused'; readonly reason: string }

/** The file with the keys in a state directory. */
export const hostKeysPath = (directory: string): string => join(directory, NAME)

/** Reads the keys. Anything wrong with the file is returned, never thrown; no reason contains a key. */
export async function readHostKeys(directory: string): Promise<FoundKeys> {
  const path = hostKeysPath(directory)
  try {
    const text = await readPrivately(path, MOST_BYTES)
    const { mtimeMs: clock } = await stat(path)
    const file = fileSchema.safeParse(parseQuietly(text))
    if (!file.success)
      return { kind: 'refused', reason: `${path} is not a file of keys of version ${VERSION}` }
    const { version, ...keys } = file.data
    return { kind: 'found', keys, clock }
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return { kind: 'none' }
    return { kind: 'refused', reason: `${path} is not used: ${describeError(error)}` }
  }
}

/** The message of a parser quotes its input. */
function parseQuietly(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/**
 * Writes the keys atomically.
 * @throws {OverlayError} `key-file`
 */
export async function writeHostKeys(directory: string, { keys, ...rest }: HostKeys): Promise<void> {
  const path = hostKeysPath(directory)
  const text = JSON.stringify({ version: VERSION, ...rest, keys: keys.map((key) => key.text()) })
  try {
    await writeFileAtomically(path, `${text}\n`, PRIVATE_MODE)
  } catch (error) {
    throw new OverlayError(
      'key-file',
      `the keys cannot be written to ${path}: ${describeError(error)}`,
      'choose another directory with --state-dir, or correct its permissions or the space on it',
      { cause: error },
    )
  }
}

/** Notes the present time at the file. A failure loses nothing but the note. */
export async function noteClock(directory: string, now: Date): Promise<void> {
  await utimes(hostKeysPath(directory), now, now).catch(() => undefined)
}
