/**
 * The state file: what this host must remember to start while etcd is away, and to recognize its lease again.
 * JSON with a version and a digest, private to the daemon's user. A file that is truncated, of another
 * version or of another user is refused as a whole; no part of it is used.
 */
import { createHash } from 'node:crypto'
import type { Stats } from 'node:fs'
import { lstat, readdir, rm, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { z } from 'zod'
import { describeError, OverlayError, systemErrorCode } from '../model/errors'
import { LAST_SERIAL, LEASE_STATES } from '../model/lease'
import { MOST_OF_HOST, MOST_PRIORITY, MOST_VIA_TEXT, MOST_WEIGHT } from '../model/prefixes'
import { writeFileAtomically } from './atomic-file'
import { PRIVATE_MODE, readPrivately } from './private-file'

/** To be raised when an older daemon could misread a newer file. */
const VERSION = 1
const NAME = 'state.json'
/** 10,000 peers are 2 MB. */
const MOST_BYTES = 64 * 1024 * 1024

const decimal = z.string().regex(/^\d{1,20}$/)

type Check = (value: unknown) => boolean

/**
 * Checks that a value is a list of tuples with these members. By hand: a schema takes 45 ms for 10,000 pairs,
 * at each start.
 */
function tuplesOf(...members: readonly Check[]): Check {
  const isTuple: Check = (tuple) =>
    Array.isArray(tuple) &&
    tuple.length === members.length &&
    members.every((isMember, i) => isMember(tuple[i]))
  return (value) => Array.isArray(value) && value.every(isTuple)
}

const isText: Check = (value) => typeof value === 'string'
const isDecimal: Check = (value) => decimal.safeParse(value).success
const isSerial: Check = (value) =>
  typeof value === 'number' && Number.isSafeInteger(value) && value > 0 && value <= LAST_SERIAL

const seconds = z.number().min(0)

const momentSchema = z.object({ bootId: z.string(), uptimeSeconds: seconds, wallSeconds: seconds })
const addressSchema = z.object({ local: z.string(), public: z.string() })

/** A prefix that the host announces; `until` in milliseconds since 1970. */
const announcementSchema = z.object({
  prefix: z.string(),
  priority: z.int().min(0).max(MOST_PRIORITY),
  until: z.int().optional(),
  via: z.string().max(MOST_VIA_TEXT).optional(),
  share: z.int().min(1).max(MOST_WEIGHT).optional(),
  further: z.literal(true).optional(),
})
export type SavedAnnouncement = z.infer<typeof announcementSchema>

const stateSchema = z.object({
  /** When the file was written; informative only. */
  savedAt: z.iso.datetime(),
  /** The etcd prefix of the network. */
  prefix: z.string(),
  /** The etcd cluster's own id. */
  clusterId: z.string().optional(),
  host: z.object({
    machine: z.string().optional(),
    linkMac: z.string().optional(),
    ipv4: addressSchema.optional(),
    ipv6: addressSchema.optional(),
  }),
  /** The network config in use, as the text in etcd. */
  config: z.object({ text: z.string(), revision: decimal.optional() }),
  /** etcd revision up to which `peers` is current. */
  revision: decimal,
  /** This host's lease: key and value as in etcd. */
  own: z.object({
    key: z.string(),
    value: z.string(),
    etcdLease: decimal,
    modRevision: decimal,
    /** As in the status document; a drained lease is saved as lost. */
    state: z.enum(LEASE_STATES).exclude(['drained']),
    /** The last renewal. Absent for a reservation, and if the lease was never renewed. */
    renewal: z.object({ at: momentSchema, ttlSeconds: seconds }).optional(),
  }),
  macs: z.object({ ipv4: z.string().optional(), ipv6: z.string().optional() }),
  /** The greatest serials that were seen of pinned subnets: subnet, identity, serial. */
  seen: z
    .custom<readonly (readonly [subnet: string, identity: string, serial: number])[]>(
      tuplesOf(isText, isText, isSerial),
      'expected triples of a subnet, an identity and a serial',
    )
    .optional(),
  /** Absent in a file of a version that announced none. */
  announced: z.array(announcementSchema).max(MOST_OF_HOST).optional(),
  /**
   * What all hosts announce, as last known: the end of the key, its value, and the revision in which the key
   * was made. Absent in a file of a version that saved none.
   */
  prefixes: z
    .custom<readonly (readonly [name: string, value: string, claimedAt: string])[]>(
      tuplesOf(isText, isText, isDecimal),
      'expected triples of a name, a value and a revision',
    )
    .optional(),
  /** The peers as last valid: key and value of each lease. */
  peers: z.custom<readonly (readonly [key: string, value: string])[]>(
    tuplesOf(isText, isText),
    'expected pairs of a key and a value',
  ),
})

const fileSchema = z.object({ version: z.literal(VERSION), sha256: z.string(), state: z.unknown() })

export type SavedState = z.infer<typeof stateSchema>

export const stateFilePath = (directory: string): string => join(directory, NAME)

/** The state, or why the file was refused. Neither is set if there is no file. */
export type FoundState =
  | { readonly state: SavedState; readonly refusal?: never }
  | { readonly state?: never; readonly refusal?: string }

/** Reads the state file. Anything wrong with it is returned as a refusal, never thrown. */
export async function readStateFile(directory: string): Promise<FoundState> {
  const path = stateFilePath(directory)
  try {
    return { state: parseState(await readPrivately(path, MOST_BYTES)) }
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return {}
    return { refusal: `${path} is not used: ${describeError(error)}` }
  }
}

/**
 * Writes the state file atomically.
 * @throws {OverlayError} `state-file`
 */
export async function writeStateFile(directory: string, state: SavedState): Promise<void> {
  const path = stateFilePath(directory)
  try {
    const found = await lstat(path).catch(() => undefined)
    // A link or other non-file goes first: the reader refuses links, so nothing may be written through one.
    if (found?.isFile() === false) await (found.isDirectory() ? rmdir(path) : rm(path))
    await writeFileAtomically(path, await formatState(state), PRIVATE_MODE)
  } catch (error) {
    throw new OverlayError(
      'state-file',
      `the state file ${path} cannot be written: ${describeError(error)}`,
      'choose another directory with --state-dir, or correct its permissions or the space on it',
      { cause: error },
    )
  }
}

/** Fields of stat that differ if the file was replaced, rewritten or given another mode or owner. */
export type StateFilePrint = Pick<Stats, 'ino' | 'size' | 'mtimeMs' | 'mode' | 'uid'>

/** The print of the present file; `undefined` if there is none or it may not be inspected. */
export async function printOfStateFile(directory: string): Promise<StateFilePrint | undefined> {
  const found = await lstat(stateFilePath(directory)).catch(() => undefined)
  if (found === undefined) return undefined
  const { ino, size, mtimeMs, mode, uid } = found
  return { ino, size, mtimeMs, mode, uid }
}

/**
 * Removes temporary files that a killed writer left beside the state file. Ones it cannot remove do no harm.
 */
export async function removeLeftovers(directory: string): Promise<void> {
  const names = await readdir(directory).catch(() => [])
  for (const name of names)
    if (name.startsWith(`.${NAME}.`))
      await rm(join(directory, name), { force: true, recursive: true }).catch(() => undefined)
}

/** Peers serialized per turn of the event loop, so that a turn takes a few milliseconds at most. */
const SLICE = 1000

/** The file as several Buffers, because their bytes lie outside of the JavaScript heap. */
async function formatState(state: SavedState): Promise<readonly Buffer[]> {
  // The long ones are serialized last, in slices.
  const { peers, prefixes, ...rest } = state
  const hash = createHash('sha256')
  const pieces: Buffer[] = []
  const add = (text: string): void => {
    const piece = Buffer.from(text)
    hash.update(piece)
    pieces.push(piece)
  }
  const addAll = async (name: string, entries: readonly unknown[]): Promise<void> => {
    add(`,"${name}":[`)
    for (let from = 0; from < entries.length; from += SLICE) {
      const some = JSON.stringify(entries.slice(from, from + SLICE)).slice(1, -1)
      add(from === 0 ? some : `,${some}`)
      await nextTurn()
    }
    add(']')
  }
  add(JSON.stringify(rest).slice(0, -1))
  if (prefixes !== undefined) await addAll('prefixes', prefixes)
  await addAll('peers', peers)
  add('}')
  const head = Buffer.from(`{"version":${VERSION},"sha256":"${hash.digest('hex')}","state":`)
  return [head, ...pieces, Buffer.from('}\n')]
}

/** @throws {Error} with the reason */
function parseState(text: string): SavedState {
  let document: unknown
  try {
    document = JSON.parse(text)
  } catch {
    throw new Error('it is truncated or not JSON')
  }
  const file = fileSchema.safeParse(document)
  if (!file.success) throw new Error(`it is not a state file of version ${VERSION}`)
  // The digest covers the bytes as they stand: only the daemon writes the file, so reformatted text is
  // suspicious.
  if (digest(text.slice(text.indexOf(BEGIN) + BEGIN.length, text.lastIndexOf('}'))) !== file.data.sha256)
    throw new Error('it was changed: its digest is wrong')
  const state = stateSchema.safeParse(file.data.state)
  if (state.success) return state.data
  const [issue] = state.error.issues
  throw new Error(`${issue?.path.join('.')}: ${issue?.message}`)
}

/** Text before the state in the file. */
const BEGIN = '"state":'

const digest = (text: string): string => createHash('sha256').update(text).digest('hex')
