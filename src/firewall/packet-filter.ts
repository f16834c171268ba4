/**
 * Reads all packet filter rules of this host, of all programs: nftables rules through nft, iptables rules of
 * both variants through iptables-save. Changes nothing.
 */
import { FAMILIES, type Family } from '../model/address'
import { describeError } from '../model/errors'
import { NFT_FAMILY } from '../model/family'
import type { FilterChain, PacketFilter, UnreadRules } from '../model/packet-filter'
import { legacyTables } from './legacy-tables'
import { type RuleTexts, readNftRuleset, ruleKey } from './nft-json'
import { findProgram, runProgram } from './program'
import { readSaved, type SavedTables } from './xtables'

/** Tables that iptables-nft keeps in nf_tables (iptables(8)). nft cannot express all of their rules. */
const OF_IPTABLES: ReadonlySet<string> = new Set(['raw', 'mangle', 'nat', 'filter', 'security'])
const NAMES: Readonly<Record<Family, string>> = { IPv4: 'iptables', IPv6: 'ip6tables' }

interface Part {
  readonly chains: readonly FilterChain[]
  readonly unread: PacketFilter['unread']
}

const NOTHING: Part = { chains: [], unread: [] }

export async function readPacketFilter(signal: AbortSignal): Promise<PacketFilter> {
  const [nft, ...rest] = await Promise.all([
    readNft(signal),
    ...FAMILIES.map((family) => readIptablesNft(family, signal)),
    ...FAMILIES.map((family) => readLegacy(family, signal)),
  ])
  const iptables = rest.slice(0, FAMILIES.length) as (SavedTables & Part)[]
  const legacy = rest.slice(FAMILIES.length) as Part[]
  const isReadByIptables = ({ family, table }: FilterChain): boolean =>
    FAMILIES.some(
      (each, i) =>
        family === NFT_FAMILY[each] && OF_IPTABLES.has(table) && iptables[i]?.tables.has(table) === true,
    )
  const missing = nft === undefined && iptables.some(({ tables }) => tables.size > 0)
  return {
    chains: [
      ...(nft?.chains.filter((chain) => !isReadByIptables(chain)) ?? []),
      ...iptables.flatMap(({ chains }) => chains),
      ...legacy.flatMap(({ chains }) => chains),
    ],
    unread: [
      ...(missing
        ? [
            {
              text:
                'rules of nftables that are not those of iptables: ' +
                'nft is not installed (package nftables)',
              denied: false,
            },
          ]
        : []),
      ...(nft?.unread ?? []),
      ...iptables.flatMap(({ unread }) => unread),
      ...legacy.flatMap(({ unread }) => unread),
    ],
  }
}

/** Messages of programs and the system for a user without the right. */
const DENIED = /not permitted|denied|must be root/i

function unreadFor(what: string, error: unknown): UnreadRules {
  const why = describeError(error)
  return { text: `${what}: ${why}`, denied: DENIED.test(why) }
}

/** @returns `undefined` if nft is not installed */
async function readNft(signal: AbortSignal): Promise<Part | undefined> {
  const nft = await findProgram('nft')
  if (nft === undefined) return undefined
  const run = (...words: readonly string[]): Promise<string> =>
    runProgram('nftables', { command: [nft, ...words], signal })
  try {
    const words = await run('-a', 'list', 'ruleset')
    const texts = readTexts(words)
    const tables = readTables(words)
    const read = (json: string): FilterChain[] => (json.trim() === '' ? [] : readNftRuleset(json, texts))
    if (!tables.some(({ flags }) => flags !== ''))
      return { chains: read(await run('-j', 'list', 'ruleset')), unread: [] }
    // nft before 1.0.7 truncates or garbles the JSON of a table with a flag, because it frees the flag too
    // early. Our device lock is such a table. So tables are read one by one.
    const parts: Part[] = []
    for (const table of tables) if (table.hasChains) parts.push(await readTable(table, run, read, signal))
    return {
      chains: parts.flatMap(({ chains }) => chains),
      unread: parts.flatMap(({ unread }) => unread),
    }
  } catch (error) {
    signal.throwIfAborted()
    return { chains: [], unread: [unreadFor('rules of nftables', error)] }
  }
}

async function readTable(
  { family, name, flags }: NftTable,
  run: (...words: readonly string[]) => Promise<string>,
  read: (json: string) => FilterChain[],
  signal: AbortSignal,
): Promise<Part> {
  // The rules of a dormant table are not evaluated.
  if (flags.includes('dormant')) return NOTHING
  try {
    return { chains: read(await run('-j', 'list', 'table', family, name)), unread: [] }
  } catch (error) {
    signal.throwIfAborted()
    return {
      chains: [],
      unread: [unreadFor(`rules of the nftables table ${family} ${name}`, error)],
    }
  }
}

/** First line of a table. For a table with an owner, nft prints the owner's program after the brace. */
const TABLE_LINE = /^table (\S+ \S+) \{/

/** A table as `nft list ruleset` shows it. */
export interface NftTable {
  readonly family: string
  readonly name: string
  /** Comma list such as `dormant,owner`; empty if there are none. */
  readonly flags: string
  readonly hasChains: boolean
}

/** Reads the tables of `nft list ruleset`. */
export function readTables(listing: string): NftTable[] {
  const tables: { -readonly [K in keyof NftTable]: NftTable[K] }[] = []
  for (const line of listing.split('\n')) {
    const [family, name] = TABLE_LINE.exec(line)?.[1]?.split(' ') ?? []
    if (family !== undefined && name !== undefined) tables.push({ family, name, flags: '', hasChains: false })
    const table = tables.at(-1)
    if (table === undefined) continue
    // Indented by one tab: only the table's own settings and objects.
    const [, flags] = /^\tflags ([\w, ]+)/.exec(line) ?? []
    if (flags !== undefined) table.flags = flags
    if (/^\tchain \S+ \{/.test(line)) table.hasChains = true
  }
  return tables
}

/** Reads the rules of `nft -a list ruleset`, by {@link ruleKey}. */
export function readTexts(listing: string): RuleTexts {
  const texts = new Map<string, string>()
  let table = ''
  let chain = ''
  for (const raw of listing.split('\n')) {
    const line = raw.trim()
    const at = line.lastIndexOf(' # handle ')
    const handle = at === -1 ? undefined : Number(line.slice(at + ' # handle '.length))
    const words = at === -1 ? line : line.slice(0, at)
    const [, place] = TABLE_LINE.exec(words) ?? []
    if (place !== undefined) table = place
    else if (words.startsWith('chain ') && words.endsWith(' {')) chain = words.slice('chain '.length, -2)
    else if (handle !== undefined && !words.endsWith(' {')) {
      const [family = '', name = ''] = table.split(' ')
      texts.set(ruleKey(family, name, chain, handle), words)
    }
  }
  return texts
}

const NO_TABLES: SavedTables & Part = { chains: [], unread: [], tables: new Set(), foreign: new Set() }

async function readIptablesNft(family: Family, signal: AbortSignal): Promise<SavedTables & Part> {
  const program =
    (await findProgram(`${NAMES[family]}-nft-save`)) ?? (await findProgram(`${NAMES[family]}-save`))
  if (program === undefined) return NO_TABLES
  try {
    const output = await runProgram('iptables', { command: [program], signal })
    const isNft = program.endsWith('-nft-save') || /^# Generated by .*\(nf_tables\)/m.test(output)
    if (!isNft) return NO_TABLES
    const saved = readSaved(output, family, 'iptables')
    return { ...saved, unread: [] }
  } catch (error) {
    signal.throwIfAborted()
    return { ...NO_TABLES, unread: [unreadFor(`rules of ${NAMES[family]}`, error)] }
  }
}

/** The kernel names the legacy tables that exist. Calling iptables-legacy first would create them. */
async function readLegacy(family: Family, signal: AbortSignal): Promise<Part> {
  const what = `rules of ${NAMES[family]}-legacy`
  const tables = await legacyTables(family)
  if (tables.kind === 'unknown') return { chains: [], unread: [unreadFor(what, tables.error)] }
  if (tables.names.length === 0) return NOTHING
  const program =
    (await findProgram(`${NAMES[family]}-legacy-save`)) ?? (await findProgram(`${NAMES[family]}-save`))
  const named = tables.names.join(', ')
  if (program === undefined)
    return {
      chains: [],
      unread: [
        { text: `${what} (tables ${named}): ${NAMES[family]}-legacy-save is not in PATH`, denied: false },
      ],
    }
  try {
    const output = await runProgram('iptables', { command: [program], signal })
    if (/^# Generated by .*\(nf_tables\)/m.test(output))
      return {
        chains: [],
        unread: [
          { text: `${what} (tables ${named}): ${NAMES[family]}-legacy-save is not in PATH`, denied: false },
        ],
      }
    return { chains: readSaved(output, family, 'iptables-legacy').chains, unread: [] }
  } catch (error) {
    signal.throwIfAborted()
    return { chains: [], unread: [unreadFor(what, error)] }
  }
}
