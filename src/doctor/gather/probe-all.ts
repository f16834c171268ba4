/**
 * One round of probes: of all peers from this host, then of some from a container. The kernel's losses are
 * counted.
 */
import { countDuring } from '../../host/counters'
import { reachOf } from '../../judge/checks/reach'
import type { PeerFact, ProbingFact } from '../../judge/facts'
import { type OverlayFacts, peerKey, peersOf } from '../../judge/overlay'
import { attemptAsUser } from './attempt'
import { probeFromContainer } from './container-probe'
import { probePeers } from './probe'

/** @param isProbed whether a peer is to be probed */
export async function probeAll(
  facts: OverlayFacts,
  isProbed: (peer: PeerFact) => boolean,
): Promise<ProbingFact> {
  const peers = peersOf(facts).filter(isProbed)
  const names = facts.kernel.value?.links.map(({ name }) => name) ?? []
  const { result, counted } = await countDuring(names, async () => {
    const probes = await attemptAsUser('probes', () => probePeers(facts, peers))
    // Not before: lost packets cause ICMP errors, of which the kernel sends only a few in a second.
    const answering = new Set(
      probes.value?.filter((probe) => reachOf(probe) === 'ok').map(({ peer }) => peer),
    )
    const some = peers.filter((peer) => answering.has(peerKey(peer)))
    const containers = await attemptAsUser('containers', () => probeFromContainer(facts, some))
    return { probes, containers }
  })
  return { ...result, counted }
}
