/** What brings a table of nf_tables from what it is to what it shall be: input of one `nft -f -`, which applies all of it or nothing. */
import type { DesiredTable } from '../model/firewall'

/**
 * The table is ours altogether, so it is replaced whenever it is listed in other words: then a rule, chain or set that is not ours is gone too.
 * @param observed what `nft list table` prints; `undefined` when there is no such table
 * @returns `undefined` when there is nothing to do
 */
export function diffTable({ name, text }: DesiredTable, observed: string | undefined): string | undefined {
  if (observed === text) return undefined
  // Made first, since removing one that is not there fails.
  return [`add table ${name}`, `delete table ${name}`, text ?? ''].join('\n')
}

/**
 * Whether two listings have the same chains, addresses and verdicts in the same order, in whatever words. Versions of nft differ in how they print a
 * mask, or a comment that the kernel does not keep.
 */
export function sayTheSame(listing: string, other: string): boolean {
  const essence = (text: string): string[] =>
    text.match(/chain \S+|hook \S+|[sd]addr|!=|[\da-f:.]+\/\d+|return|masquerade|fully-random|accept$/gm) ??
    []
  return essence(listing).join(' ') === essence(other).join(' ')
}
