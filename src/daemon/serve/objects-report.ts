/** Compares the objects in the kernel with those that the daemon wants. */

import type { ObjectsDocument } from '../../api/documents'
import { DOCUMENT_SCHEMA } from '../../api/words'
import type { KernelReader } from '../../kernel/kernel'
import { readOverlay } from '../../kernel/read-overlay'
import type { Prefix } from '../../model/address'
import { ownSubnets } from '../../plan/host/own-subnets'
import { type ComparedObject, compareOverlay } from '../../plan/reconcile/compare'
import type { Overlay } from '../overlay/overlay'

/**
 * Reads the kernel anew, for the daemon's memory may lag behind it.
 * @param overlays none while the daemon waits for its start
 * @param further the further subnets of this host
 */
export async function reportObjects(
  kernel: KernelReader,
  overlays: readonly Overlay[],
  further: readonly Prefix[],
): Promise<ObjectsDocument> {
  const objects: ComparedObject[] = []
  for (const { spec, reconciler } of overlays) {
    const { family, link, range, subnet, allowed } = spec
    const observed = await readOverlay(kernel, family, link.name, range.network, allowed)
    const desired = reconciler.desiredObjects(observed.objects)
    const place = { name: link.name, network: range.network, subnets: ownSubnets([subnet], further) }
    objects.push(...compareOverlay(desired, { ...observed, ...place }))
  }
  return { schema: DOCUMENT_SCHEMA, objects }
}
