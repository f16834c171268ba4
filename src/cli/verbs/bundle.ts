/** `overlayctl bundle`: one file with all that someone needs who is to find out what is wrong. */
import { constants } from 'node:fs'
import { open, rm } from 'node:fs/promises'
import { hostname } from 'node:os'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import type { Settings } from '../../client/settings'
import { readEnvironmentFile } from '../../host/environment-file'
import { PRIVATE_MODE } from '../../host/private-file'
import { complain, print, standardOutput, writeBytes } from '../../host/streams'
import { describeError, OverlayError, systemErrorCode } from '../../model/errors'
import { isSecretName, Redactor } from '../../model/redact'
import { UsageError } from '../../options/usage-error'
import { readVersion } from '../../options/version'
import { listingOf, makeBundle } from '../bundle/archive'
import { gatherParts } from '../bundle/parts'
import { EXIT } from '../exit'

const STANDARD_OUTPUT = '-'
/** Characters of a host's name in the name of the file. A name in a ustar archive has 100 in all. */
const LONGEST_HOST = 40

/**
 * Writes the bundle.
 * @param output the file, `-` for standard output, or empty for the usual name in the working directory
 * @returns the exit code: 0 where a bundle is written, whatever is missing in it
 * @throws {OverlayError} `bundle-file`
 */
export async function runBundle(
  settings: Settings,
  output: string,
  env: NodeJS.ProcessEnv = process.env,
): Promise<number> {
  const at = new Date()
  const directory = `overlayd-bundle-${fileWord(hostname())}-${at.toISOString().replace(/[-:]|\.\d+/g, '')}`
  const isStream = output === STANDARD_OUTPUT
  if (isStream && standardOutput().isTTY === true) {
    throw new UsageError('the bundle is not text for a terminal', 'give --output=FILE, or a pipe')
  }
  const path = output === '' ? `${directory}.tar.gz` : output
  const file = isStream ? undefined : await createFile(path)
  try {
    const parts = await gatherParts(settings, env)
    const redactor = new Redactor(await secretsOf(settings, env))
    const bundle = makeBundle(parts, redactor, { directory, at, version: readVersion() })
    const packed = await promisify(gzip)(bundle.archive)
    if (file === undefined) await writeBytes(packed)
    else {
      await file.writeFile(packed)
      await file.sync()
    }
    const lines = listingOf(bundle, path, packed.length)
    if (isStream) for (const line of lines) complain(line)
    else print(`${lines.join('\n')}\n`)
    return EXIT.healthy
  } catch (error) {
    if (file !== undefined) await rm(path, { force: true }).catch(() => undefined)
    throw error
  } finally {
    await file?.close()
  }
}

/** O_EXCL: nothing is overwritten, and no link is followed. */
async function createFile(path: string) {
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants
  try {
    const file = await open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, PRIVATE_MODE)
    // Whatever the umask is.
    await file.chmod(PRIVATE_MODE)
    return file
  } catch (error) {
    const exists = systemErrorCode(error) === 'EEXIST'
    throw new OverlayError(
      'bundle-file',
      exists ? `${path} exists, and is not overwritten` : `${path} cannot be made: ${describeError(error)}`,
      'give another name: --output=FILE',
      { cause: error },
    )
  }
}

/** The host's name as a part of a file's name. */
const fileWord = (name: string): string => name.replace(/[^\w.-]/g, '').slice(0, LONGEST_HOST) || 'host'

/** The secrets that this user can know: of the options, of the environment, and of the unit's file. */
async function secretsOf(settings: Settings, env: NodeJS.ProcessEnv): Promise<string[]> {
  const path = `/etc/default/${settings.known.unit.replace('@', '-')}`
  const { variables = {} } = (await readEnvironmentFile(path).catch(() => undefined)) ?? {}
  const named = [...Object.entries(variables), ...Object.entries(env)]
    .filter(([name]) => isSecretName(name))
    .map(([, value]) => value ?? '')
  return [settings['etcd-password'], ...named]
}
