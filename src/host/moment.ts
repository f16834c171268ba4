/** Reads the clocks. */
import { readFileSync } from 'node:fs'
import type { Moment } from '../model/moment'

/** Now, as this kernel has it. */
export function readMoment(): Moment {
  const [uptime = ''] = readFileSync('/proc/uptime', 'utf8').split(' ')
  return {
    bootId: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
    uptimeSeconds: Number(uptime),
    wallSeconds: Date.now() / 1000,
  }
}
