/** Reads the clocks. */
import { readFileSync } from 'node:fs'
import type { Moment } from '../model/moment'

/** Seconds since boot. */
export const readUptime = (): number => Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0])

/** The current boot id, uptime and wall clock time. */
export function readMoment(): Moment {
  return {
    bootId: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
    uptimeSeconds: readUptime(),
    wallSeconds: Date.now() / 1000,
  }
}
