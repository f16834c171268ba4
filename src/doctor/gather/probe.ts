/** Probes many peers at once: through the overlay, and past the overlay where that failed. */
import { type DatagramFate, knock, ping, sendNothing } from '../../host/ping'
import { reachOf } from '../../judge/checks/reach'
import type { PeerFact, ProbeFact } from '../../judge/facts'
import { deviceOf, type OverlayFacts, outerOverhead, peerKey, tunnelPorts } from '../../judge/overlay'

/** Each peer has at most two processes of ping, so there are at most 100 processes. */
const PEERS_AT_ONCE = 50
/**
 * Milliseconds after which no further peer is probed: the doctor answers within 10 s, however many peers are
 * silent.
 */
const BUDGET_MS = 7000
/**
 * Up to so many peers, each is pinged past the overlay too. Of more, only those are that do not answer
 * through the overlay: starting a process takes 3 ms.
 */
const BOTH_WAYS = 250
/** Requests for each probe. */
const PINGS = 3
/** Bytes. */
const SMALL = 64
/** Bytes of the smallest packet that is tried: each IPv4 host takes it (RFC 791). */
const LEAST = 576
/** Sizes that are tried at once. */
const SIZES_AT_ONCE = 16
/** The most peers whose largest size is searched: the other peers of the network have the same. */
const MEASURED = 4
/** The MTU that is assumed where there is no device. */
const USUAL_MTU = 1450
/** flannel's UDP port, and the kernel's (drivers/net/vxlan). */
const DEFAULT_PORT = 8472
/** A port on which no program listens (discard, RFC 863): a live host refuses the connection. */
const CLOSED_PORT = 9

/**
 * Probes peers, and leaves out those for which there is no time.
 * @throws {OverlayError} `program-missing`
 */
export async function probePeers(facts: OverlayFacts, peers: readonly PeerFact[]): Promise<ProbeFact[]> {
  const ends = performance.now() + BUDGET_MS
  const waiting = [...peers]
  const found: ProbeFact[] = []
  const portOf = tunnelPorts(facts)
  const probeNext = async (): Promise<void> => {
    for (let peer = waiting.shift(); peer !== undefined; peer = waiting.shift()) {
      if (performance.now() > ends) return
      found.push(await probeOne(facts, peer, peers.length <= BOTH_WAYS, portOf(peer)))
    }
  }
  await Promise.all(Array.from({ length: PEERS_AT_ONCE }, probeNext))
  return measure(facts, peers, found)
}

async function probeOne(
  facts: OverlayFacts,
  peer: PeerFact,
  bothWays: boolean,
  tunnelPort: number | undefined,
): Promise<ProbeFact> {
  const device = deviceOf(facts, peer.family)?.link
  const mtu = device?.mtu ?? USUAL_MTU
  const inside = (size: number) => ping({ address: peer.subnet.address, size, count: PINGS })
  const outside = (size: number) => ping({ address: peer.publicIp, size, count: PINGS })
  const [overlayFull, past] = await Promise.all([inside(mtu), bothWays ? outside(SMALL) : undefined])
  const first = { peer: peerKey(peer), overlayFull, ...(past !== undefined && { underlaySmall: past }) }
  if (overlayFull.received === overlayFull.sent) return first
  const [overlaySmall, underlaySmall, underlayFull, udp] = await Promise.all([
    inside(SMALL),
    past ?? outside(SMALL),
    outside(mtu + outerOverhead(facts, peer.family)),
    overlayFull.received > 0 ? undefined : probePort(peer, tunnelPort ?? device?.vxlan?.port),
  ])
  const [overlayTcp, underlayTcp] = await Promise.all([
    overlayFull.received + overlaySmall.received > 0 ? undefined : knock(peer.subnet.address, CLOSED_PORT),
    underlaySmall.received > 0 ? undefined : knock(peer.publicIp, CLOSED_PORT),
  ])
  return {
    ...first,
    overlaySmall,
    underlaySmall,
    underlayFull,
    ...(udp !== undefined && { udp }),
    ...(overlayTcp !== undefined && { overlayTcp }),
    ...(underlayTcp !== undefined && { underlayTcp }),
  }
}

const probePort = ({ publicIp }: PeerFact, port = DEFAULT_PORT): Promise<DatagramFate> =>
  sendNothing(publicIp, port)

/** Searches the size that fits, for some of the peers whose large packets are lost. */
async function measure(
  facts: OverlayFacts,
  peers: readonly PeerFact[],
  probes: readonly ProbeFact[],
): Promise<ProbeFact[]> {
  const holes = probes.filter((probe) => reachOf(probe) === 'mtu' && probe.underlayFull?.received === 0)
  const measured = new Map(
    await Promise.all(
      holes.slice(0, MEASURED).map(async (probe) => {
        const peer = peers.find((each) => peerKey(each) === probe.peer)
        const mtu = peer && (deviceOf(facts, peer.family)?.link.mtu ?? 0) + outerOverhead(facts, peer.family)
        const size = peer && mtu ? await largestThatFits(peer, mtu) : undefined
        return [probe.peer, size] as const
      }),
    ),
  )
  return probes.map((probe) => {
    const pathMtu = measured.get(probe.peer)
    return pathMtu === undefined ? probe : { ...probe, pathMtu }
  })
}

/** Searches between a size that fits and one that does not, many sizes at a time. */
async function largestThatFits({ publicIp }: PeerFact, tooLarge: number): Promise<number | undefined> {
  let [fits, fails] = [LEAST - 1, tooLarge]
  while (fails - fits > 1) {
    const step = Math.max(1, Math.ceil((fails - fits) / SIZES_AT_ONCE))
    const sizes: number[] = []
    for (let size = fits + step; size < fails; size += step) sizes.push(size)
    const passed = await Promise.all(
      sizes.map(async (size) => (await ping({ address: publicIp, size, count: 2 })).received > 0),
    )
    const best = sizes.filter((_, i) => passed[i]).at(-1) ?? fits
    ;[fits, fails] = [best, sizes.find((size) => size > best) ?? fails]
  }
  return fits < LEAST ? undefined : fits
}
