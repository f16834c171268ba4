/** Metrics in Prometheus's text format, over the control socket and over TCP. */
import type { Server } from 'node:http'
import { describeError } from '../../model/errors'
import { printableData } from '../../model/printable'
import type { Logger } from '../tell/logger'
import { Distribution } from '../tell/meters'
import { serveHttp, type TcpAddress } from './http-server'
import { SERIES } from './series'
import type { MetricsView, Series } from './series-shape'

export interface MetricsText {
  readonly contentType: string
  readonly text: string
}

/** Version of the text format (https://prometheus.io/docs/instrumenting/exposition_formats/). */
const CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

/** Writes all series with their present values. */
export function writeMetrics(view: MetricsView): MetricsText {
  return { contentType: CONTENT_TYPE, text: SERIES.map((series) => writeSeries(series, view)).join('\n') }
}

function writeSeries({ name, help, type, read }: Series, view: MetricsView): string {
  const found = read(view)
  const samples =
    found instanceof Distribution
      ? bucketsOf(name, found)
      : Array.from(found, ([labels, value]) => sample(name, labels, value))
  return [`# HELP ${name} ${escaped(help)}`, `# TYPE ${name} ${type}`, ...samples, ''].join('\n')
}

function bucketsOf(name: string, distribution: Distribution): string[] {
  const { sum, count } = distribution
  return [
    ...Array.from(distribution.cumulative(), ([bound, below]) =>
      sample(`${name}_bucket`, { le: String(bound) }, below),
    ),
    sample(`${name}_bucket`, { le: '+Inf' }, count),
    sample(`${name}_sum`, {}, sum),
    sample(`${name}_count`, {}, count),
  ]
}

function sample(name: string, labels: Readonly<Record<string, string>>, value: number): string {
  const pairs = Object.entries(printableData(labels)).map(
    ([label, text]) => `${label}="${escaped(text).replaceAll('"', '\\"')}"`,
  )
  return `${name}${pairs.length === 0 ? '' : `{${pairs.join()}}`} ${value}`
}

/** Escapes a text. The format has no other escapes outside of quotes. */
const escaped = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')

/**
 * Serves `GET /metrics` over TCP.
 * @returns the server; close it to stop
 * @throws {OverlayError} `metrics-server` when the server cannot listen on the address
 */
export async function serveMetrics(
  address: TcpAddress,
  read: () => Promise<MetricsText>,
  log: Logger,
): Promise<Server> {
  const purpose = { code: 'metrics-server', serve: 'serve metrics', flags: ['metrics-ip', 'metrics-port'] }
  return serveHttp(address, purpose, ({ method, url = '' }, response) => {
    const [path] = url.split('?')
    if (path !== '/metrics' || (method !== 'GET' && method !== 'HEAD')) {
      response.writeHead(404, { 'content-type': 'text/plain; charset=utf-8' }).end('see /metrics\n')
      return
    }
    read().then(
      ({ contentType, text }) => response.writeHead(200, { 'content-type': contentType }).end(text),
      (error: unknown) => {
        log.error(`metrics: ${describeError(error)}`)
        response.writeHead(500).end()
      },
    )
  })
}
