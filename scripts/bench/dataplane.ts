/** The cases of the data plane: what containers of two hosts get of the network between them. */
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

/** The ways by the heads of their columns. */
type Way = (typeof WAYS)[number]

const WAYS = ['underlay', 'routed', 'by hand', 'overlay', 'direct'] as const
const PAIRINGS: readonly Pairing[] = [
  ['overlay', 'routed'],
  ['overlay', 'by hand'],
]

const LOADS = [tcp, tcp8, udp(64), udp(1400), roundTrip, request]
const PLAIN_LOADS = [tcp, tcp8]

/** Without other peers in the kernel's tables it is as with a few. */
const few = (peers: number) => peers === 0

export const dataplane: Case = {
  name: 'dataplane',
  about:
    'Between containers of two hosts; under each load all ways in turn, in another order each time. Underlay: from host to host, without containers and with packets 50 bytes longer. Routed: the same containers and bridges, by plain routes over the underlay. By hand: through a VXLAN device with the parameters and routes of flannel, made by ip and bridge. Overlay: as the daemon programs it; direct: the same with DirectRouting. The last columns are ratios by round: how many times worse the overlay is, better where below 1. CPU is that of the programs that make the load, in whose system calls the kernel does nearly all its work here. The underlay is a veth, which takes 64 kB at once, as a card does that segments VXLAN.',
  skips: few,
  metrics: waysMetrics(measuresOf(LOADS), WAYS, PAIRINGS),
  measure: (stage) => onPair(stage, (pair) => measureWays(pair, LOADS)),
}

export const plainNic: Case = {
  name: 'dataplane-plain-nic',
  about:
    'The same over cards that offload nothing (ethtool -K eth0 tx off gso off gro on): the kernel segments, sums and puts together again, packet by packet, as it does for a card that knows nothing of VXLAN.',
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
  // Two flannelds on a host fight over the same chains.
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
