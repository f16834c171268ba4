/** Makes our device what it should be. */

import type { Kernel } from '../kernel/kernel'
import { ignoreRouterAdvertisements } from '../kernel/sysctl'
import { describeObject, describeOperation } from '../model/describe-operation'
import { OverlayError } from '../model/errors'
import type { LinkOperation, LinkSpec, ObservedLink } from '../model/kernel'
import { diffLink } from '../plan/diff'
import type { Logger } from './logger'

/** What is known of the device from before. */
export interface LinkHistory {
  /** Its index; another program may have renamed it. */
  readonly index?: number | undefined
  /** Whether it may be changed now. */
  readonly mayChange?: (operations: readonly LinkOperation[]) => boolean
}

/**
 * Creates, corrects or adopts the device.
 * @returns the device as it is then, and what was done to it
 * @throws {OverlayError} when the kernel refuses, or someone else's device has the name; `contested` when there is none and it may not be made now
 */
export async function ensureLink(
  kernel: Kernel,
  desired: LinkSpec,
  log: Logger,
  signal: AbortSignal,
  { index, mayChange = () => true }: LinkHistory = {},
): Promise<{ readonly link: ObservedLink; readonly operations: readonly LinkOperation[] }> {
  const { name } = desired
  let observed = await kernel.link(name, signal)
  const renamed = observed === undefined ? await findRenamed(kernel, desired, index, signal) : undefined
  const back: LinkOperation[] =
    renamed === undefined ? [] : [{ kind: 'rename-link', index: renamed.index, name }]
  if (back.length > 0 && mayChange(back)) {
    await applyLinkOperations(kernel, back, log, signal)
    observed = await kernel.link(name, signal)
  }
  const corrections = diffLink(desired, observed)
  const operations = [...back, ...corrections]
  if (operations.length > 0 && !mayChange(operations)) {
    if (observed !== undefined) return { link: observed, operations: [] }
    throw new OverlayError(
      'contested',
      `device ${name} is deleted or renamed by another program again and again`,
      'find it with `ip monitor link` and stop it',
    )
  }
  await applyLinkOperations(kernel, corrections, log, signal)
  await ignoreRouterAdvertisements(name)
  const link = operations.length === 0 ? observed : await kernel.link(name, signal)
  if (link !== undefined) return { link, operations }
  throw new OverlayError('device-vanished', `device ${name} vanished while it was being set up`)
}

/** Our device under another name. */
async function findRenamed(
  kernel: Kernel,
  { vni }: LinkSpec,
  index: number | undefined,
  signal: AbortSignal,
): Promise<ObservedLink | undefined> {
  if (index === undefined) return undefined
  const links = await kernel.links(signal)
  return links.find((link) => link.index === index && link.vxlan?.vni === vni)
}

/** Applies changes of the device one after another; each is worth a line. */
export async function applyLinkOperations(
  kernel: Kernel,
  operations: readonly LinkOperation[],
  log: Logger,
  signal: AbortSignal,
): Promise<void> {
  for (const operation of operations) {
    log.info(`device: ${describeOperation(operation)}`, {
      kind: 'device-change',
      about: [describeObject(operation)],
    })
    await kernel.applyLink(operation, signal)
  }
}
