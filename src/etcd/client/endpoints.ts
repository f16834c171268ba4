import { isIPv6 } from 'node:net'
import { type IpAddress, parseIp } from '../../model/address'
import { EtcdError } from './errors'

/** One member of the etcd cluster, or a proxy in front of it. */
export interface Endpoint {
  /** As shown to people: `http://192.0.2.1:2379`. */
  readonly url: string
  /** As gRPC expects it: `192.0.2.1:2379`, `[2001:db8::1]:2379`. */
  readonly address: string
  readonly tls: boolean
}

/** etcd's client port (IANA: etcd-client). */
const DEFAULT_PORT = 2379

/**
 * Reads flannel's `--etcd-endpoints`: a comma list of URLs or `host:port`. Blanks, a trailing slash and a
 * missing port are accepted.
 * @throws {EtcdError} `etcd-options`
 */
export function parseEndpoints(list: string): readonly [Endpoint, ...Endpoint[]] {
  const [first, ...rest] = list
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '')
    .map(parseEndpoint)
  if (first === undefined) throw invalid('no etcd endpoint is given')
  return [first, ...rest]
}

/**
 * The endpoints that are IP addresses instead of names.
 * @throws {EtcdError} `etcd-options`
 */
export const endpointAddresses = (list: string): IpAddress[] =>
  parseEndpoints(list).flatMap(({ address }) => {
    const host = address.slice(0, address.lastIndexOf(':'))
    return parseIp(host.replace(/^\[|\]$/g, '')) ?? []
  })

function parseEndpoint(text: string): Endpoint {
  // The endpoint is not quoted in the error, because it may contain a password.
  if (text.includes('@'))
    throw invalid('an etcd endpoint contains a user name, which belongs in --etcd-username')
  const match = /^(?:(https?):\/\/)?(\[[^\]]+\]|[^:/[\]]+)(?::(\d{1,5}))?\/?$/.exec(text)
  const [, scheme = 'http', host = '', port = String(DEFAULT_PORT)] = match ?? []
  const isHost = host.startsWith('[') ? isIPv6(host.slice(1, -1)) : /^[\w.-]+$/.test(host)
  if (match === null || !isHost || Number(port) < 1 || Number(port) > 0xffff) {
    throw invalid(`the etcd endpoint ${JSON.stringify(text)} cannot be read`)
  }
  const address = `${host}:${Number(port)}`
  return { url: `${scheme}://${address}`, address, tls: scheme === 'https' }
}

const invalid = (message: string) =>
  new EtcdError('etcd-options', message, {
    fix: 'write --etcd-endpoints as in http://192.0.2.1:2379,http://192.0.2.2:2379',
  })
