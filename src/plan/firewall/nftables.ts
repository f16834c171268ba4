/**
 * Computes the change from the present to the desired state of a table of nf_tables, as input for one `nft -f
 * -`, which applies all of it or nothing.
 */
import type { DesiredTable } from '../../model/firewall'

/**
 * The table belongs to us as a whole. So it is replaced whenever its listing differs, which also removes
 * foreign rules, chains and sets in it.
 * @param observed output of `nft list table`; `undefined` if there is no such table
 * @returns `undefined` if there is nothing to do
 */
export function diffTable({ name, text }: DesiredTable, observed: string | undefined): string | undefined {
  if (observed === text) return undefined
  // `add table` first, because `delete table` fails for a missing table.
  return [`add table ${name}`, `delete table ${name}`, text ?? ''].join('\n')
}

/** The words of a listing that say what its rules do. */
const ESSENCE = new RegExp(
  [
    ...[/chain \S+/, /hook \S+/, /[sd]addr/, /!=/, /[\da-f:.]+\/\d+/],
    ...[/return/, /masquerade/, /fully-random/, /mark set.*0x\w+/, /accept$/],
  ]
    .map(({ source }) => source)
    .join('|'),
  'gm',
)

/**
 * Whether two listings have the same chains, addresses and verdicts in the same order, regardless of
 * spelling. Versions of nft print masks differently, and comments that the kernel does not keep.
 */
export function sameRules(listing: string, other: string): boolean {
  const essence = (text: string): string[] =>
    (text.match(ESSENCE) ?? []).map((word) => word.replace(/^(mark set).*0x0*/, '$1 '))
  return essence(listing).join(' ') === essence(other).join(' ')
}
