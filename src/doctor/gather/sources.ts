/** The table of facts: how each is found, and on which other facts it depends. A new fact is one entry. */
import { readPacketFilter } from '../../firewall/packet-filter'
import { isCniConfigured } from '../../host/cni'
import { readEngineFiles } from '../../host/engine-files'
import { readLastExit } from '../../host/last-exit'
import { findProcesses, readLinkSwitches, readReversePathFilters } from '../../host/procfs'
import { type FactName, type FactValues, type Known, NEEDLESS } from '../../judge/facts'
import { OVERLAY, readConfig } from '../../judge/overlay'
import { bridgeNetfilter } from '../../kernel/sysctl'
import { OverlayError } from '../../model/errors'
import { valueOrThrow } from '../../model/result'
import type { Edges } from './edges'
import { probeAll } from './probe-all'
import { readDocker } from './read-docker'
import { clockOf, greetEtcd, readCertificates, readEtcd, readLeaseLife } from './read-etcd'
import { readConnections, readDaemon, readForwarding, readPrefixes, readSubnetFile } from './read-host'
import { readKernel, readMulticast, readWays, readWireguard } from './read-kernel'
import { readService } from './read-service'

/** How a fact is found. */
export interface Source<T> {
  /** Facts without which this one is missing too, for their reason. */
  readonly needs: readonly FactName[]
  /** Facts that are waited for, and may be missing. */
  readonly uses: readonly FactName[]
  /** What this throws is the reason why the fact is missing. */
  readonly read: (known: Known<FactName>, edges: Edges) => T | Promise<T>
}

/** A source that reads only the facts it declares. The compiler holds it to that. */
const from = <T, const N extends FactName = never, const U extends FactName = never>(
  { needs = [], uses = [] }: { readonly needs?: readonly N[]; readonly uses?: readonly U[] },
  read: (known: Known<N, U>, edges: Edges) => T | Promise<T>,
): Source<T> => ({ needs, uses, read })

/** Milliseconds. A host with 50,000 rules needs 4000. */
const FIREWALL_DEADLINE = 9000

export const FACTS: { readonly [F in FactName]: Source<FactValues[F]> } = {
  daemon: from({}, (_, { options }) => readDaemon(options)),
  lastExit: from({}, ({ runDirectory }) => readLastExit(runDirectory)),
  service: from({}, (_, { options }) => readService(options.known?.unit ?? 'overlayd')),
  etcd: from({}, async (_, edges) => readEtcd(await edges.registry())),
  config: from({ needs: ['etcd'] }, ({ etcd, etcdPrefix }) => readConfig(etcd.value, etcdPrefix)),
  leaseLife: from({ needs: ['etcd'], uses: OVERLAY }, (known, edges) =>
    readLeaseLife(known, () => edges.registry()),
  ),
  greeting: from({}, (_, { options }) => greetEtcd(options)),
  certificates: from({ uses: ['greeting'] }, (known, { options }) => readCertificates(options, known)),
  clock: from({ uses: ['greeting'] }, clockOf),
  kernel: from({ uses: ['daemon', 'config'] }, async (known, edges) =>
    readKernel(await edges.kernel(), known),
  ),
  multicast: from({ needs: ['kernel', 'config'], uses: ['daemon'] }, (known, edges) =>
    readMulticast(() => edges.kernel(), known),
  ),
  wireguard: from({ needs: ['kernel', 'config'], uses: ['daemon'] }, (known, edges) =>
    readWireguard(() => edges.kernel(), known),
  ),
  ways: from({ needs: ['kernel'], uses: [...OVERLAY, 'prefixes'] }, async (known, edges) =>
    readWays(await edges.kernel(), known),
  ),
  prefixes: from({}, (_, { options }) => readPrefixes(options)),
  forwarding: from({}, readForwarding),
  rpFilter: from({}, readReversePathFilters),
  switches: from({}, () => readLinkSwitches()),
  conntrack: from({}, readConnections),
  bridgeNetfilter: from({}, bridgeNetfilter),
  dockerd: from({}, () => findProcesses('dockerd')),
  docker: from({}, readDocker),
  engines: from({}, () => readEngineFiles()),
  cni: from({}, isCniConfigured),
  firewall: from({}, () => readPacketFilter(AbortSignal.timeout(FIREWALL_DEADLINE))),
  subnetFile: from({}, (_, { options }) => readSubnetFile(options['subnet-file'])),
  // After the firewall: many rules keep this process busy while it reads them, and probes have deadlines.
  probing: from({ uses: [...OVERLAY, 'firewall'] }, (known, { isProbed }) => probeAll(known, isProbed)),
  probes: from({ needs: ['probing'] }, ({ probing }) => {
    const probes = valueOrThrow(probing.value.probes)
    if (probes.length === 0) throw new OverlayError(NEEDLESS, UNPROBED)
    return probes
  }),
  containerProbes: from({ needs: ['probing'] }, ({ probing }) => valueOrThrow(probing.value.containers)),
  counted: from({ needs: ['probing'] }, ({ probing }) => {
    if (!probing.value.probes.ok) throw new OverlayError(NEEDLESS, UNPROBED)
    return probing.value.counted
  }),
}

const UNPROBED = 'no peer was probed'
