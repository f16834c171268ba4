/**
 * Facts that distinguish this machine from a copy of it. Each is text, and absent if the host does not
 * provide it.
 */
export interface HostFacts {
  /** Hash of /etc/machine-id. It identifies the installation: copies of an unprepared image share it. */
  readonly machine?: string | undefined
  /** MAC of the underlay interface, unless the kernel generates another one at each boot. */
  readonly linkMac?: string | undefined
  readonly ipv4?: FactsAddress | undefined
  readonly ipv6?: FactsAddress | undefined
}

/** An underlay address, and the address announced for it. */
export interface FactsAddress {
  readonly local: string
  readonly public: string
}
