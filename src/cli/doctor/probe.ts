/** Probes all peers at once, within bounds: through the overlay, and past it where that failed. */
import { type DatagramFate, ping, sendNothing } from '../../host/ping'
import { VXLAN_OVERHEAD } from '../../model/kernel'
import type { Facts, PeerFact, ProbeFact } from '../../plan/doctor/facts'
import { deviceOf, peerKey } from '../../plan/doctor/overlay'
import { reachOf } from '../../plan/doctor/reach'

/** Each has two processes of ping under way at most, so there are 100 of them. */
const PEERS_AT_ONCE = 50
/** Milliseconds after which no further peer is begun: the doctor is to answer within 10 s, whatever the number of peers that are silent. */
const BUDGET_MS = 7000
/** Up to so many peers all are pinged past the overlay too; of more, only those that do not answer through it: starting a process takes 3 ms. */
const BOTH_WAYS = 250
/** Requests to a probe. */
const PINGS = 3
/** Bytes. */
const SMALL = 64
/** The smallest packet that is tried for the size that fits, and that each IPv4 host takes (RFC 791); and sizes tried at once. */
const LEAST = 576
const SIZES_AT_ONCE = 16
/** Peers whose largest size is looked for; the others of one network have the same. */
const MEASURED = 4
/** Of a device that is not there. */
const USUAL_MTU = 1450
const DEFAULT_PORT = 8472

/**
 * Probes peers, and leaves out those that there is no time for.
 * @throws {OverlayError} `program-missing`
 */
export async function probePeers(facts: Facts, peers: readonly PeerFact[]): Promise<ProbeFact[]> {
  const ends = performance.now() + BUDGET_MS
  const waiting = [...peers]
  const found: ProbeFact[] = []
  const probeNext = async (): Promise<void> => {
    for (let peer = waiting.shift(); peer !== undefined; peer = waiting.shift()) {
      if (performance.now() > ends) return
      found.push(await probeOne(facts, peer, peers.length <= BOTH_WAYS))
    }
  }
  await Promise.all(Array.from({ length: PEERS_AT_ONCE }, probeNext))
  return measure(facts, peers, found)
}

async function probeOne(facts: Facts, peer: PeerFact, bothWays: boolean): Promise<ProbeFact> {
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
    outside(mtu + VXLAN_OVERHEAD[peer.family]),
    overlayFull.received > 0 ? undefined : probePort(peer, device?.vxlan?.port),
  ])
  return { ...first, overlaySmall, underlaySmall, underlayFull, ...(udp !== undefined && { udp }) }
}

const probePort = ({ publicIp }: PeerFact, port = DEFAULT_PORT): Promise<DatagramFate> =>
  sendNothing(publicIp, port)

/** Finds the size that fits, for some of those whose large packets are lost. */
async function measure(
  facts: Facts,
  peers: readonly PeerFact[],
  probes: readonly ProbeFact[],
): Promise<ProbeFact[]> {
  const holes = probes.filter((probe) => reachOf(probe) === 'mtu' && probe.underlayFull?.received === 0)
  const measured = new Map(
    await Promise.all(
      holes.slice(0, MEASURED).map(async (probe) => {
        const peer = peers.find((each) => peerKey(each) === probe.peer)
        const mtu = peer && (deviceOf(facts, peer.family)?.link.mtu ?? 0) + VXLAN_OVERHEAD[peer.family]
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

/** Narrows down between a size that fits and one that does not, many steps at a time. */
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
