/**
 * A point in time by two clocks: the uptime, which only a reboot resets, and the wall clock, which anyone may
 * set.
 */
export interface Moment {
  /** Id of the running kernel's boot (/proc/sys/kernel/random/boot_id). */
  readonly bootId: string
  /** Seconds since boot, including suspend (CLOCK_BOOTTIME). */
  readonly uptimeSeconds: number
  /** Seconds since the epoch. */
  readonly wallSeconds: number
}

/** When a renewal of an etcd lease was requested, and for how many seconds from then etcd keeps the lease. */
export interface Renewal {
  readonly at: Moment
  readonly ttlSeconds: number
}
