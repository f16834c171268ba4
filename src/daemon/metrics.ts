/** Metrics in Prometheus's text format. The library that writes it is loaded when someone asks, and not by a start of the daemon. */
import type { Server } from 'node:http'
import type { Metric } from 'prom-client'
import { describeError } from '../model/errors'
import { serveHttp, type TcpAddress } from './http-server'
import type { Logger } from './logger'
import { Distribution } from './meters'
import { type MetricsView, SERIES, type Series } from './series'

export interface MetricsText {
  readonly contentType: string
  readonly text: string
}

/** Shows all series as they are now. */
export async function writeMetrics(view: MetricsView): Promise<MetricsText> {
  const { Registry } = await import('prom-client')
  const registry = new Registry()
  for (const series of SERIES) registry.registerMetric(asMetric(series, view))
  return { contentType: registry.contentType, text: await registry.metrics() }
}

/**
 * A registry asks its metrics for nothing but their names and values. The library's own metrics hold numbers of their own, and a histogram of
 * them cannot be told any; ours are read where they are.
 */
function asMetric({ name, help, type, read }: Series, view: MetricsView): Metric {
  const metric = { name, help, type, get: async () => ({ name, help, type, values: [...values()] }) }
  function* values() {
    const found = read(view)
    if (found instanceof Distribution) yield* bucketsOf(name, found)
    else for (const [labels, value] of found) yield { labels, value }
  }
  return metric as unknown as Metric
}

function* bucketsOf(name: string, distribution: Distribution) {
  const { sum, count } = distribution
  for (const [bound, below] of distribution.cumulative()) {
    yield { metricName: `${name}_bucket`, labels: { le: String(bound) }, value: below }
  }
  yield { metricName: `${name}_bucket`, labels: { le: '+Inf' }, value: count }
  yield { metricName: `${name}_sum`, labels: {}, value: sum }
  yield { metricName: `${name}_count`, labels: {}, value: count }
}

/** Bounds for who connects: bytes, milliseconds, connections. */
const LIMITS = { maxHeaderSize: 8192, headersTimeout: 5000, requestTimeout: 5000 }
const MOST_CONNECTIONS = 32

/**
 * Serves `GET /metrics` over TCP.
 * @returns the server; close it to stop
 * @throws {OverlayError} `metrics-server` when it cannot listen there
 */
export async function serveMetrics(
  address: TcpAddress,
  read: () => Promise<MetricsText>,
  log: Logger,
): Promise<Server> {
  const purpose = { code: 'metrics-server', serve: 'serve metrics', flags: ['metrics-ip', 'metrics-port'] }
  const server = await serveHttp(
    address,
    purpose,
    ({ method, url = '' }, response) => {
      const [path] = url.split('?')
      if (path !== '/metrics' || (method !== 'GET' && method !== 'HEAD')) {
        response.writeHead(404, { 'content-type': 'text/plain; charset=utf-8' }).end('look at /metrics\n')
        return
      }
      read().then(
        ({ contentType, text }) => response.writeHead(200, { 'content-type': contentType }).end(text),
        (error: unknown) => {
          log.error(`metrics: ${describeError(error)}`)
          response.writeHead(500).end()
        },
      )
    },
    LIMITS,
  )
  server.maxConnections = MOST_CONNECTIONS
  return server
}
