/**
 * The iptables programs of one family. They are looked for in PATH as Docker does, so that both use the same variant (legacy or nf_tables). The
 * nf_tables variant needs CAP_NET_ADMIN and takes no lock; the legacy one also needs CAP_NET_RAW and root's /run/xtables.lock and /proc/net/ip_tables_names.
 */
import type { Family } from '../model/address'
import type { IptablesListing, IptablesTable } from '../model/firewall'
import { findProgram, requireProgram, runProgram } from './program'

/** `iptables-restore` waits for another one's lock, and MASQUERADE takes --random-fully, since this version. */
const SINCE = [1, 6, 2]

/** Seconds to wait for another one's lock. */
const LOCK_WAIT = 5

/** Debian's, of the programs of both families. */
const PACKAGE = 'iptables'

const TABLES: ReadonlySet<string> = new Set<IptablesTable>(['raw', 'nat', 'filter'])

export class Iptables {
  #isRecent: boolean | undefined

  private constructor(
    private readonly save: string,
    private readonly restore: string,
  ) {}

  /** `undefined` where they are not installed. */
  static async find(family: Family): Promise<Iptables | undefined> {
    const names = namesOf(family)
    const [save, restore] = [await findProgram(names.save), await findProgram(names.restore)]
    return save === undefined || restore === undefined ? undefined : new Iptables(save, restore)
  }

  /** @throws {OverlayError} `program-missing` */
  static async require(family: Family): Promise<Iptables> {
    const names = namesOf(family)
    return new Iptables(
      await requireProgram(names.save, PACKAGE),
      await requireProgram(names.restore, PACKAGE),
    )
  }

  /**
   * All chains and rules. Makes no table that does not exist yet.
   * @throws {OverlayError} `iptables`
   */
  async list(signal: AbortSignal): Promise<IptablesListing> {
    return parseIptablesSave(await runProgram('iptables', { command: [this.save], signal }))
  }

  /**
   * Carries out lines of iptables-restore: each table's at once, or not at all.
   * @throws {OverlayError} `iptables`
   */
  async apply(input: string, signal: AbortSignal): Promise<void> {
    const wait = (await this.#recent(signal)) ? [`--wait=${LOCK_WAIT}`] : []
    await runProgram('iptables', { command: [this.restore, '--noflush', ...wait], input, signal })
  }

  /**
   * Whether masquerading can pick ports at random.
   * @throws {OverlayError} `iptables`
   */
  fullyRandom(signal: AbortSignal): Promise<boolean> {
    return this.#recent(signal)
  }

  async #recent(signal: AbortSignal): Promise<boolean> {
    this.#isRecent ??= isRecent(
      await runProgram('iptables', { command: [this.restore, '--version'], signal }),
    )
    return this.#isRecent
  }
}

const namesOf = (family: Family): { readonly save: string; readonly restore: string } =>
  family === 'IPv4'
    ? { save: 'iptables-save', restore: 'iptables-restore' }
    : { save: 'ip6tables-save', restore: 'ip6tables-restore' }

/** @param output e.g. `iptables-restore v1.8.9 (nf_tables)` */
export function isRecent(output: string): boolean {
  const version = /\bv?(\d+)\.(\d+)\.(\d+)/.exec(output)?.slice(1).map(Number) ?? []
  const differing = SINCE.findIndex((part, index) => version[index] !== part)
  return differing === -1 || (version[differing] ?? 0) > (SINCE[differing] ?? 0)
}

/** Reads what iptables-save prints. */
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
