/**
 * Probes of another host: ICMP echo by iputils' ping, a TCP connection, and empty UDP datagrams to a port
 * that may be closed.
 */
import { execFile } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { connect } from 'node:net'
import { type Family, familyOf, formatIp, type IpAddress } from '../model/address'
import { childEnvironment } from '../model/child-environment'
import { OverlayError, systemErrorCode } from '../model/errors'

/** Bytes of the ICMP header and of the IP header before it (RFC 792, RFC 791, RFC 8200). */
const HEADERS: Readonly<Record<Family, number>> = { IPv4: 28, IPv6: 48 }
/** Milliseconds to wait for the answer to the last request. */
const PATIENCE_MS = 800
/** Milliseconds between requests. Users other than root may go down to 2 ms. */
const INTERVAL_MS = 50

export interface PingRequest {
  readonly address: IpAddress
  /** Bytes of the whole IP packet. */
  readonly size: number
  readonly count: number
  /** Path of the network namespace to send from; default: the namespace of this process. */
  readonly namespace?: string
}

export interface PingAnswer {
  readonly sent: number
  readonly received: number
  /** Mean, in milliseconds. */
  readonly rttMs?: number
}

/**
 * Sends echo requests that must not be fragmented (DF), and counts the answers.
 * @throws {OverlayError} `program-missing` if there is no ping; `ping-denied` if this user may not send
 */
export function ping({ address, size, count, namespace }: PingRequest): Promise<PingAnswer> {
  const family = familyOf(address)
  const args = [
    ...[family === 'IPv4' ? '-4' : '-6', '-n', '-q', '-M', 'do'],
    ...['-c', `${count}`, '-i', `${INTERVAL_MS / 1000}`, '-W', `${PATIENCE_MS / 1000}`],
    ...['-s', `${Math.max(0, size - HEADERS[family])}`, formatIp(address)],
  ]
  const timeout = 2 * (PATIENCE_MS + count * INTERVAL_MS) + 1000
  const [program, ...rest] = [
    ...(namespace === undefined ? [] : ['nsenter', `--net=${namespace}`]),
    'ping',
    ...args,
  ]
  return new Promise((resolve, reject) => {
    const done = (error: Error | null, stdout: string, stderr: string): void => {
      if (systemErrorCode(error) === 'ENOENT') {
        const fix = 'install the package iputils-ping'
        reject(new OverlayError('program-missing', 'ping is not in PATH', fix, { cause: error }))
      } else if (isDenied(error, stderr)) {
        const words =
          'ping may not send: this user has no ping socket (net.ipv4.ping_group_range) and no CAP_NET_RAW'
        reject(new OverlayError('ping-denied', words, 'run overlayctl as root', { cause: error }))
      } else resolve(readPing(stdout, count))
    }
    try {
      execFile(program ?? 'ping', rest, { timeout, env: childEnvironment() }, done)
    } catch (error) {
      // execFile throws some failures to start a program instead of passing them to the callback.
      done(error instanceof Error ? error : new Error(String(error)), '', '')
    }
  })
}

const NO_RIGHTS = [
  /(?:socket|cannot open|reassociate)[^\n]*(?:Operation not permitted|Permission denied)/,
  /missing cap_net_raw/,
]

/**
 * Whether iputils got no socket, or nsenter may not enter the namespace, by their messages. A firewall's
 * refusal has `sendmsg` in its message and does not match.
 */
const isDenied = (error: Error | null, stderr: string): boolean =>
  error !== null &&
  (['EACCES', 'EPERM'].includes(systemErrorCode(error) ?? '') ||
    NO_RIGHTS.some((pattern) => pattern.test(stderr)))

/**
 * Reads ping's summary.
 * @param count number of requests, for output without a summary: ping gives up when the kernel refuses to
 *   send
 */
export function readPing(output: string, count: number): PingAnswer {
  const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(output) ?? []
  const mean = /= [\d.]+\/([\d.]+)\//.exec(output)?.[1]
  const answered = Number(received ?? 0)
  return {
    sent: Math.max(Number(sent ?? count), answered),
    received: answered,
    ...(mean !== undefined && { rttMs: Number(mean) }),
  }
}

/**
 * What became of a datagram. `silent`: no answer. `blocked`: this host's firewall dropped it. `refused`: the
 * port is closed. `unreachable`: no route.
 */
export type DatagramFate = 'silent' | 'blocked' | 'refused' | 'unreachable'

/** Milliseconds to wait for an answer to a TCP connection. */
const KNOCK_MS = 800

/** Whether an address answers TCP on a port, by accepting or by refusing a connection. */
export function knock(address: IpAddress, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: formatIp(address), port, timeout: KNOCK_MS })
    const end = (answered: boolean): void => {
      socket.destroy()
      resolve(answered)
    }
    socket.on('connect', () => end(true))
    socket.on('timeout', () => end(false))
    socket.on('error', (error) => end(systemErrorCode(error) === 'ECONNREFUSED'))
  })
}

/** Milliseconds to wait for an ICMP error, after each of two datagrams. */
const ERROR_MS = 250

const FATES: Readonly<Record<string, DatagramFate>> = {
  EPERM: 'blocked',
  ECONNREFUSED: 'refused',
  EHOSTUNREACH: 'unreachable',
  ENETUNREACH: 'unreachable',
}

/**
 * Sends two empty datagrams to a port. A VXLAN device drops them silently (drivers/net/vxlan: they are too
 * short for its header); a host without that port answers with an ICMP error.
 */
export function sendNothing(address: IpAddress, port: number): Promise<DatagramFate> {
  return new Promise((resolve) => {
    const socket = createSocket(familyOf(address) === 'IPv4' ? 'udp4' : 'udp6')
    let timer: NodeJS.Timeout | undefined
    const end = (fate: DatagramFate): void => {
      clearTimeout(timer)
      socket.removeAllListeners('error').on('error', () => undefined)
      socket.close()
      resolve(fate)
    }
    const fail = (error: Error): void => end(FATES[systemErrorCode(error) ?? ''] ?? 'unreachable')
    const send = (left: number): void => {
      if (left === 0) {
        end('silent')
        return
      }
      socket.send(Buffer.alloc(0), (error) => {
        if (error !== null && error !== undefined) fail(error)
        else timer = setTimeout(() => send(left - 1), ERROR_MS)
      })
    }
    socket.once('error', fail)
    socket.connect(port, formatIp(address), (error?: Error) => {
      if (error !== null && error !== undefined) fail(error)
      else send(2)
    })
  })
}
