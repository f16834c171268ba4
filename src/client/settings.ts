/**
 * Finds the options that overlayctl uses. The first source that gives an option counts: the flags, FLANNELD_*
 * in the environment, the running daemon of that network, the environment file of its unit, the unit itself,
 * the defaults.
 */
import { lstatSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import { controlSocketPath } from '../api/requests'
import { readEnvironmentFile } from '../host/environment-file'
import { NETWORK_NAME, networkOfRunDirectory } from '../model/commands'
import { describeError, isOverlayError, OverlayError, systemErrorCode } from '../model/errors'
import { readGoFlags } from '../options/go-flags'
import { type Options, objectionTo, parseOptions } from '../options/schema'
import { isPath, variableName } from '../options/table'
import { givenTexts, type OptionTexts } from '../options/texts'
import { UsageError } from '../options/usage-error'
import { readDaemon } from './daemon-socket'

/** Where the options come from, and what is not known. */
export interface Knowledge {
  /**
   * The further network of this host that is meant, as in `overlayd@blue`; undefined for the first network.
   */
  readonly network: string | undefined
  /** The systemd unit: `overlayd`, `overlayd@blue`. */
  readonly unit: string
  /**
   * The source that names etcd: `the flags`, `the running overlayd`, `/etc/default/overlayd`, `the defaults`.
   */
  readonly etcdFrom: string
  /** Why it is not known where etcd is, or how to log in; undefined when it is known. */
  readonly etcdUnknown?: string
  /**
   * Why it is not known where the daemon's socket is, so that a daemon may run; undefined when it is known.
   */
  readonly daemonUnknown?: string
  /** Sources that could not be read, and values that are ignored; each is a line. */
  readonly notes: readonly string[]
}

/** The options, and where they come from. */
export type Settings = Options & { readonly known: Knowledge }

/** A place that gives options. */
interface Source {
  readonly name: string
  readonly texts: OptionTexts
  /** Whether its content is chosen by another user, who has fewer rights than this one. */
  readonly ofOthers?: boolean
}

/** Milliseconds to wait for the daemon: one that hangs must not keep a command from etcd. */
const ASKING = 2000

/** Options that make a daemon one of a network of its own. All of them are taken from one source. */
const IDENTITY = ['etcd-prefix', 'subnet-file', 'run-dir', 'state-dir']
/** Options that only make sense together: a source that gives one of them gives all. */
const TOGETHER = [
  ['etcd-endpoints', 'etcd-discovery-srv'],
  ['etcd-certfile', 'etcd-keyfile'],
]

export interface SettingsRequest {
  /**
   * Whether the daemon is asked: false for commands that ask it anyway, and for those that do not need it.
   */
  readonly askDaemon: boolean
  /** The directory of the units' environment files. */
  readonly directory?: string
}

/**
 * Finds the options.
 * @param flags by option name; `network` too
 * @throws {UsageError} for a flag or variable with a bad value
 */
export async function findSettings(
  { network: named, ...flags }: Readonly<Record<string, unknown>>,
  env: NodeJS.ProcessEnv,
  { askDaemon, directory = '/etc/default' }: SettingsRequest,
): Promise<Settings> {
  const { STATE_DIRECTORY: _, ...variables } = env
  // Errors in flags and variables are reported in their own words.
  parseOptions(flags, variables)
  const given = { name: 'the flags or the environment', texts: givenTexts(flags, variables) }
  const network = readNetwork(named) ?? networkOfRunDirectory(String(given.texts['run-dir']))
  const path = `${directory}/overlayd${network === undefined ? '' : `-${network}`}`
  const notes: string[] = []
  const found = await readFile(path, notes)
  // For the commands of a unit, which run as the unit's user, systemd has read the file already.
  const file = found === 'forbidden' && env['STATE_DIRECTORY'] !== undefined ? undefined : found
  const unit = { name: 'the unit', texts: unitTexts(network, file !== undefined) }
  const written = file === undefined || file === 'forbidden' ? [] : [file]
  const local = withoutStrangers(given, [...written, unit])
  const { 'run-dir': runDirectory } = parseOptions(merge([given, ...local]), {})
  const daemon = askDaemon ? await askSettings(runDirectory, notes) : undefined
  const isBait = daemon !== 'forbidden' && daemon?.ofOthers === true && !mayTell(given)
  const told = daemon === undefined || daemon === 'forbidden' ? [] : isBait ? [withoutEtcd(daemon)] : [daemon]
  const sources = [given, ...withoutStrangers(given, [...told, ...written, unit])]
  const merged = merge(sources)
  const options = { ...parseOptions(merged, {}), 'run-dir': runDirectory }
  const isHidden =
    told.length === 0 && (file === 'forbidden' || (daemon === 'forbidden' && written.length === 0))
  const saysWhere = (texts: OptionTexts): boolean => isSaid(texts, TOGETHER[0] ?? [])
  const from = sources.find(({ texts }) => saysWhere(texts))?.name
  const isDaemonHidden =
    file === 'forbidden' && given.texts['run-dir'] === undefined && !isThere(runDirectory)
  const unknown =
    isBait && from === undefined
      ? `only a service of another user names it (${daemon.name}), and the given password is not sent there`
      : whyUnknown(options, isHidden && from === undefined, path, merged)
  return {
    ...options,
    known: {
      network,
      unit: network === undefined ? 'overlayd' : `overlayd@${network}`,
      etcdFrom: from ?? 'the defaults',
      ...(unknown !== undefined && { etcdUnknown: unknown }),
      ...(isDaemonHidden && { daemonUnknown: `${path} says where, and this user may not read it` }),
      notes,
    },
  }
}

/** A given password of etcd must not be sent to a place that only the daemon's user has chosen. */
const mayTell = ({ texts }: Source): boolean =>
  textOf(texts['etcd-password']) === undefined || isSaid(texts, TOGETHER[0] ?? [])

const withoutEtcd = (source: Source): Source => ({
  ...source,
  texts: Object.fromEntries(
    Object.entries(source.texts).filter(([name]) => !name.startsWith('etcd-') || name === 'etcd-prefix'),
  ),
})

/** Whether a daemon has, or had, its socket there; true also where this user may not look. */
function isThere(runDirectory: string): boolean {
  try {
    return statSync(controlSocketPath(runDirectory)) !== undefined
  } catch (error) {
    return systemErrorCode(error) !== 'ENOENT'
  }
}

/** @throws {OverlayError} `etcd-unknown` where it cannot be known whether a daemon runs */
export function demandDaemon({ known: { daemonUnknown: why } }: Settings): void {
  if (why === undefined) return
  throw new OverlayError(
    'etcd-unknown',
    `not known: overlayd is not at its usual place; ${why}`,
    'run overlayctl as root, or give --run-dir',
  )
}

function whyUnknown(
  options: Options,
  isHidden: boolean,
  path: string,
  merged: Readonly<Record<string, unknown>>,
): string | undefined {
  if (isHidden) {
    return `${path} and the running overlayd know where etcd is, and this user may read neither`
  }
  if (options['etcd-username'] !== '' && merged['etcd-password'] === undefined) {
    return (
      `the password of etcd's user ${JSON.stringify(options['etcd-username'])} is not known to this user ` +
      `(it is in ${path}, or in FLANNELD_ETCD_PASSWORD)`
    )
  }
  return undefined
}

/** The error where it is not known where etcd is. */
export const etcdIsUnknown = (why: string): OverlayError =>
  new OverlayError(
    'etcd-unknown',
    `etcd was not asked: ${why}`,
    'run overlayctl as root, or give --etcd-endpoints',
  )

/** @throws {OverlayError} `etcd-unknown` */
export function demandEtcd(options: Options & { readonly known?: Knowledge }): void {
  const why = options.known?.etcdUnknown
  if (why !== undefined) throw etcdIsUnknown(why)
}

function readNetwork(named: unknown): string | undefined {
  if (named === undefined) return undefined
  const name = String([named].flat().at(-1))
  if (NETWORK_NAME.test(name)) return name
  throw new UsageError(
    `the flag --network is ${JSON.stringify(name)}: expected the name of a further network, ` +
      'as in overlayd@NAME.service',
    'ls /etc/default/overlayd-* shows those that are configured; without the flag it is the first network',
  )
}

/** The options in the units themselves (scripts/systemd). */
function unitTexts(network: string | undefined, isInstalled: boolean): OptionTexts {
  if (network === undefined) return isInstalled ? { 'state-dir': '/var/lib/overlayd' } : {}
  return {
    'etcd-prefix': `/coreos.com/network/${network}`,
    'subnet-file': `/run/flannel/networks/${network}.env`,
    'run-dir': `/run/overlayd-${network}`,
    'state-dir': `/var/lib/overlayd-${network}`,
  }
}

async function readFile(path: string, notes: string[]): Promise<Source | 'forbidden' | undefined> {
  try {
    const file = await readEnvironmentFile(path)
    if (file === undefined) return undefined
    notes.push(...file.passedOver.map((what) => `${path}, ${what}; systemd passes over it too`))
    return { name: path, texts: checked(fileTexts(file.variables), path, notes) }
  } catch (error) {
    notes.push(`${path} cannot be read: ${describeError(error)}`)
    const code = systemErrorCode(error)
    return code === 'EACCES' || code === 'EPERM' ? 'forbidden' : undefined
  }
}

function fileTexts(variables: Readonly<Record<string, string>>): OptionTexts {
  const texts: [string, string | readonly string[]][] = []
  for (const [name, text] of Object.entries(givenTexts({}, variables))) {
    // A unit's working directory is the root directory.
    texts.push([name, typeof text === 'string' && isPath(name) ? resolve('/', text) : text])
  }
  return Object.fromEntries(texts)
}

/** The valid options. overlayd ends for an invalid one; overlayctl only notes it. */
function checked(texts: OptionTexts, where: string, notes: string[]): OptionTexts {
  return Object.fromEntries(
    Object.entries(texts).filter(([name, text]) => {
      const objection = objectionTo(name, text)
      if (objection !== undefined) {
        notes.push(
          `${variableName(name)} in ${where} is ${JSON.stringify(text)}: ${objection}; it is ignored`,
        )
      }
      return objection === undefined
    }),
  )
}

/** @returns undefined where no daemon runs, or where it gives no settings */
async function askSettings(runDirectory: string, notes: string[]): Promise<Source | 'forbidden' | undefined> {
  try {
    const told = await readDaemon(runDirectory, 'settings', ASKING)
    if (told === undefined) return undefined
    const { pid, options } = told
    const known = Object.entries(options).filter(([name, value]) => objectionTo(name, value) === undefined)
    const texts: OptionTexts = Object.fromEntries(known)
    const owner = ownerOf(controlSocketPath(runDirectory))
    const password = await readPassword(pid, owner, String(texts['etcd-username'] ?? ''))
    return {
      name: 'the running overlayd',
      ofOthers: owner !== 0 && owner !== process.geteuid?.(),
      texts: { ...texts, ...(password !== undefined && { 'etcd-password': password }) },
    }
  } catch (error) {
    notes.push(`the running overlayd could not be asked for its settings: ${describeError(error)}`)
    return systemErrorCode(isOverlayError(error) ? error.cause : error) === 'EACCES' ? 'forbidden' : undefined
  }
}

/**
 * The password with which a daemon logs in to etcd, from its flags or its environment. The daemon itself
 * never gives the password away. The kernel shows a process's environment to root, and to users who may trace
 * the process anyway.
 */
async function readPassword(
  pid: number,
  owner: number | undefined,
  username: string,
): Promise<string | undefined> {
  // The process id comes from whoever answers at the socket: no secret of another user's process is used.
  if (username === '' || owner === undefined || ownerOf(`/proc/${pid}`) !== owner) return undefined
  const { readProcess } = await import('../host/procfs.js')
  const found = await readProcess(pid)
  if (found === undefined) return undefined
  // A daemon that has set its process title has one word instead of its arguments.
  const flags = readFlags(found.words.length === 1 ? (found.words[0] ?? '').split(' ') : found.words)
  const texts = givenTexts(flags, found.environment)
  // In another process namespace the id may be that of another process.
  return texts['etcd-username'] === username ? textOf(texts['etcd-password']) : undefined
}

/** The user of a file or a process. */
function ownerOf(path: string): number | undefined {
  try {
    return lstatSync(path).uid
  } catch {
    return undefined
  }
}

/** The options of the login among a daemon's flags. */
function readFlags(words: readonly string[]): Record<string, string> {
  const from = words.findIndex((word) => word.startsWith('-'))
  try {
    const flags = from === -1 ? [] : readGoFlags(words.slice(from), (name) => !name.startsWith('etcd-'))
    return Object.fromEntries(flags.map(({ name, value }) => [name, value]))
  } catch {
    return {}
  }
}

const textOf = (text: string | readonly string[] | undefined): string | undefined =>
  typeof text === 'string' && text !== '' ? text : undefined

const isSaid = (texts: OptionTexts, names: readonly string[]): boolean =>
  names.some((name) => texts[name] !== undefined)

/**
 * Leaves out the options that make a source's network its own, where the given options name another network.
 */
function withoutStrangers(given: Source, sources: readonly Source[]): Source[] {
  const theirs = parseOptions(merge(sources), {})
  const isOther = (['etcd-prefix', 'run-dir'] as const).some((name) => {
    const wanted = textOf(given.texts[name])
    return wanted !== undefined && resolve('/', wanted) !== resolve('/', theirs[name])
  })
  if (!isOther) return [...sources]
  return sources.map(({ name, texts }) => ({
    name,
    texts: Object.fromEntries(Object.entries(texts).filter(([option]) => !IDENTITY.includes(option))),
  }))
}

/** The options, each from the first source that gives it. */
export function merge(sources: readonly Source[]): Record<string, string | readonly string[]> {
  const merged: Record<string, string | readonly string[]> = {}
  const takeFrom = (texts: OptionTexts | undefined, names: readonly string[]): void => {
    for (const name of names) {
      const text = texts?.[name]
      if (text !== undefined) merged[name] = text
    }
  }
  const grouped = [...TOGETHER.flat(), 'etcd-username', 'etcd-password']
  for (const names of TOGETHER) takeFrom(sources.find(({ texts }) => isSaid(texts, names))?.texts, names)
  for (const name of new Set(sources.flatMap(({ texts }) => Object.keys(texts)))) {
    if (grouped.includes(name)) continue
    takeFrom(sources.find(({ texts }) => texts[name] !== undefined)?.texts, [name])
  }
  const users = sources.filter(({ texts }) => texts['etcd-username'] !== undefined)
  const user = textOf(users[0]?.texts['etcd-username'])
  const [first] = sources
  const password =
    textOf(first?.texts['etcd-password']) ??
    users.flatMap(({ texts }) =>
      texts['etcd-username'] === user ? (textOf(texts['etcd-password']) ?? []) : [],
    )[0]
  // Never one user's password for another user.
  if (user !== undefined) merged['etcd-username'] = user
  if (password !== undefined) merged['etcd-password'] = password
  return merged
}
