/** The network sysctls that an overlay needs, of the network namespace this process is in. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import type { Family } from '../model/address'
import { describeError, OverlayError, systemErrorCode } from '../model/errors'
import type { BridgeNetfilter } from '../model/firewall'

const IP_FORWARD = '/proc/sys/net/ipv4/ip_forward'
const IPV6 = '/proc/sys/net/ipv6/conf'
const IPV6_FORWARDING = `${IPV6}/all/forwarding`
const BRIDGE = '/proc/sys/net/bridge'

/**
 * Whether this host forwards IPv4 packets between its interfaces.
 * @throws {OverlayError} `sysctl`
 */
export async function readIpForward(): Promise<boolean> {
  return (await readSysctl(IP_FORWARD)) !== '0'
}

/**
 * Lets this host forward IPv4 packets. Writes only when it does not yet: a write resets other sysctls of every interface to a router's defaults.
 * @returns whether it had to be switched on
 * @throws {OverlayError} `sysctl`
 */
export async function enableIpForward(): Promise<boolean> {
  if (await readIpForward()) return false
  await writeSysctl(IP_FORWARD, '1')
  return true
}

/**
 * Lets this host forward IPv6 packets. A router ignores router advertisements, and the kernel drops what it learned from them: such a host would lose its
 * own default route. So each interface that listens to them now (accept_ra 1) is first told to go on as a router (accept_ra 2). Interfaces that
 * appear later keep the kernel's default. Written only when forwarding is off.
 * @returns whether it had to be switched on
 * @throws {OverlayError} `sysctl`
 */
export async function enableIpv6Forward(): Promise<boolean> {
  if ((await readSysctl(IPV6_FORWARDING)) !== '0') return false
  for (const link of await listLinks()) await keepRouterAdvertisements(link)
  await writeSysctl(IPV6_FORWARDING, '1')
  return true
}

/** `all` and `default` stand for other interfaces, and `default` for those to come, containers' among them. */
async function listLinks(): Promise<string[]> {
  const names = await readdir(IPV6)
  return names.filter((name) => name !== 'all' && name !== 'default')
}

async function keepRouterAdvertisements(link: string): Promise<void> {
  const path = `${IPV6}/${link}/accept_ra`
  await unlessGone(async () => {
    if ((await readSysctl(path)) === '1') await writeSysctl(path, '2')
  })
}

/**
 * Whether frames that a bridge passes on go through iptables. Without that a packet between containers of one host that Docker's or our rules
 * concern does not meet them.
 * @throws {OverlayError} `sysctl`
 */
export async function bridgeNetfilter(): Promise<BridgeNetfilter> {
  const state = { present: false, ipv4: false, ipv6: false }
  await unlessGone(async () => {
    state.ipv4 = (await readSysctl(`${BRIDGE}/bridge-nf-call-iptables`)) !== '0'
    state.ipv6 = (await readSysctl(`${BRIDGE}/bridge-nf-call-ip6tables`)) !== '0'
    state.present = true
  })
  return state
}

/**
 * Keeps a host forwarding that did: switched off by someone, of all links or of ours, it is switched on again.
 * @returns whether it had to be
 * @throws {OverlayError} `sysctl`
 */
export async function keepForwarding(family: Family, link: string): Promise<boolean> {
  const switchedOn = family === 'IPv4' ? await enableIpForward() : await enableIpv6Forward()
  const own = `/proc/sys/net/${family === 'IPv4' ? 'ipv4' : 'ipv6'}/conf/${link}/forwarding`
  let changed = switchedOn
  await unlessGone(async () => {
    if ((await readSysctl(own)) !== '0') return
    await writeSysctl(own, '1')
    changed = true
  })
  return changed
}

/**
 * Keeps a link from taking addresses and routes from IPv6 router advertisements, which would come from other hosts' containers.
 * @returns false when the link or its IPv6 half does not exist
 * @throws {OverlayError} `sysctl`
 */
export function ignoreRouterAdvertisements(link: string): Promise<boolean> {
  const path = `${IPV6}/${link}/accept_ra`
  return unlessGone(async () => {
    if ((await readSysctl(path)) !== '0') await writeSysctl(path, '0')
  })
}

/**
 * Keeps a link from having IPv6 addresses, and so from asking and reporting anything by itself.
 * @returns false when the link or its IPv6 half does not exist
 * @throws {OverlayError} `sysctl`
 */
export function disableIpv6(link: string): Promise<boolean> {
  const path = `${IPV6}/${link}/disable_ipv6`
  return unlessGone(async () => {
    if ((await readSysctl(path)) !== '1') await writeSysctl(path, '1')
  })
}

/** @returns false when a file it needs is not there */
async function unlessGone(access: () => Promise<void>): Promise<boolean> {
  try {
    await access()
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
