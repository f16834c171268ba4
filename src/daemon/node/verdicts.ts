/** Logs which leases are rejected, once each, and which are no longer rejected. */
import type { Family } from '../../model/address'
import { subnetsOfKey } from '../../model/lease'
import { isUnproven } from '../../plan/trust/pins'
import type { Overlay } from '../overlay/overlay'
import type { Logger } from '../tell/logger'

/** Most log lines about rejected leases after one listing. `overlayctl status` lists all of them. */
const MOST_LINES = 20

export class Verdicts {
  /** Keys that were logged as rejected. */
  readonly #rejected: Readonly<Record<Family, Set<string>>> = { IPv4: new Set(), IPv6: new Set() }

  constructor(private readonly log: Logger) {}

  isRejected({ spec }: Overlay, key: string): boolean {
    return this.#rejected[spec.family].has(key)
  }

  forget({ spec }: Overlay, key: string): void {
    this.#rejected[spec.family].delete(key)
  }

  /** Logs the verdict on one lease after it was judged, if the verdict is news. */
  report({ spec: { family }, peers }: Overlay, key: string): void {
    const reason = peers.reasonAgainst(key)
    const about = subnetsOfKey(key)
    if (reason !== undefined) {
      this.#rejected[family].add(key)
      const kind = isUnproven(reason) ? 'peer-unproven' : 'peer-rejected'
      this.log.warn(`peer rejected: ${key}: ${reason}`, { kind, about })
    } else if (this.#rejected[family].delete(key) && peers.peer(key) !== undefined) {
      this.log.info(`peer accepted: ${key}: no longer rejected`, { kind: 'peer-accepted', about })
    }
  }

  /**
   * Logs new verdicts after all leases were judged again.
   * @param isKept whether a peer is held back: its lease is gone, so there is no verdict on it
   */
  review(overlays: readonly Overlay[], isKept: (key: string) => boolean): void {
    const news = overlays.flatMap((overlay) => {
      const logged = this.#rejected[overlay.spec.family]
      const rejected = [...overlay.peers.rejected()].filter(({ key }) => !logged.has(key) && !isKept(key))
      for (const key of logged) if (overlay.peers.reasonAgainst(key) === undefined) this.report(overlay, key)
      return rejected.map(({ key }) => ({ overlay, key }))
    })
    for (const { overlay, key } of news.slice(0, MOST_LINES)) this.report(overlay, key)
    for (const { overlay, key } of news.slice(MOST_LINES)) this.#rejected[overlay.spec.family].add(key)
    const more = news.length - MOST_LINES
    if (more > 0) this.log.warn(`peer rejected: ${more} more; overlayctl status lists them`)
  }
}
