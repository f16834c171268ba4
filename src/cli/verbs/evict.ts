/**
 * `overlayctl evict`: deletes from etcd the key of a host that is gone, or an unreadable key. Refuses for a
 * live host.
 */

import { readSubnets } from '../../api/status-parts'
import { readDaemonStatus } from '../../client/daemon-status'
import type { Settings } from '../../client/settings'
import { askOwner } from '../../etcd/ask-owner'
import type { Snapshot } from '../../etcd/follow/snapshot'
import { print } from '../../host/streams'
import { readPreviousSubnets } from '../../host/subnet-env'
import { Kernel } from '../../kernel/kernel'
import { FAMILIES, formatIp, formatMac, formatPrefix, parseIp, parseIpPrefix } from '../../model/address'
import { evictLease, nameUnderSubnets, unenrollHost } from '../../model/commands'
import { parseNetworkConfig } from '../../model/config/network-config'
import { OverlayError } from '../../model/errors'
import { formatLeaseSubnet, isReservation, type Lease } from '../../model/lease'
import { formatVia, isClaim, type PrefixEntry } from '../../model/prefixes'
import { printable } from '../../model/printable'
import {
  type EvictedKey,
  type HostLife,
  judgeLife,
  keysMeant,
  leasesBeside,
  type SignsOfLife,
  shownName,
} from '../../plan/lease/evict'
import { macsOf, ownLease } from '../../plan/lease/find-own'
import { judgeClaims } from '../../plan/prefixes/standings'
import { linkName } from '../../plan/reconcile/desired'
import { auditRecord } from '../ask/audit-record'
import { pingEvidence, pingHost } from '../ask/signs-of-life'
import { type Announced, behindOf, describeBehind, holds } from '../ask/whereabouts'
import { withRegistry } from '../ask/with-registry'
import { confirm } from '../show/confirm'
import { hang, screenOf } from '../show/screen'

export interface EvictFlags {
  /** Evicts even if something answers at the PublicIP. */
  readonly force: boolean
  readonly dryRun: boolean
  readonly yes: boolean
}

/** Without a config, flannel's default is the best guess. */
const DEFAULT_VNI = 1
/** Milliseconds for etcd and the owner's answer; waiting for the owner takes up to 6 s. */
const PROBE_DEADLINE = 20_000

/**
 * Finds the key, checks whether its host is alive, asks the operator, and deletes the key if it has not
 * changed.
 * @param text a subnet, or a key as shown by status and doctor
 * @throws {OverlayError} `evict` if it is refused, `not-confirmed`
 */
export async function runEvict(settings: Settings, text: string, flags: EvictFlags): Promise<void> {
  const say = (line: string): void => {
    for (const each of hang('', printable(line), screenOf().width, 0)) print(`${each}\n`)
  }
  const snapshot = await withRegistry(settings, (registry, signal) => registry.snapshot(signal))
  const found = chosen(keysMeant(snapshot, text), text, snapshot)
  if (found.kind === 'unreadable') {
    const { key, reason } = found.lease
    say(`${key} cannot be read: ${reason}`)
    say('No host follows it. If its host is alive, it creates its key again, or takes another subnet.')
    return deleteIt(settings, found, flags, say)
  }
  const { lease } = found
  if (isReservation(lease)) {
    throw new OverlayError(
      'evict',
      `${describe(lease)} is a reservation: it stays for its host however long that is away`,
      `end it: overlayctl release ${subnetOf(lease)}, or of an enrolled host ${unenrollHost(lease.subnet)}`,
    )
  }
  await refuseOwn(settings, snapshot, lease)
  say(`asking whether the host of ${describe(lease)} is alive; that takes up to 6 s`)
  const [{ now, isRenewed }, answers] = await Promise.all([askEtcd(settings, lease), pingHost(lease)])
  const signs = { ...answers, isRenewed, isShared: leasesBeside(lease, snapshot.leases).length > 0 }
  for (const line of evidence(lease, signs, answers.problem)) say(`- ${line}`)
  refuseAlive(lease, judgeLife(signs), signs, flags.force)
  if (now === undefined) {
    say(`${lease.key} is gone, or belongs to another host now; nothing was deleted`)
    return
  }
  await deleteIt(settings, { kind: 'lease', lease: now }, flags, say)
}

function chosen(found: readonly EvictedKey[], text: string, snapshot: Snapshot): EvictedKey {
  const [first, ...more] = found
  if (first === undefined) {
    throw noKeyOf(text, snapshot)
  }
  if (more.length === 0) return first
  const keys = found.map(({ lease }) => `'${shownName(lease.key)}'`)
  throw new OverlayError(
    'evict',
    `${keys.length} keys have ${text}: ${keys.join(', ')}`,
    `name one: overlayctl evict ${keys[0]}`,
  )
}

/** The refusal of what is no key: it names the host that an address belongs to, and evicts none by it. */
export function noKeyOf(text: string, { leases, prefixes = [] }: Pick<Snapshot, 'leases' | 'prefixes'>) {
  const address = parseIp(text) ?? parseIpPrefix(text)?.address
  const holder = leases.find(({ subnet }) => [subnet.ipv4, subnet.ipv6].some((each) => holds(each, address)))
  if (holder !== undefined)
    return new OverlayError(
      'evict',
      `no host has the subnet ${JSON.stringify(text)}: it is in ${formatLeaseSubnet(holder.subnet)}`,
      `name that subnet: ${evictLease(holder.subnet)}`,
    )
  const behind = address && behindOf(announcedIn(prefixes), address)
  const announcer = leases.find(({ key }) => nameUnderSubnets(key) === behind?.hosts[0]?.host)
  if (behind !== undefined && announcer !== undefined)
    return new OverlayError(
      'evict',
      `${JSON.stringify(text)} is no subnet: ${describeBehind(text, behind)}`,
      `on that host: overlayctl withdraw ${behind.prefix}; ` +
        `where the host is gone, the prefix goes with its lease: ${evictLease(announcer.subnet)}`,
    )
  return new OverlayError('evict', `nobody has ${JSON.stringify(text)}`, 'overlayctl peers lists all')
}

/** How the claims in etcd stand among themselves, whatever a host has against one of them. */
const announcedIn = (prefixes: readonly PrefixEntry[]): Announced =>
  judgeClaims(prefixes.filter(isClaim), () => undefined).map(
    ({ claim: { host, announcement }, standing }) => ({
      prefix: formatPrefix(announcement.prefix),
      host,
      own: false,
      state: standing.kind,
      ...(announcement.via !== undefined && { via: formatVia(announcement.via) }),
    }),
  )

/** @throws {OverlayError} for the lease that this host uses */
async function refuseOwn(settings: Settings, { leases, config }: Snapshot, lease: Lease): Promise<void> {
  if (!(await isOwn(settings, leases, config, lease))) return
  throw new OverlayError(
    'evict',
    `${describe(lease)} is this host's own lease`,
    'give it back: overlayctl drain while overlayd runs, ' +
      'or overlayctl teardown --lease when it is stopped for good',
  )
}

async function isOwn(
  settings: Settings,
  leases: readonly Lease[],
  config: string | undefined,
  lease: Lease,
): Promise<boolean> {
  const status = await readDaemonStatus(settings['run-dir'], true).catch(() => undefined)
  const held = status?.lease
  // A lease that another host has overwritten belongs to that host.
  if (held?.state === 'conflict' || held?.state === 'drained') return false
  const evidence =
    held === undefined
      ? {
          subnetFile: await readPreviousSubnets(settings['subnet-file']).catch(() => undefined),
          devices: macsOf(await readDevices(config)),
        }
      : { daemon: readSubnets(held) }
  return ownLease(leases, evidence)?.key === lease.key
}

async function readDevices(config: string | undefined) {
  const kernel = await Kernel.open()
  try {
    const vni = vniOf(config)
    const links = await Promise.all(
      FAMILIES.map(async (family) => ({ family, link: await kernel.link(linkName(family, vni)) })),
    )
    return links.flatMap(({ family, link }) => (link === undefined ? [] : [{ family, link }]))
  } finally {
    kernel.close()
  }
}

function vniOf(config: string | undefined): number {
  try {
    return config === undefined ? DEFAULT_VNI : parseNetworkConfig(config).backend.vni
  } catch {
    return DEFAULT_VNI
  }
}

async function askEtcd(
  settings: Settings,
  lease: Lease,
): Promise<{ readonly now: Lease | undefined; readonly isRenewed: boolean }> {
  const { alive, now } = await withRegistry(
    settings,
    (registry, signal) => askOwner(registry, lease, signal),
    PROBE_DEADLINE,
  )
  return { now, isRenewed: alive }
}

function evidence(lease: Lease, signs: SignsOfLife, problem?: string): string[] {
  return [
    signs.isRenewed
      ? 'its etcd lease was renewed when its owner was asked'
      : 'nobody renewed its etcd lease when its owner was asked',
    ...pingEvidence(lease, signs, problem),
  ]
}

/** @throws {OverlayError} `evict` */
function refuseAlive(lease: Lease, life: HostLife, { publicIps }: SignsOfLife, force: boolean): void {
  if (life === 'alive') {
    throw new OverlayError(
      'evict',
      `the host of ${describe(lease)} is alive, and uses the subnet; nothing was deleted`,
      'on that host: overlayctl drain, or stop overlayd there, then overlayctl teardown --lease',
    )
  }
  if (life !== 'up' || force) return
  throw new OverlayError(
    'evict',
    `the host of ${describe(lease)} may be up: ${publicIps.map(formatIp).join(' and ')} answers, ` +
      'and containers there are reached through this lease; nothing was deleted',
    'if another machine answers, or the host is to lose the subnet: ' +
      `overlayctl evict --force ${subnetOf(lease)}`,
  )
}

async function deleteIt(
  settings: Settings,
  { kind, lease }: EvictedKey,
  { dryRun, yes }: EvictFlags,
  say: (line: string) => void,
): Promise<void> {
  const what = kind === 'lease' ? describe(lease) : lease.key
  if (dryRun) {
    say(`would be deleted (--dry-run): ${lease.key}`)
    return
  }
  await confirm(
    kind === 'lease'
      ? `Delete the lease of ${what}? The other hosts remove their routes to it, ` +
          'and any host may take the subnet.'
      : `Delete ${what}?`,
    yes,
  )
  const record = await auditRecord(settings, 'evict', what)
  const isDone = await withRegistry(settings, (registry, signal) =>
    registry.leases.deleteKey(lease, record, signal),
  )
  if (!isDone) {
    throw new OverlayError(
      'evict',
      `${lease.key} was changed meanwhile; nothing was deleted`,
      'check it: overlayctl peers, then try again',
    )
  }
  say(`deleted ${lease.key}${kind === 'lease' ? ` (${what})` : ''}`)
}

const subnetOf = ({ subnet: { ipv4, ipv6 } }: Lease): string =>
  formatLeaseSubnet(ipv4 === undefined ? { ipv4, ipv6 } : { ipv4, ipv6: undefined })

function describe({ subnet, value: { publicIp, publicIpv6, vtep, vtep6 } }: Lease): string {
  const host = subnet.ipv4 === undefined ? publicIpv6 : publicIp
  const mac = (vtep ?? vtep6)?.mac
  const address = host === undefined ? '' : ` at ${formatIp(host)}`
  return `${formatLeaseSubnet(subnet)}${address}${mac === undefined ? '' : ` with the MAC ${formatMac(mac)}`}`
}
