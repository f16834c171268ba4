/** A point in time by two clocks: one that only a reboot disturbs, and the wall's, which anyone may set. */
export interface Moment {
  /** Of the running kernel (/proc/sys/kernel/random/boot_id). */
  readonly bootId: string
  /** Seconds since boot, time asleep included (CLOCK_BOOTTIME). */
  readonly uptimeSeconds: number
  /** Seconds since the epoch. */
  readonly wallSeconds: number
}

/** When an etcd lease was asked to live on, and for how many seconds from then etcd lets it. */
export interface Renewal {
  readonly at: Moment
  readonly ttlSeconds: number
}
