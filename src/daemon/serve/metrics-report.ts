/** Gathers what the metrics show, and writes them. */
import { certificateLives } from '../../etcd/client/tls'
import { readDeviceLosses } from '../../host/counters'
import { etcdOptions } from '../../options/etcd'
import type { Edges } from '../edges'
import { type MetricsText, writeMetrics } from './metrics'
import type { DaemonView } from './view'

/** @param isReady what /readyz says */
export async function reportMetrics(
  view: DaemonView,
  { events, meters, options }: Pick<Edges, 'events' | 'meters' | 'options'>,
  isReady: boolean,
): Promise<MetricsText> {
  meters.watchLoop()
  const multicastSummary = await view.multicast?.keeper?.summary()
  const { tls: files } = etcdOptions(options)
  const devices = view.node?.plan.overlays.map(({ link }) => link.name) ?? []
  return writeMetrics({
    ...view,
    isReady,
    events,
    meters,
    multicastSummary,
    now: Date.now(),
    encryption: view.node?.encryption.state(),
    clearDropped: await view.node?.encryption.dropped(),
    certificates: certificateLives(files),
    losses: await readDeviceLosses(devices),
  })
}
