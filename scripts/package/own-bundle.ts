/** A bundle for this machine and the node that runs this file. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type Addons, writeBundle } from './bundle'
import { run } from './run'
import { findAddons, TARGETS } from './targets'

/**
 * Makes a bundle of the programs, with V8's cache.
 * @param directory removed first
 */
export async function makeBundle(directory: string, version: string): Promise<void> {
  const addons = await ownAddons()
  await rm(directory, { recursive: true, force: true })
  await writeBundle(directory, addons, version)
  await makeCache(directory)
}

/** @throws where there is no bundle for this machine's processor */
export async function ownAddons(): Promise<Addons> {
  const target = TARGETS.find(({ node }) => node === process.arch)
  if (target === undefined) throw new Error(`there is no bundle for ${process.arch}`)
  return findAddons(target)
}

/** Writes V8's cache into a bundle. The cache is for one processor and one node: those of this process. */
export const makeCache = (directory: string): Promise<string> =>
  run([process.execPath, join(directory, 'make-cache.js')])
