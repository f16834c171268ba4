/** The peers of one family, to read: whoever has this view changes no peer. */
import type { Peer } from '../../model/lease'
import type { PeerLookup } from '../objects/kind'

export interface PeerView extends PeerLookup {
  readonly size: number
  peers(): Iterable<Peer>
}
