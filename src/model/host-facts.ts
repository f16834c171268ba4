/** What tells this machine from a copy of it. Each is text, and absent where the host does not say. */
export interface HostFacts {
  /** A digest of /etc/machine-id: of the installation, so that copies which were not prepared share it. */
  readonly machine?: string | undefined
  /** Of the underlay interface, unless the kernel makes up another at each boot. */
  readonly linkMac?: string | undefined
  readonly ipv4?: FactsAddress | undefined
  readonly ipv6?: FactsAddress | undefined
}

/** An underlay address, and as what it is announced. */
export interface FactsAddress {
  readonly local: string
  readonly public: string
}
