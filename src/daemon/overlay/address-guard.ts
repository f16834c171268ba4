/** No peer may cover an address that this host has now, or needs: packets to it would go into the overlay. */
import { formatPrefix, type Prefix } from '../../model/address'
import type { PeerChange, ProtectedAddress } from '../../plan/peers/claim'
import type { PeerTable } from '../../plan/peers/peer-table'
import type { Logger } from '../tell/logger'

/** Tells the peer table of one family the addresses that the reconciler has read from the kernel. */
export class AddressGuard {
  /** As they were read last. */
  #links: readonly Prefix[] = []
  #onLinksChange = (): void => undefined
  #onPeersChange = (_changes: readonly PeerChange[]): void => undefined

  /** @param surroundings addresses that no peer's subnet may cover, besides this host's own */
  constructor(
    private readonly peers: PeerTable,
    private readonly surroundings: readonly ProtectedAddress[],
    private readonly log: Logger,
  ) {}

  /** Prefixes of all addresses on this host's links, without those of our own devices, as read last. */
  get links(): readonly Prefix[] {
    return this.#links
  }

  /** @param listener called when {@link links} are others */
  onLinksChange(listener: () => void): void {
    this.#onLinksChange = listener
  }

  /** @param listener called with peers that are others because of addresses that this host has now */
  onPeersChange(listener: (changes: readonly PeerChange[]) => void): void {
    this.#onPeersChange = listener
  }

  /**
   * Protects the addresses that this host has now, and those that it needs.
   * @param links prefixes of all addresses on this host's links, without those of our own devices
   * @returns the peers that are others by it
   */
  protect(links: readonly Prefix[]): readonly PeerChange[] {
    const own = links.map(({ address }) => ({ address, what: 'an address of this host' }))
    const changes = this.peers.protect([...this.surroundings, ...own], links)
    for (const { before, after } of changes) {
      const key = before?.key ?? after?.key ?? ''
      const reason = this.peers.reasonAgainst(key)
      const about = [before, after].flatMap((peer) => (peer === undefined ? [] : formatPrefix(peer.subnet)))
      if (reason !== undefined)
        this.log.warn(`peer rejected: ${key}: ${reason}`, { kind: 'peer-rejected', about })
    }
    this.#onPeersChange(changes)
    if (links.map(formatPrefix).join() !== this.#links.map(formatPrefix).join()) {
      this.#links = links
      this.#onLinksChange()
    }
    return changes
  }
}
