/** Makes packages of this tree, for tests of what is in them. */
import { createHash } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { type Command, runOk } from '../lab/process'

/** Debian's name of this machine's architecture. */
export const ARCH = process.arch === 'x64' ? 'amd64' : process.arch

/** @param flags of scripts/package/make; without `--arch`, for this machine's architecture */
export async function makePackages(flags: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<void> {
  const arch = flags.some((flag) => flag.startsWith('--arch=')) ? [] : [`--arch=${ARCH}`]
  const words = ['npm', 'run', '--silent', 'package', '--', ...arch, ...flags]
  await runOk(words as unknown as Command, { env: { ...process.env, ...env }, timeoutMs: 180_000 })
}

/**
 * Makes packages twice, uncompressed, in two time zones.
 * @param kinds as for scripts/package/make
 * @returns the two directories, which the caller removes
 */
export const makeTwice = (kinds: string): Promise<readonly string[]> =>
  Promise.all(
    ['Asia/Tokyo', 'America/Lima'].map(async (TZ) => {
      const output = mkdtempSync(join(tmpdir(), 'overlayd-package-'))
      await makePackages(['--fast', `--kinds=${kinds}`, `--output=${output}`], { TZ })
      return output
    }),
  )

/** @returns pairs of a file, from the directory, and its checksum; without the caches of V8 */
export const digestsIn = (directory: string): readonly (readonly [file: string, digest: string])[] =>
  readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.endsWith('.cache'))
    .map(({ parentPath, name }) => join(parentPath, name))
    .sort()
    .map((file) => [relative(directory, file), createHash('sha256').update(readFileSync(file)).digest('hex')])

/** @returns the programs' bundles in a folder that have a cache of V8's, without their hashes */
export const cachedIn = (library: string): string[] =>
  readdirSync(library)
    .flatMap((name) => /^(.*)-\w+\.cache$/.exec(name)?.[1] ?? [])
    .sort()

/** A script that prints of each bundle whether V8 rejects its cache. @param launch the path of launch.js */
export const printRejected = (launch: string): string =>
  `const { BUNDLES, load } = require(${JSON.stringify(launch)})
  process.stdout.write(BUNDLES.map((name) => load(name).script.cachedDataRejected).join())`

/** What it prints where V8 takes the caches of both bundles. */
export const NONE_REJECTED = 'false,false'

/** A command for which /usr has the files of this machine, and those below `root`. */
export function merged(root: string, ...command: Command): Command {
  const script = 'mount -t overlay overlay -o "lowerdir=$1/usr:/usr" /usr && shift && exec "$@"'
  return ['unshare', '--mount', 'sh', '-c', script, 'sh', root, ...command]
}
