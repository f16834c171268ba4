/** The nftables table that lets no VXLAN packet of the network pass in clear. */
export interface Guard {
  /** Name of the table. */
  readonly name: string
  /** Names of our WireGuard devices. */
  readonly links: readonly string[]
  /** UDP port of VXLAN. */
  readonly port: number
  readonly vnis: readonly number[]
}

/** Packets. */
export interface GuardCounts {
  readonly droppedIn: bigint
  readonly droppedOut: bigint
}
