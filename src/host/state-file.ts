/**
 * The state file: what this host has to remember to come up while etcd is away, and to know its lease again. JSON with a version and a
 * digest, private to the user that the daemon runs as. What is not whole, not of this version or not ours is refused, never half believed.
 */
import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { open, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { z } from 'zod'
import { describeError, OverlayError, systemErrorCode } from '../model/errors'
import { writeFileAtomically } from './atomic-file'

/** Raised when an older daemon could misread a newer file. */
const VERSION = 1
const NAME = 'state.json'
/** Only the daemon reads it: who can write it says where packets go after a reboot. */
const MODE = 0o600
/** 10,000 peers are 2 MB. */
const MOST_BYTES = 64 * 1024 * 1024

const decimal = z.string().regex(/^\d{1,20}$/)
const seconds = z.number().min(0)

const momentSchema = z.object({ bootId: z.string(), uptimeSeconds: seconds, wallSeconds: seconds })
const addressSchema = z.object({ local: z.string(), public: z.string() })

const stateSchema = z.object({
  /** When it was written, for people. */
  savedAt: z.iso.datetime(),
  /** The etcd prefix of the network. */
  prefix: z.string(),
  /** The etcd cluster, by its own id. */
  clusterId: z.string().optional(),
  host: z.object({
    machine: z.string().optional(),
    linkMac: z.string().optional(),
    ipv4: addressSchema.optional(),
    ipv6: addressSchema.optional(),
  }),
  /** The network config in use, as it stood in etcd. */
  config: z.object({ text: z.string(), revision: decimal.optional() }),
  /** etcd's revision up to which `peers` are right. */
  revision: decimal,
  /** This host's lease, key and value as in etcd. */
  own: z.object({
    key: z.string(),
    value: z.string(),
    etcdLease: decimal,
    modRevision: decimal,
    /** As the status document has it. */
    state: z.enum(['held', 'lost', 'conflict']),
    /** Absent when it was never renewed, and for a reservation. */
    renewal: z.object({ at: momentSchema, ttlSeconds: seconds }).optional(),
  }),
  macs: z.object({ ipv4: z.string().optional(), ipv6: z.string().optional() }),
  /** The peers as they were last good: a lease's key and value each. */
  peers: z.array(z.tuple([z.string(), z.string()])),
})

const fileSchema = z.object({ version: z.literal(VERSION), sha256: z.string(), state: z.unknown() })

export type SavedState = z.infer<typeof stateSchema>

export const stateFilePath = (directory: string): string => join(directory, NAME)

/** What was found: the state, or why there is none; neither when there never was one. */
export type FoundState =
  | { readonly state: SavedState; readonly refusal?: never }
  | { readonly state?: never; readonly refusal?: string }

/** Reads the state file; whatever is wrong with it is a refusal, and never thrown. */
export async function readStateFile(directory: string): Promise<FoundState> {
  const path = stateFilePath(directory)
  try {
    return { state: parseState(await readPrivately(path)) }
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return {}
    return { refusal: `${path} is not used: ${describeError(error)}` }
  }
}

/**
 * Writes it as a whole or not at all.
 * @throws {OverlayError} `state-file`
 */
export async function writeStateFile(directory: string, state: SavedState): Promise<void> {
  const path = stateFilePath(directory)
  try {
    await writeFileAtomically(path, await formatState(state), MODE)
  } catch (error) {
    throw new OverlayError(
      'state-file',
      `the state file ${path} cannot be written: ${describeError(error)}`,
      'choose another directory with --state-dir, or correct its permissions or the space on it',
      { cause: error },
    )
  }
}

/** Removes what a writer that was killed left beside the file. */
export async function removeLeftovers(directory: string): Promise<void> {
  const names = await readdir(directory).catch(() => [])
  for (const name of names) if (name.startsWith(`.${NAME}.`)) await rm(join(directory, name), { force: true })
}

/** Peers turned to text at a time, so that whoever waits for the event loop waits for a few milliseconds at the most. */
const SLICE = 1000

/** In pieces of bytes, which lie outside of the heap. */
async function formatState(state: SavedState): Promise<readonly Buffer[]> {
  // The peers come last.
  const { peers, ...rest } = state
  const hash = createHash('sha256')
  const pieces: Buffer[] = []
  const add = (text: string): void => {
    const piece = Buffer.from(text)
    hash.update(piece)
    pieces.push(piece)
  }
  add(`${JSON.stringify(rest).slice(0, -1)},"peers":[`)
  for (let from = 0; from < peers.length; from += SLICE) {
    const some = JSON.stringify(peers.slice(from, from + SLICE)).slice(1, -1)
    add(from === 0 ? some : `,${some}`)
    await nextTurn()
  }
  add(']}')
  const head = Buffer.from(`{"version":${VERSION},"sha256":"${hash.digest('hex')}","state":`)
  return [head, ...pieces, Buffer.from('}\n')]
}

/** @throws {Error} with the reason */
function parseState(text: string): SavedState {
  let document: unknown
  try {
    document = JSON.parse(text)
  } catch {
    throw new Error('it is not whole, or no JSON')
  }
  const file = fileSchema.safeParse(document)
  if (!file.success) throw new Error(`it is none of version ${VERSION}`)
  // Of the bytes as they stand there: nobody but us writes the file, and who puts it into another form may have changed it.
  if (digest(text.slice(text.indexOf(BEGIN) + BEGIN.length, text.lastIndexOf('}'))) !== file.data.sha256)
    throw new Error('it was changed: its digest is wrong')
  const state = stateSchema.safeParse(file.data.state)
  if (state.success) return state.data
  const [issue] = state.error.issues
  throw new Error(`${issue?.path.join('.')}: ${issue?.message}`)
}

/** What stands before the state. */
const BEGIN = '"state":'

const digest = (text: string): string => createHash('sha256').update(text).digest('hex')

/** Reads a file that nobody else can have written. */
async function readPrivately(path: string): Promise<string> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    const { uid, mode, size } = await file.stat()
    const user = process.geteuid?.() ?? uid
    if ((mode & constants.S_IFMT) !== constants.S_IFREG) throw new Error('it is no file')
    if (uid !== user) throw new Error(`it belongs to user ${uid}, and this is user ${user}`)
    if ((mode & 0o077) !== 0)
      throw new Error(`others may use it (mode ${(mode & 0o777).toString(8)}, ${MODE.toString(8)} is wanted)`)
    if (size > MOST_BYTES) throw new Error(`it has ${size} bytes, more than any state has`)
    return await file.readFile('utf8')
  } finally {
    await file.close()
  }
}
