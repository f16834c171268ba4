/**
 * The servers of the daemon: always the control socket and the status socket; health and metrics if options
 * ask for them.
 */
import type { Server } from 'node:http'
import type { Options } from '../../options/schema'
import type { Logger } from '../tell/logger'
import { type ControlSources, serveControlSocket, serveStatusSocket } from './control-socket'
import { serveHealth } from './health-server'
import { serveMetrics } from './metrics'

export interface ServerSources extends ControlSources {
  /** For {@link serveHealth}. */
  notReady(): string | undefined
}

/**
 * Starts the servers.
 * @returns a function that closes them
 * @throws {OverlayError} `already-running`, or when a server cannot listen on its address
 */
export async function startServers(
  options: Options,
  sources: ServerSources,
  log: Logger,
): Promise<() => Promise<void>> {
  const servers: Server[] = []
  const closeAll = async (): Promise<void> => {
    await Promise.all(servers.map(close))
  }
  try {
    servers.push(await serveControlSocket(options['run-dir'], sources, log))
    servers.push(await serveStatusSocket(options['run-dir'], sources, log))
    const health = { ip: options['healthz-ip'], port: options['healthz-port'] }
    if (health.port !== 0) {
      servers.push(await serveHealth(health, () => sources.notReady()))
      log.info(`health: serving /healthz and /readyz on ${health.ip} port ${health.port}`)
    }
    const metrics = { ip: options['metrics-ip'], port: options['metrics-port'] }
    if (metrics.port !== 0) {
      servers.push(await serveMetrics(metrics, () => sources.metrics(), log))
      log.info(`metrics: serving /metrics on ${metrics.ip} port ${metrics.port}`)
    }
    return closeAll
  } catch (error) {
    await closeAll()
    throw error
  }
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}
