/** Reads the clocks. */
import { readFileSync } from 'node:fs'
import type { Moment } from '../model/moment'

/** The current boot id, uptime and wall clock time. */
export function readMoment(): Moment {
  const [uptime = ''] = readFileSync('/proc/uptime', 'utf8').split(' ')
  return {
    bootId: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
    uptimeSeconds: Number(uptime),
    wallSeconds: Date.now() / 1000,
  }
}
