/**
 * A real flanneld in the lab. `scripts/interop PATH` passes the path of the program as `OVERLAYD_FLANNELD`.
 */
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import type { StartOptions } from './host'

/**
 * Options to start flanneld on a host of a lab.
 * @throws {Error} if `OVERLAYD_FLANNELD` does not name an existing file
 */
export function flanneld(flags: StartOptions['flags'] = {}): StartOptions {
  const path = process.env['OVERLAYD_FLANNELD'] ?? ''
  if (path === '' || !existsSync(path)) {
    throw new Error(`OVERLAYD_FLANNELD is ${JSON.stringify(path)}, not a flanneld: run scripts/interop PATH`)
  }
  return flanneldAt(path, flags)
}

/** As {@link flanneld}, with the path of the program. Flags that only overlayd has are omitted. */
export const flanneldAt = (path: string, flags: StartOptions['flags'] = {}): StartOptions => ({
  program: [resolve(path)],
  flags: { 'run-dir': undefined, 'state-dir': undefined, ...flags },
})
