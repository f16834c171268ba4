/**
 * The iptables programs of one family. They are found through PATH, as Docker finds them, so that both use
 * the same variant (legacy or nf_tables). The nf_tables variant needs CAP_NET_ADMIN and takes no lock. The
 * legacy variant also needs CAP_NET_RAW, and root's /run/xtables.lock and /proc/net/ip_tables_names.
 */
import { realpath } from 'node:fs/promises'
import type { Family } from '../model/address'
import type { IptablesListing, IptablesTable } from '../model/firewall'
import { hasLegacyTables } from './legacy-tables'
import { findProgram, requireProgram, runProgram } from './program'

/**
 * First version whose `iptables-restore` waits for the lock (--wait), and whose MASQUERADE has
 * --random-fully.
 */
const SINCE = [1, 6, 2]

/** Seconds to wait for the lock while another process holds it. */
const LOCK_WAIT = 5

/** Debian's package with the programs of both families. */
const PACKAGE = 'iptables'

const TABLES: ReadonlySet<string> = new Set<IptablesTable>(['raw', 'nat', 'filter'])

/**
 * File of a program, links resolved -> its output of `--version`. One file may be the programs of both
 * families.
 */
export type Versions = Map<string, Promise<string>>

export class Iptables {
  private constructor(
    private readonly save: string,
    private readonly restore: string,
    private readonly versions: Versions,
  ) {}

  /** @returns `undefined` if the programs are not installed */
  static async find(family: Family, versions: Versions = new Map()): Promise<Iptables | undefined> {
    const names = namesOf(family)
    const [save, restore] = [await findProgram(names.save), await findProgram(names.restore)]
    return save === undefined || restore === undefined ? undefined : new Iptables(save, restore, versions)
  }

  /** @throws {OverlayError} `program-missing` */
  static async require(family: Family, versions: Versions): Promise<Iptables> {
    const names = namesOf(family)
    return new Iptables(
      await requireProgram(names.save, PACKAGE),
      await requireProgram(names.restore, PACKAGE),
      versions,
    )
  }

  /**
   * All chains and rules. Creates no tables.
   * @throws {OverlayError} `iptables`
   */
  async list(signal: AbortSignal): Promise<IptablesListing> {
    // A change of the rules needs the version next, so the program runs beside this one. The change reports
    // its failure.
    this.#readVersion(signal).catch(() => {})
    return parseIptablesSave(await runProgram('iptables', { command: [this.save], signal }))
  }

  /**
   * Applies lines of iptables-restore. Each table changes atomically, or not at all.
   * @throws {OverlayError} `iptables`
   */
  async apply(input: string, signal: AbortSignal): Promise<void> {
    const wait = (await this.#recent(signal)) ? [`--wait=${LOCK_WAIT}`] : []
    await runProgram('iptables', { command: [this.restore, '--noflush', ...wait], input, signal })
  }

  /**
   * Whether MASQUERADE supports --random-fully.
   * @throws {OverlayError} `iptables`
   */
  fullyRandom(signal: AbortSignal): Promise<boolean> {
    return this.#recent(signal)
  }

  /**
   * Where these programs keep their rules.
   * @throws {OverlayError} `iptables`
   */
  async variant(signal: AbortSignal): Promise<Variant> {
    return (await this.#readVersion(signal)).includes('(legacy)') ? 'legacy' : 'nft'
  }

  /**
   * The programs of the other variant, whose rules packets pass as well.
   * @returns `undefined` if they are not installed, or have no tables to list
   * @throws {OverlayError} `iptables`
   */
  async other(family: Family, signal: AbortSignal): Promise<Iptables | undefined> {
    const variant: Variant = (await this.variant(signal)) === 'legacy' ? 'nft' : 'legacy'
    if (variant === 'legacy' && !(await hasLegacyTables(family))) return undefined
    const names = namesOf(family, `-${variant}`)
    const [save, restore] = [await findProgram(names.save), await findProgram(names.restore)]
    return save === undefined || restore === undefined
      ? undefined
      : new Iptables(save, restore, this.versions)
  }

  async #recent(signal: AbortSignal): Promise<boolean> {
    return isRecent(await this.#readVersion(signal))
  }

  /** Output of `--version`, such as `iptables-restore v1.8.9 (nf_tables)`. */
  async #readVersion(signal: AbortSignal): Promise<string> {
    const file = await realpath(this.restore)
    const known = this.versions.get(file)
    if (known !== undefined) return known
    const version = runProgram('iptables', { command: [this.restore, '--version'], signal })
    this.versions.set(file, version)
    version.catch(() => this.versions.delete(file))
    return version
  }
}

/** The kernel's two places for rules of iptables: nf_tables, or tables of its own. */
export type Variant = 'nft' | 'legacy'

/** @param variant `-legacy`, `-nft`, or empty for the default one */
const namesOf = (family: Family, variant = ''): { readonly save: string; readonly restore: string } => {
  const start = `${family === 'IPv4' ? 'iptables' : 'ip6tables'}${variant}`
  return { save: `${start}-save`, restore: `${start}-restore` }
}

/** @param output e.g. `iptables-restore v1.8.9 (nf_tables)` */
export function isRecent(output: string): boolean {
  const version = /\bv?(\d+)\.(\d+)\.(\d+)/.exec(output)?.slice(1).map(Number) ?? []
  const differing = SINCE.findIndex((part, index) => version[index] !== part)
  return differing === -1 || (version[differing] ?? 0) > (SINCE[differing] ?? 0)
}

/** Reads the output of iptables-save. */
export function parseIptablesSave(output: string): IptablesListing {
  const listing = new Map<IptablesTable, string[] | 'foreign'>()
  let lines: string[] = []
  for (const line of output.split('\n')) {
    const [, foreign] = /^# Table `(\w+)' is incompatible/.exec(line) ?? []
    if (foreign !== undefined && isTable(foreign)) listing.set(foreign, 'foreign')
    if (line.startsWith('*')) {
      lines = []
      const table = line.slice(1)
      if (isTable(table)) listing.set(table, lines)
    } else if (line.startsWith(':') || line.startsWith('-A ')) {
      lines.push(line)
    }
  }
  return listing
}

const isTable = (name: string): name is IptablesTable => TABLES.has(name)
