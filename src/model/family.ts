/** Values that exist once for IPv4 and once for IPv6. */
import type { Family } from './address'

/** Fields of lease, config, underlay and subnet.env that belong to one family. */
export interface PerFamily<T> {
  readonly ipv4?: T
  readonly ipv6?: T
}

export const FAMILY_FIELDS = { IPv4: 'ipv4', IPv6: 'ipv6' } as const satisfies Record<
  Family,
  keyof PerFamily<0>
>

/** The names of the families in nft: of a table, and of the header in a rule. */
export const NFT_FAMILY = { IPv4: 'ip', IPv6: 'ip6' } as const satisfies Record<Family, string>

export const ofFamily = <A, B = A>(
  values: { readonly ipv4?: A; readonly ipv6?: B },
  family: Family,
): A | B | undefined => values[FAMILY_FIELDS[family]]
