/** What probing has found, in words. */
import { count } from '../../model/count'
import type { Layer } from './peer-probe'
import type { MeshVerdict } from './verdict'

/** Why a peer is unreachable, for a sentence that begins with the peer. */
export const UNREACHABLE_WORDS: Readonly<Record<Layer, string>> = {
  overlay: 'does not answer through the overlay, and its PublicIP answers',
  underlay: 'answers neither through the overlay nor at its PublicIP',
}

/** What is wrong with the mesh as this host sees it, and what to do; `undefined` for nothing. */
export function describeVerdict(
  verdict: MeshVerdict,
): { readonly text: string; readonly fix: string } | undefined {
  switch (verdict.kind) {
    case 'fine':
      return undefined
    case 'overlay':
      return {
        text:
          `no answer through the overlay from ${count(verdict.peers.length, 'watched peer')}, ` +
          'and an answer at the PublicIP',
        fix: 'see which: overlayctl peers; why: overlayctl doctor',
      }
    case 'most':
      return {
        text: `no answer from ${verdict.unreachable} of ${count(verdict.watched, 'watched peer')}`,
        fix: 'see which: overlayctl peers; why: overlayctl doctor',
      }
    case 'cut-off':
      return {
        text: 'no peer answers this host through the overlay',
        fix: 'check the firewall and the underlay of this host: overlayctl doctor',
      }
    default:
      return verdict satisfies never
  }
}
