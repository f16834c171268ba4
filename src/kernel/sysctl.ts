/** The network sysctls that an overlay needs, in the network namespace of this process. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import type { Family } from '../model/address'
import { describeError, isOverlayError, OverlayError, systemErrorCode } from '../model/errors'
import { FAMILY_FIELDS } from '../model/family'
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
 * Makes this host forward IPv4 packets. Writes only if it does not yet, because a write resets other sysctls
 * of every interface to a router's defaults.
 * @returns whether forwarding was off
 * @throws {OverlayError} `sysctl`
 */
export async function enableIpForward(): Promise<boolean> {
  if (await readIpForward()) return false
  await writeSysctl(IP_FORWARD, '1')
  return true
}

/**
 * Makes this host forward IPv6 packets. A router ignores router advertisements, and the kernel removes what
 * it learned from them: the host could lose its own default route. So each interface that accepts
 * advertisements now (accept_ra 1) is first set to accept them as a router too (accept_ra 2). Interfaces that
 * appear later keep the kernel's default. Writes only if forwarding is off.
 * @returns whether forwarding was off
 * @throws {OverlayError} `sysctl`
 */
export async function enableIpv6Forward(): Promise<boolean> {
  if ((await readSysctl(IPV6_FORWARDING)) !== '0') return false
  for (const link of await listLinks()) await keepRouterAdvertisements(link)
  await writeSysctl(IPV6_FORWARDING, '1')
  return true
}

/**
 * All interfaces. `all` and `default` are none; `default` applies to future ones, such as those of
 * containers.
 */
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
 * Whether frames that a bridge forwards pass iptables. Otherwise packets between containers of one host
 * bypass Docker's rules and ours.
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
 * Restores forwarding if someone switched it off, for all links or for the given one.
 * @returns whether it was off
 * @throws {OverlayError} `sysctl`
 */
export async function keepForwarding(family: Family, link: string): Promise<boolean> {
  const switchedOn = family === 'IPv4' ? await enableIpForward() : await enableIpv6Forward()
  const own = `/proc/sys/net/${FAMILY_FIELDS[family]}/conf/${link}/forwarding`
  let changed = switchedOn
  await unlessGone(async () => {
    if ((await readSysctl(own)) !== '0') return
    await writeSysctl(own, '1')
    changed = true
  })
  return changed
}

/**
 * Makes a link accept packets whose return route uses another link (kernel:
 * Documentation/networking/ip-sysctl.rst). The larger of the values of `all` and of the link counts; 1 is
 * strict, 2 is loose. Only a strict filter is changed.
 * @returns whether the filter was strict
 * @throws {OverlayError} `sysctl`
 */
export async function loosenReversePath(link: string): Promise<boolean> {
  const conf = '/proc/sys/net/ipv4/conf'
  let changed = false
  await unlessGone(async () => {
    const own = `${conf}/${link}/rp_filter`
    const values = [await readSysctl(`${conf}/all/rp_filter`), await readSysctl(own)].map(Number)
    if (Math.max(...values) !== 1) return
    await writeSysctl(own, '2')
    changed = true
  })
  return changed
}

/**
 * Enables IPv6 on a link. If a setting of the host, or someone, disabled it, the kernel has removed the
 * link's IPv6 addresses.
 * @returns whether IPv6 was off
 * @throws {OverlayError} `sysctl`
 */
export async function keepIpv6(link: string): Promise<boolean> {
  let changed = false
  await unlessGone(async () => {
    const path = `${IPV6}/${link}/disable_ipv6`
    if ((await readSysctl(path)) === '0') return
    await writeSysctl(path, '0')
    changed = true
  })
  return changed
}

/**
 * Makes this host answer on a link for the IPv6 addresses that it has proxy neighbours for there.
 * @returns whether it did not answer before
 * @throws {OverlayError} `sysctl`
 */
export async function keepProxyNdp(link: string): Promise<boolean> {
  let changed = false
  await unlessGone(async () => {
    const path = `${IPV6}/${link}/proxy_ndp`
    if ((await readSysctl(path)) !== '0') return
    await writeSysctl(path, '1')
    changed = true
  })
  return changed
}

/**
 * Makes a link ignore IPv6 router advertisements, which could come from containers on other hosts.
 * @returns false if the link does not exist or has no IPv6
 * @throws {OverlayError} `sysctl`
 */
export function ignoreRouterAdvertisements(link: string): Promise<boolean> {
  const path = `${IPV6}/${link}/accept_ra`
  return unlessGone(async () => {
    if ((await readSysctl(path)) !== '0') await writeSysctl(path, '0')
  })
}

/**
 * Disables IPv6 on a link, so that it has no IPv6 addresses and sends no neighbour discovery or MLD reports
 * by itself.
 * @returns false if the link does not exist or has no IPv6
 * @throws {OverlayError} `sysctl`
 */
export function disableIpv6(link: string): Promise<boolean> {
  const path = `${IPV6}/${link}/disable_ipv6`
  return unlessGone(async () => {
    if ((await readSysctl(path)) !== '1') await writeSysctl(path, '1')
  })
}

const PING_GROUPS = '/proc/sys/net/ipv4/ping_group_range'

/**
 * Allows a group ping sockets (icmp(7)) of both families where no group may have any, which is the kernel's
 * default ("1 0"). A range that somebody has chosen is left as it is.
 * @returns whether the group was added
 * @throws {OverlayError} `sysctl`
 */
export async function allowPingSockets(group: number): Promise<boolean> {
  const [lowest = 0, highest = 0] = (await readSysctl(PING_GROUPS)).split(/\s+/).map(Number)
  if (lowest <= highest) return false
  await writeSysctl(PING_GROUPS, `${group} ${group}`)
  return true
}

/** @returns false if a file of the sysctl does not exist */
async function unlessGone(access: () => Promise<void>): Promise<boolean> {
  try {
    await access()
    return true
  } catch (error) {
    if (isOverlayError(error) && systemErrorCode(error.cause) === 'ENOENT') return false
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
    const fix =
      `write ${value} to ${path} on this host, ` +
      'or let this process do it (CAP_NET_ADMIN, a writable /proc/sys/net)'
    throw new OverlayError('sysctl', `cannot write ${value} to ${path}: ${describeError(cause)}`, fix, {
      cause,
    })
  }
}
