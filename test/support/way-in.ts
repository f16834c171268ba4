/** What tests of several parts have to know of the daemon's looks at firewall rules. */

/** Milliseconds. The daemon reads the rules of others again after 50 times the duration of a reading. */
export const LOOKED_AT = 120_000
