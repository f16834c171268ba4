/** Creates, corrects or adopts our device. */
import type { Kernel } from '../../kernel/kernel'
import { ignoreRouterAdvertisements, keepIpv6 } from '../../kernel/sysctl'
import { familyOf } from '../../model/address'
import { OverlayError } from '../../model/errors'
import type { LinkOperation, LinkSpec, ObservedLink } from '../../model/kernel/link'
import { type Setting, subjectOf } from '../../model/kernel/subject'
import { describeOperation, describeSubject } from '../../model/kernel/words'
import { diffLink } from '../../plan/reconcile/diff-link'
import type { Logger } from '../tell/logger'

/** The device before this call, and limits of its repair. */
export interface LinkHistory {
  /** Its index: another program may have renamed it. */
  readonly index?: number | undefined
  /** Whether these changes may be applied now. Default: always. */
  readonly mayChange?: (operations: readonly LinkOperation[]) => boolean
  /** Whether a setting may be restored now, and a function that is called after it was restored. */
  readonly mayKeep?: (setting: Setting) => boolean
  readonly kept?: (setting: Setting) => void
}

/**
 * Creates, corrects or adopts the device.
 * @returns the device as it is then, and the changes that were applied
 * @throws {OverlayError} if the kernel refuses, or somebody else's device has the name; `contested` if there
 * is no device and it may not be made now
 */
export async function ensureLink(
  kernel: Kernel,
  desired: LinkSpec,
  log: Logger,
  signal: AbortSignal,
  { index, mayChange = () => true, mayKeep = () => true, kept = () => undefined }: LinkHistory = {},
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
  // Before the addresses are compared: with IPv6 off, the kernel removes them.
  if (familyOf(desired.local) === 'IPv6' && mayKeep(`IPv6 of ${name}`) && (await keepIpv6(name))) {
    log.warn(`settings: disable_ipv6 of ${name} was set, and is cleared`, {
      kind: 'forwarding-repair',
      about: [name],
    })
    kept(`IPv6 of ${name}`)
  }
  const link = operations.length === 0 ? observed : await kernel.link(name, signal)
  if (link !== undefined) return { link, operations }
  throw new OverlayError('device-vanished', `device ${name} vanished while it was being set up`)
}

/**
 * Finds our device under another name: by its index, or, after a start, by its MAC, which no other device
 * has.
 */
async function findRenamed(
  kernel: Kernel,
  { vni, mac }: LinkSpec,
  index: number | undefined,
  signal: AbortSignal,
): Promise<ObservedLink | undefined> {
  const ofVni = (await kernel.links(signal)).filter((link) => link.vxlan?.vni === vni)
  return ofVni.find((link) => link.index === index) ?? ofVni.find((link) => link.mac === mac)
}

/** Applies changes of the device one after another, with a log line for each. */
export async function applyLinkOperations(
  kernel: Kernel,
  operations: readonly LinkOperation[],
  log: Logger,
  signal: AbortSignal,
): Promise<void> {
  for (const operation of operations) {
    log.info(`device: ${describeOperation(operation)}`, {
      kind: 'device-change',
      about: [describeSubject(subjectOf(operation))],
    })
    await kernel.applyLink(operation, signal)
  }
}
