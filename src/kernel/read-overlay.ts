/** Reads all that the kernel has of one family of an overlay, for a comparison with the desired objects. */
import type { Family, Prefix } from '../model/address'
import type { ObservedLink } from '../model/kernel/link'
import { emptyObjects, type ObservedObjects } from '../model/kernel/objects'
import type { UnderlayRoute } from '../model/kernel/route'
import type { KernelReader } from './kernel'

export interface ObservedOverlay {
  /** All links of this host. */
  readonly links: readonly ObservedLink[]
  /** The device; `undefined` where no link has its name. */
  readonly link: ObservedLink | undefined
  /** All routes of other programs in the main table. */
  readonly routes: readonly UnderlayRoute[]
  readonly objects: ObservedObjects
}

/**
 * @param name of the device
 * @param network of the family; `undefined` where it is not known: then only the objects on the device are
 * read
 * @param allowed ranges outside of the network in which hosts may announce prefixes
 */
export async function readOverlay(
  kernel: KernelReader,
  family: Family,
  name: string,
  network: Prefix | undefined,
  allowed: readonly Prefix[] = [],
): Promise<ObservedOverlay> {
  const links = await kernel.links()
  const link = links.find((each) => each.name === name)
  const routes = await kernel.underlayRoutes(family)
  const objects =
    link === undefined
      ? { ...emptyObjects(), takenNexthops: new Set<number>() }
      : await kernel.observe(family, link.index, {
          network,
          allowed,
          routes: true,
          proxies: true,
          links: [],
        })
  return { links, link, routes, objects }
}
