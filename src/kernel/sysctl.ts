/** The network sysctls that an overlay needs, of the network namespace this process is in. */
import { readFile, writeFile } from 'node:fs/promises'
import { describeError, OverlayError, systemErrorCode } from '../model/errors'

const IP_FORWARD = '/proc/sys/net/ipv4/ip_forward'

/**
 * Whether this host forwards IPv4 packets between its interfaces.
 * @throws {OverlayError} `sysctl`
 */
export async function readIpForward(): Promise<boolean> {
  return (await readSysctl(IP_FORWARD)) !== '0'
}

/**
 * Lets this host forward IPv4 packets. Writes only when it does not yet: a write resets other sysctls of every interface to a router's defaults.
 * @throws {OverlayError} `sysctl`
 */
export async function enableIpForward(): Promise<void> {
  if (!(await readIpForward())) await writeSysctl(IP_FORWARD, '1')
}

/**
 * Keeps a link from taking addresses and routes from IPv6 router advertisements, which would come from other hosts' containers.
 * @returns false when the link or its IPv6 half does not exist
 * @throws {OverlayError} `sysctl`
 */
export async function ignoreRouterAdvertisements(link: string): Promise<boolean> {
  try {
    await writeSysctl(`/proc/sys/net/ipv6/conf/${link}/accept_ra`, '0')
    return true
  } catch (error) {
    if (error instanceof OverlayError && systemErrorCode(error.cause) === 'ENOENT') return false
    throw error
  }
}

async function readSysctl(path: string): Promise<string> {
  try {
    return (await readFile(path, 'latin1')).trim()
  } catch (cause) {
    throw new OverlayError('sysctl', `cannot read ${path}: ${describeError(cause)}`, undefined, { cause })
  }
}

async function writeSysctl(path: string, value: string): Promise<void> {
  try {
    await writeFile(path, value)
  } catch (cause) {
    const fix = `write ${value} to ${path} on this host, or let this process do it (CAP_NET_ADMIN, a writable /proc/sys/net)`
    throw new OverlayError('sysctl', `cannot write ${value} to ${path}: ${describeError(cause)}`, fix, {
      cause,
    })
  }
}
