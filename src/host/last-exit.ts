/**
 * Why the daemon ended last: a file in the run directory, for people who find the daemon down or find a
 * service that restarts again and again.
 */
import { constants } from 'node:fs'
import { open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { isOverlayError, OverlayError } from '../model/errors'
import { writeFileAtomically } from './atomic-file'

const NAME = 'last-exit.json'
const MODE = 0o600
const MOST_BYTES = 16_384
/** Most characters of a reason, and of a fix. */
const LONGEST = 4000

const schema = z.object({
  /** ISO 8601. */
  at: z.iso.datetime(),
  /** Code of the {@link OverlayError}; `defect` for any other error. */
  code: z.string(),
  reason: z.string(),
  fix: z.string().optional(),
  /** How often in a row the daemon ended with an error since it was last ready. */
  times: z.number().int().min(1),
})

export type LastExit = z.infer<typeof schema>

/**
 * @returns `undefined` if the last daemon became ready and did not end with an error, or if the file is
 *   unreadable
 */
export async function readLastExit(runDirectory: string): Promise<LastExit | undefined> {
  try {
    const file = await open(
      join(runDirectory, NAME),
      constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK,
    )
    try {
      const { mode, size } = await file.stat()
      if ((mode & constants.S_IFMT) !== constants.S_IFREG || size > MOST_BYTES) return undefined
      return schema.parse(JSON.parse(await file.readFile('utf8')))
    } finally {
      await file.close()
    }
  } catch {
    return undefined
  }
}

/** Records why the daemon ends. If the file cannot be written, only the log has the reason. */
export async function writeLastExit(runDirectory: string, error: unknown): Promise<void> {
  const before = await readLastExit(runDirectory)
  const exit: LastExit = {
    at: new Date().toISOString(),
    code: isOverlayError(error) ? error.code : 'defect',
    reason: (error instanceof Error ? error.message : String(error)).slice(0, LONGEST),
    ...(isOverlayError(error) && error.fix !== undefined && { fix: error.fix.slice(0, LONGEST) }),
    times: (before?.times ?? 0) + 1,
  }
  await writeFileAtomically(join(runDirectory, NAME), `${JSON.stringify(exit)}\n`, MODE).catch(
    () => undefined,
  )
}

/** Removes the record. To be called once the daemon is ready. */
export async function forgetLastExit(runDirectory: string): Promise<void> {
  await rm(join(runDirectory, NAME), { force: true }).catch(() => undefined)
}
