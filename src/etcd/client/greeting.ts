/** Facts that an etcd endpoint gives anyone over HTTP/1.1: its clock and its certificate. */
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { TLSSocket } from 'node:tls'
import type { Greeting } from '../../model/greeting'
import { parseEndpoints } from './endpoints'
import { loadTls, type TlsFiles } from './tls'

/**
 * Asks the first endpoint that answers. Its certificate is read but not verified, because nothing secret is
 * sent.
 * @param endpoints as in --etcd-endpoints
 * @throws {Error} of the last endpoint if none answers
 */
export async function greet(endpoints: string, tls: TlsFiles, deadlineMs: number): Promise<Greeting> {
  let failure: unknown
  for (const endpoint of parseEndpoints(endpoints)) {
    try {
      return await greetOne(endpoint.url, endpoint.tls ? tls : undefined, deadlineMs)
    } catch (error) {
      failure = error
    }
  }
  throw failure
}

function greetOne(url: string, tls: TlsFiles | undefined, deadlineMs: number): Promise<Greeting> {
  const started = Date.now()
  return new Promise((resolve, reject) => {
    const take = (response: IncomingMessage): void => {
      const { socket, headers } = response
      const notAfter = socket instanceof TLSSocket ? socket.getPeerCertificate().valid_to : undefined
      resolve({
        endpoint: url,
        aheadSeconds: aheadOf(headers.date, started, Date.now()),
        certificateEnds: notAfter === undefined ? undefined : Date.parse(notAfter),
      })
      response.destroy()
    }
    const signal = AbortSignal.timeout(deadlineMs)
    const asked =
      tls === undefined
        ? httpRequest(`${url}/version`, { signal, agent: false }, take)
        : httpsRequest(`${url}/version`, { ...secrets(tls), signal, agent: false }, take)
    asked.on('error', reject).end()
  })
}

/**
 * A client certificate must be presented if etcd requires one. The server is not verified, see {@link greet}.
 */
function secrets(files: TlsFiles) {
  const { rootCertificate, certChain, privateKey } = loadTls(files)
  return { ca: rootCertificate, cert: certChain, key: privateKey, rejectUnauthorized: false }
}

/**
 * Seconds by which a clock that shows whole seconds is ahead of ours, at least; 0 if the two may agree.
 * @param date a Date header, made between the other two times, which are milliseconds since 1970
 */
export function aheadOf(date: string | undefined, asked: number, answered: number): number | undefined {
  const shown = Date.parse(date ?? '')
  if (Number.isNaN(shown)) return undefined
  if (shown > answered) return Math.round((shown - answered) / 1000)
  if (shown + 1000 < asked) return -Math.round((asked - shown - 1000) / 1000)
  return 0
}
