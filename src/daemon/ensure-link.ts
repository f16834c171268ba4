/** Makes our device what it should be. */

import type { Kernel } from '../kernel/kernel'
import { ignoreRouterAdvertisements } from '../kernel/sysctl'
import { describeOperation } from '../model/describe-operation'
import { OverlayError } from '../model/errors'
import type { LinkOperation, LinkSpec, ObservedLink } from '../model/kernel'
import { diffLink } from '../plan/diff'
import type { Logger } from './logger'

/**
 * Creates, corrects or adopts the device.
 * @returns the device as it is then, and how many changes it took
 * @throws {OverlayError} when the kernel refuses, or someone else's device has the name
 */
export async function ensureLink(
  kernel: Kernel,
  desired: LinkSpec,
  log: Logger,
  signal: AbortSignal,
): Promise<{ readonly link: ObservedLink; readonly operations: number }> {
  const observed = await kernel.link(desired.name, signal)
  const operations = diffLink(desired, observed)
  await applyLinkOperations(kernel, operations, log, signal)
  if (operations.some(({ kind }) => kind === 'create-link')) await ignoreRouterAdvertisements(desired.name)
  const link = operations.length === 0 ? observed : await kernel.link(desired.name, signal)
  if (link !== undefined) return { link, operations: operations.length }
  throw new OverlayError('device-vanished', `device ${desired.name} vanished while it was being set up`)
}

/** Applies changes of the device one after another; each is worth a line. */
export async function applyLinkOperations(
  kernel: Kernel,
  operations: readonly LinkOperation[],
  log: Logger,
  signal: AbortSignal,
): Promise<void> {
  for (const operation of operations) {
    log.info(`device: ${describeOperation(operation)}`)
    await kernel.applyLink(operation, signal)
  }
}
