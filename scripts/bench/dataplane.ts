/** The cases of the data plane: throughput and round trips between containers of two hosts. */
import type { Case, Sample } from './case'
import {
  addDirect,
  addHandMade,
  addRouted,
  offloadNothing,
  onPair,
  overlay,
  type Pair,
  type Path,
  underlay,
} from './dataplane-lab'
import {
  type Load,
  type Measure,
  request,
  roundTrip,
  shuffled,
  tcp,
  tcp8,
  udp,
  withServers,
} from './dataplane-load'
import { type Pairing, ratiosOf, waysMetrics } from './ways'

/** A way, by the head of its column. */
type Way = (typeof WAYS)[number]

const WAYS = ['underlay', 'routed', 'by hand', 'overlay', 'direct'] as const
const PAIRINGS: readonly Pairing[] = [
  ['overlay', 'routed'],
  ['overlay', 'by hand'],
]

const LOADS = [tcp, tcp8, udp(64), udp(1400), roundTrip, request]
const PLAIN_LOADS = [tcp, tcp8]

/** With 0 peers the result would be the same as with a few. */
const few = (peers: number) => peers === 0

export const dataplane: Case = {
  name: 'dataplane',
  about:
    'Loads between containers of two hosts: each load on all ways in turn, in another order each time. ' +
    'Underlay: from host to host, without containers and with packets 50 bytes longer. Routed: the same ' +
    'containers and bridges, by plain routes over the underlay. By hand: through a VXLAN device with the ' +
    'parameters and routes of flannel, made by ip and bridge. Overlay: as the daemon programs it; direct: ' +
    'the same with DirectRouting. The last columns are ratios by round: how many times worse the overlay ' +
    'is; below 1 it is better. CPU is that of the programs that make the load: the kernel does nearly all ' +
    'its work here in their system calls. The underlay is a veth, which takes 64 kB at once, like a card ' +
    'that segments VXLAN.',
  skips: few,
  metrics: waysMetrics(measuresOf(LOADS), WAYS, PAIRINGS),
  measure: (stage) => onPair(stage, (pair) => measureWays(pair, LOADS)),
}

export const plainNic: Case = {
  name: 'dataplane-plain-nic',
  about:
    'The same with cards that offload nothing (ethtool -K eth0 tx off gso off gro on): the kernel ' +
    'segments, checksums and merges packet by packet, as it does for a card that does not know VXLAN.',
  skips: few,
  metrics: waysMetrics(measuresOf(PLAIN_LOADS), WAYS, PAIRINGS),
  measure: (stage) =>
    onPair(stage, async (pair) => {
      await offloadNothing(pair)
      return measureWays(pair, PLAIN_LOADS)
    }),
}

async function measureWays(pair: Pair, loads: readonly Load[]): Promise<Sample> {
  const { effort, quiet, subject } = pair.stage
  const shared = {
    underlay: underlay(pair),
    routed: await addRouted(pair),
    'by hand': await addHandMade(pair, { number: 0, vxlan: 'nolearning' }),
    overlay: overlay(pair),
  }
  // Two flannelds on a host would overwrite each other's chains.
  const direct = subject.flannel ? undefined : await addDirect(pair)
  const paths: Readonly<Record<Way, Path | undefined>> = { ...shared, direct: direct?.path }
  const sample: Record<string, number> = {}
  try {
    await withServers(
      Object.values(paths).filter((path) => path !== undefined),
      async () => {
        await quiet()
        for (const load of loads) {
          for (const way of shuffled(WAYS)) {
            const path = paths[way]
            if (path === undefined) continue
            const figures = await load.run(path, effort.loadSeconds)
            for (const { key } of load.measures) sample[`${way}/${key}`] = figures[key] ?? Number.NaN
          }
        }
      },
    )
  } finally {
    await direct?.stop()
  }
  return { ...sample, ...ratiosOf(sample, measuresOf(loads), PAIRINGS) }
}

function measuresOf(loads: readonly Load[]): Measure[] {
  return loads.flatMap(({ measures }) => [...measures])
}
