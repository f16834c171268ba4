/** What this host has against claims to prefixes, whatever others claim. */
import { type Family, familyOf, networkOf, type Prefix } from '../../model/address'
import type { PrefixClaim } from '../../model/prefixes'
import type { BlockBasis } from '../../plan/prefixes/block'
import { objectionAgainst, type Rules, rulesFrom } from '../../plan/prefixes/rules'
import type { Overlay } from '../overlay/overlay'
import { type AnnouncedView, hostNameOf, leaseKeyOf, overlayOf } from './announced-view'

interface OverlayRules {
  readonly overlay: Overlay
  /** What the rules follow from, each of which is another one after a change. */
  readonly basis: readonly unknown[]
  /** For this host's own announcements. */
  readonly own: Rules
  /** For those of others: this host does not give its own addresses away. */
  readonly others: Rules
}

export class ClaimRules {
  /** As of the last {@link prepare}. */
  readonly #rules = new Map<Family, OverlayRules>()

  constructor(private readonly view: AnnouncedView) {}

  /**
   * Reads peers, network config and addresses of this host, for {@link objection}. Where none of them has
   * changed, that takes as long with any number of peers.
   */
  prepare(): void {
    for (const overlay of this.view.overlays) this.#rulesOf(overlay)
  }

  /**
   * Why a claim is not followed, by what was there when {@link prepare} was called last.
   * @param now in milliseconds since 1970
   */
  objection(claim: PrefixClaim, now: number): string | undefined {
    const { prefix, until } = claim.announcement
    const family = familyOf(prefix.address)
    const found = this.#rules.get(family)
    if (found === undefined) return `the network has no ${family}`
    if (until !== undefined && until <= now) return 'its time is over'
    if (claim.host === hostNameOf(this.view.own.key)) return objectionAgainst(prefix, found.own)
    const { peers } = found.overlay
    if (peers.peer(leaseKeyOf(this.view, claim.host)) === undefined)
      return 'its host has no lease that is followed'
    return objectionAgainst(prefix, found.others)
  }

  /** Why this host may not announce a prefix; `undefined` if it may. */
  objectionToOwn(prefix: Prefix): string | undefined {
    const family = familyOf(prefix.address)
    const overlay = overlayOf(this.view, family)
    if (overlay === undefined) return `the network has no ${family}`
    return objectionAgainst(prefix, this.#rulesOf(overlay).own)
  }

  /**
   * What a further subnet of this host is chosen by; `undefined` where the network lacks the family.
   * @param claimed what hosts announce
   */
  blockBasis(family: Family, claimed: Iterable<PrefixClaim>): BlockBasis | undefined {
    const overlay = overlayOf(this.view, family)
    if (overlay === undefined) return undefined
    const { allowed, range } = overlay.spec
    const links = overlay.addresses.links.map(({ address, length }) => networkOf(address, length))
    const prefixes = Array.from(claimed, ({ announcement }) => announcement.prefix)
    const occupied = this.#rulesOf(overlay).own.occupied.map(({ prefix }) => prefix)
    return {
      network: range.network,
      subnetLength: range.subnetLength,
      allowed,
      taken: [...links, ...prefixes, ...occupied].filter(({ address }) => familyOf(address) === family),
    }
  }

  #rulesOf(overlay: Overlay): OverlayRules {
    const { spec, peers, addresses } = overlay
    const { family, allowed, subnet, link } = spec
    const { surroundings } = this.view
    const { links } = addresses
    const basis = [spec, peers.generation, links]
    const known = this.#rules.get(family)
    if (known?.basis.every((each, place) => each === basis[place])) return known
    const from = { family, allowed, subnet, underlay: link.local, links, surroundings, peers: peers.peers() }
    const rules = { overlay, basis, ...rulesFrom(from) }
    this.#rules.set(family, rules)
    return rules
  }
}
