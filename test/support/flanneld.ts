/** A real flanneld in the lab. The program is the operator's: `OVERLAYD_FLANNELD` names it, as `scripts/interop PATH` sets it. */
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import type { StartOptions } from './host'

/**
 * How a lab's host starts a flanneld.
 * @throws {Error} when nobody says where one is
 */
export function flanneld(flags: StartOptions['flags'] = {}): StartOptions {
  const path = process.env['OVERLAYD_FLANNELD'] ?? ''
  if (path === '' || !existsSync(path)) {
    throw new Error(`OVERLAYD_FLANNELD is ${JSON.stringify(path)}, not a flanneld: run scripts/interop PATH`)
  }
  return flanneldAt(path, flags)
}

/** The same with a program that is known to be there. The flags that only overlayd has are left out. */
export const flanneldAt = (path: string, flags: StartOptions['flags'] = {}): StartOptions => ({
  program: [resolve(path)],
  flags: { 'run-dir': undefined, 'state-dir': undefined, ...flags },
})
