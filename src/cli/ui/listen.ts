/** Where the page is served, by `--listen`. */
import { isIP } from 'node:net'
import { UsageError } from '../../options/usage-error'

export interface ListenAddress {
  /** Of this host; `0.0.0.0` or `::` for all its addresses. */
  readonly ip: string
  /** 0 for any that is free. */
  readonly port: number
}

/**
 * Reads `127.0.0.1:8080` or `[::1]:8080`.
 * @throws {UsageError}
 */
export function parseListen(text: string): ListenAddress {
  const [, bracketed, plain, digits = ''] = /^(?:\[([^\]]*)\]|([^:[\]]*)):(\d{1,5})$/.exec(text) ?? []
  const ip = bracketed ?? plain ?? ''
  const port = Number(digits)
  const isAddress = isIP(ip) === (bracketed === undefined ? 4 : 6)
  if (isAddress && digits !== '' && port <= 65_535) return { ip, port }
  throw new UsageError(
    `--listen is ${JSON.stringify(text)}: expected an address of this host and a port`,
    'write 127.0.0.1:8080 or [::1]:8080; port 0 takes any that is free',
  )
}

/** @param ip an address, or any other text */
export const isLoopback = (ip: string): boolean =>
  (isIP(ip) === 4 && ip.startsWith('127.')) || ip === '::1' || ip === '0:0:0:0:0:0:0:1'

/** The address of the page. */
export function urlOf({ ip, port }: ListenAddress, token: string): string {
  return `http://${isIP(ip) === 6 ? `[${ip}]` : ip}:${port}/${token}/`
}

/** What an operator should know about the place; none for loopback. */
export function warningsFor({ ip, port }: ListenAddress): string[] {
  if (isLoopback(ip)) return []
  return [
    `warning: the page is plain HTTP on ${ip} port ${port}: whoever can read packets on the way ` +
      'reads it, and its token too; with the token, whoever reaches that port sees addresses, states and ' +
      'events of the hosts',
    `instead: leave out --listen, and look from another machine through ssh -L ${port}:127.0.0.1:PORT`,
  ]
}
