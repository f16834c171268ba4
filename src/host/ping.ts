/** Echo requests by iputils' ping, and a datagram that is to arrive at a closed port, or at none. */
import { execFile } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { type Family, familyOf, formatIp, type IpAddress } from '../model/address'
import { OverlayError, systemErrorCode } from '../model/errors'

/** Bytes of the ICMP header and of the IP header before it (RFC 792, RFC 791, RFC 8200). */
const HEADERS: Readonly<Record<Family, number>> = { IPv4: 28, IPv6: 48 }
/** Milliseconds to wait for an answer to the last request. */
const PATIENCE_MS = 800
/** Milliseconds between requests; users who are not root may have 2. */
const INTERVAL_MS = 50

export interface PingRequest {
  readonly address: IpAddress
  /** Bytes of the whole IP packet. */
  readonly size: number
  readonly count: number
}

export interface PingAnswer {
  readonly sent: number
  readonly received: number
  /** Mean, in milliseconds. */
  readonly rttMs?: number
}

/**
 * Sends requests that must not be cut on their way (DF), and counts the answers.
 * @throws {OverlayError} `program-missing` when there is no ping
 */
export function ping({ address, size, count }: PingRequest): Promise<PingAnswer> {
  const family = familyOf(address)
  const args = [
    ...[family === 'IPv4' ? '-4' : '-6', '-n', '-q', '-M', 'do'],
    ...['-c', `${count}`, '-i', `${INTERVAL_MS / 1000}`, '-W', `${PATIENCE_MS / 1000}`],
    ...['-s', `${Math.max(0, size - HEADERS[family])}`, formatIp(address)],
  ]
  const timeout = 2 * (PATIENCE_MS + count * INTERVAL_MS) + 1000
  return new Promise((resolve, reject) => {
    execFile('ping', args, { timeout }, (error, stdout) => {
      if (systemErrorCode(error) === 'ENOENT') {
        const fix = 'install the package iputils-ping'
        reject(new OverlayError('program-missing', 'ping is not in PATH', fix, { cause: error }))
      } else resolve(readPing(stdout, count))
    })
  })
}

/**
 * Reads ping's summary.
 * @param count what was asked for, where it says nothing: it gives up when the kernel refuses to send
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

/** `silent`: nobody said anything. `blocked`: this host's firewall. `refused`: nobody listens. `unreachable`: no way. */
export type DatagramFate = 'silent' | 'blocked' | 'refused' | 'unreachable'

/** Milliseconds to wait for an ICMP error, after each of two datagrams. */
const ERROR_MS = 250

const FATES: Readonly<Record<string, DatagramFate>> = {
  EPERM: 'blocked',
  ECONNREFUSED: 'refused',
  EHOSTUNREACH: 'unreachable',
  ENETUNREACH: 'unreachable',
}

/**
 * Sends empty datagrams to a port: a VXLAN device throws them away without a word (drivers/net/vxlan: they are too short), and who has no such
 * port says so.
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
