/**
 * Echo requests without a program and without a capability: ping sockets (icmp(7)). The kernel keeps the
 * answers, with the time at which each arrived, until they are read. So whoever sends need not wait, and a
 * busy process neither lengthens a round trip nor loses an answer.
 */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { getSystemErrorName } from 'node:util'
import { type Family, familyOf, type IpAddress, type Ipv6, ipv4 } from '../model/address'
import { OverlayError } from '../model/errors'
import { libc } from '../native/libc'
import { decodeEcho, encodeEcho } from './echo'

/** sys/socket.h, netinet/in.h, linux/in.h and linux/in6.h, on Linux. */
const SOCK_DGRAM = 2
const SOCK_NONBLOCK = 0o4000
const SOCK_CLOEXEC = 0o2000000
const MSG_DONTWAIT = 0x40
interface Kind {
  readonly domain: number
  readonly protocol: number
  /** Bytes of sockaddr_in, sockaddr_in6. */
  readonly addressSize: number
  /** Level, IP_MTU_DISCOVER or IPV6_MTU_DISCOVER. */
  readonly discover: readonly [level: number, option: number]
}
const KINDS: Readonly<Record<Family, Kind>> = {
  IPv4: { domain: 2, protocol: 1, addressSize: 16, discover: [0, 10] },
  IPv6: { domain: 10, protocol: 58, addressSize: 28, discover: [41, 23] },
}
/** IP_PMTUDISC_PROBE: nothing is fragmented, and what the kernel knows of the path's MTU is ignored. */
const PROBE = 3
/** Largest message that is read: no more than the first bytes are looked at. */
const READ = 64
/** Answers that are read at once: the rest waits in the kernel. */
const MOST_ANSWERS = 1024
/** Milliseconds of a round trip that is believed: a step of the wall clock may make it any number. */
const LONGEST = 60_000

/** An answer to a request. */
export interface EchoAnswer {
  readonly id: number
  /** Milliseconds; `undefined` if the clock was changed meanwhile. */
  readonly rttMs: number | undefined
}

interface Sent {
  readonly address: IpAddress
  /** Wall clock in milliseconds. */
  readonly at: number
}

export class Pinger {
  readonly #token = randomBytes(4).readUInt32BE()
  readonly #sockets = new Map<Family, number>()
  /** Requests that have no answer yet. */
  readonly #sent = new Map<number, Sent>()
  readonly #data = Buffer.alloc(READ)
  readonly #from = Buffer.alloc(KINDS.IPv6.addressSize)
  #last = 0

  /**
   * Opens the socket of a family, if it is not open yet.
   * @throws {OverlayError} `no-ping-socket` where the kernel allows none, and why
   */
  open(family: Family): void {
    if (this.#sockets.has(family)) return
    const { socket, setsockopt, receivedAt, errno } = libc()
    const { domain, protocol, discover } = KINDS[family]
    const fd = socket(domain, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol)
    if (fd < 0) throw refusal(getSystemErrorName(-errno()))
    const [level, option] = discover
    setsockopt(fd, level, option, intBytes(PROBE), 4)
    // From now on the kernel notes when answers arrive.
    receivedAt(fd)
    this.#sockets.set(family, fd)
  }

  /**
   * Sends a request from an open socket. It is kept until it is answered or forgotten.
   * @param size bytes of the whole IP packet
   * @returns its id, or the name of the errno: `EPERM` is a firewall's refusal, `ENETUNREACH` a missing route
   */
  send(address: IpAddress, size: number): { readonly id: number } | { readonly refused: string } {
    const family = familyOf(address)
    const fd = this.#sockets.get(family)
    if (fd === undefined) throw new TypeError(`the ${family} socket is not open`)
    this.#last = (this.#last + 1) >>> 0
    const id = this.#last
    const message = encodeEcho(family, { token: this.#token, id }, size)
    const { sendto, wallClock, errno } = libc()
    const to = encodeAddress(address)
    this.#sent.set(id, { address, at: wallClock() })
    if (sendto(fd, message, message.length, MSG_DONTWAIT, to, to.length) >= 0) return { id }
    this.#sent.delete(id)
    return { refused: getSystemErrorName(-errno()) }
  }

  /** The answers that have arrived since the last call. */
  answers(): EchoAnswer[] {
    const found: EchoAnswer[] = []
    for (const [family, fd] of this.#sockets) this.#read(family, fd, found)
    return found
  }

  /** A request whose answer is not waited for any more. */
  forget(id: number): void {
    this.#sent.delete(id)
  }

  /** Idempotent. */
  close(): void {
    const { close } = libc()
    for (const fd of this.#sockets.values()) close(fd)
    this.#sockets.clear()
    this.#sent.clear()
  }

  #read(family: Family, fd: number, found: EchoAnswer[]): void {
    const { recvfrom, receivedAt } = libc()
    for (let read = 0; read < MOST_ANSWERS; read += 1) {
      const size = intBytes(this.#from.length)
      const length = recvfrom(fd, this.#data, READ, MSG_DONTWAIT, this.#from, size)
      if (length < 0) return
      const echo = decodeEcho(family, this.#data.subarray(0, length))
      if (echo === undefined || echo.token !== this.#token) continue
      const sent = this.#sent.get(echo.id)
      // Nobody but the host that was asked can answer.
      if (sent === undefined || sent.address !== decodeAddress(family, this.#from)) continue
      this.#sent.delete(echo.id)
      const rttMs = (receivedAt(fd) ?? Number.NaN) - sent.at
      found.push({ id: echo.id, rttMs: rttMs >= 0 && rttMs < LONGEST ? rttMs : undefined })
    }
  }
}

function refusal(errno: string): OverlayError {
  if (errno !== 'EACCES')
    return new OverlayError('no-ping-socket', `the kernel opens no ping socket: ${errno}`)
  const range = readRange()
  return new OverlayError(
    'no-ping-socket',
    `the kernel allows this group no ping socket: net.ipv4.ping_group_range is ${range}`,
    'allow it: sysctl -w net.ipv4.ping_group_range="0 2147483647"',
  )
}

function readRange(): string {
  try {
    return `"${readFileSync('/proc/sys/net/ipv4/ping_group_range', 'utf8').trim().replace(/\s+/, ' ')}"`
  } catch {
    return 'not readable'
  }
}

const intBytes = (value: number): Buffer => Buffer.from(Int32Array.of(value).buffer)

/** struct sockaddr_in or sockaddr_in6. */
function encodeAddress(address: IpAddress): Buffer {
  const { domain, addressSize } = KINDS[familyOf(address)]
  const bytes = Buffer.alloc(addressSize)
  // sa_family_t is in the byte order of the machine.
  bytes.set(Buffer.from(Uint16Array.of(domain).buffer))
  if (typeof address === 'number') bytes.writeUInt32BE(address, 4)
  else {
    bytes.writeBigUInt64BE(address >> 64n, 8)
    bytes.writeBigUInt64BE(address & 0xffff_ffff_ffff_ffffn, 16)
  }
  return bytes
}

const decodeAddress = (family: Family, bytes: Buffer): IpAddress =>
  family === 'IPv4'
    ? ipv4(bytes.readUInt32BE(4))
    : (((bytes.readBigUInt64BE(8) << 64n) | bytes.readBigUInt64BE(16)) as Ipv6)
