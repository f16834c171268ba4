/** Tables of iptables-legacy. The kernel names them to root. */
import { readFile } from 'node:fs/promises'
import type { Family } from '../model/address'
import { systemErrorCode } from '../model/errors'

const FILES: Readonly<Record<Family, string>> = {
  IPv4: '/proc/net/ip_tables_names',
  IPv6: '/proc/net/ip6_tables_names',
}

/** The names of the tables that exist; calling iptables-legacy would make them. */
export type LegacyTables =
  | { readonly kind: 'named'; readonly names: readonly string[] }
  | { readonly kind: 'unknown'; readonly error: unknown }

export async function legacyTables(family: Family): Promise<LegacyTables> {
  try {
    const text = (await readFile(FILES[family], 'latin1')).trim()
    return { kind: 'named', names: text === '' ? [] : text.split('\n') }
  } catch (error) {
    // The kernel has no legacy tables of that family, or none of its modules is loaded.
    return systemErrorCode(error) === 'ENOENT' ? { kind: 'named', names: [] } : { kind: 'unknown', error }
  }
}

/** Whether a program of the legacy variant has anything to list. It reads the same file. */
export async function hasLegacyTables(family: Family): Promise<boolean> {
  const tables = await legacyTables(family)
  return tables.kind === 'named' && tables.names.length > 0
}
