/**
 * `overlayctl reserve` and `release`: subnets that stay with a host however long it is away (flannel:
 * Documentation/reservations.md).
 */
import { randomBytes } from 'node:crypto'
import type { Snapshot } from '../../etcd/follow/snapshot'
import { NO_GROUPS, type Registry } from '../../etcd/registry'
import type { OperatorWrite } from '../../etcd/reservations'
import { racing } from '../../etcd/transactions'
import { print } from '../../host/streams'
import {
  formatIp,
  formatMac,
  formatPrefix,
  networkOf,
  type Prefix,
  parseIpv4,
  parseIpv4Prefix,
  parseIpv6,
  parseIpv6Prefix,
  parseMac,
  randomMac,
  samePrefix,
} from '../../model/address'
import { evictKey, evictLease, unenrollHost } from '../../model/commands'
import { parseNetworkConfig } from '../../model/config/network-config'
import { OverlayError } from '../../model/errors'
import type { HostRecord } from '../../model/host-record'
import {
  formatLeaseSubnet,
  isReservation,
  type Lease,
  type LeaseSubnet,
  type UnreadableLease,
} from '../../model/lease'
import type { Options } from '../../options/schema'
import { UsageError } from '../../options/usage-error'
import { planReservation, type ReservationRequest } from '../../plan/lease/reserve'
import { auditRecord } from '../ask/audit-record'
import { missingConfig, withRegistry } from '../ask/with-registry'
import { confirm } from '../show/confirm'

/** A reservation as the operator typed it. */
export interface ReserveFlags {
  readonly 'public-ip'?: string | undefined
  readonly 'public-ipv6'?: string | undefined
  readonly mac?: string | undefined
  readonly subnet?: string | undefined
  readonly 'ipv6-subnet'?: string | undefined
}

/** Most retries after someone else's write came between reading and writing. */
const MOST_RACES = 10

/**
 * Reserves a subnet for a host: the one it has, the one asked for, or any that is free.
 * @throws {OverlayError} `reserve`, `out-of-subnets`, `no-config`; {ConfigError}
 */
export async function runReserve(options: Options, flags: ReserveFlags): Promise<void> {
  const wanted = readReserveFlags(flags)
  await withRegistry(options, async (registry, signal) => {
    const refused: LeaseSubnet[] = []
    const request = { ...wanted, refused }
    const { ipv4, ipv6 } = wanted.subnet
    // The host itself decides which of its subnets it uses, unless the operator names one.
    const how = { verb: 'reserve', isNoted: (ipv4 ?? ipv6) !== undefined }
    const { outcome } = await reserveFor(registry, options, request, how, signal)
    print(`${outcome}\n`)
  })
}

/** How a subnet is reserved. */
interface Reserving {
  /** The command, for the audit. */
  readonly verb: string
  /** Whether a note says for whom a lease is reserved that the host has already. */
  readonly isNoted: boolean
  /** The record of the host, where the subnet is enrolled for it. */
  readonly hostRecord?: (subnet: LeaseSubnet) => Promise<HostRecord>
}

interface Reserved {
  /** What was done, in words. */
  readonly outcome: string
  readonly lease: Lease
}

/**
 * Reserves a subnet.
 * @throws {OverlayError} as {@link runReserve}
 */
export async function reserveFor(
  registry: Registry,
  options: Options,
  request: ReservationRequest & { readonly refused: LeaseSubnet[] },
  how: Reserving,
  signal: AbortSignal,
): Promise<Reserved> {
  const done = await racing(MOST_RACES, () => reserveOnce(registry, options, request, how, signal))
  if (done !== undefined) return done
  throw new OverlayError('reserve', 'others were faster each time', 'see overlayctl status, then try again')
}

/** @returns what was done; `undefined` if someone else was faster */
async function reserveOnce(
  registry: Registry,
  options: Options,
  request: ReservationRequest & { readonly refused: LeaseSubnet[] },
  { verb, isNoted, hostRecord }: Reserving,
  signal: AbortSignal,
): Promise<Reserved | undefined> {
  const { config, leases } = await registry.snapshot(signal, NO_GROUPS)
  if (config === undefined) throw missingConfig(options)
  const fresh = () => randomMac(randomBytes(6))
  const plan = planReservation(parseNetworkConfig(config), leases, request, Math.random, fresh)
  const write = async (place: Pick<Lease, 'subnet' | 'value'>, more = ''): Promise<OperatorWrite> => ({
    record: await auditRecord(options, verb, `${describeReserved(place)}${more}`),
    isNoted,
    ...(hostRecord !== undefined && { host: await hostRecord(place.subnet) }),
  })
  if (plan.kind === 'unchanged') {
    const { lease } = plan
    const isWritten = isNoted || hostRecord !== undefined
    if (isWritten && !(await registry.reservations.note(lease, await write(lease), signal))) return undefined
    return { outcome: `unchanged: ${describeReserved(lease)} is reserved`, lease }
  }
  if (plan.kind === 'convert') {
    const had = ', which it had'
    const result = await registry.reservations.reserve(plan.lease, await write(plan.lease, had), signal)
    if (result.kind !== 'updated') return undefined
    return { outcome: `reserved ${describeReserved(result.lease)}${had}`, lease: result.lease }
  }
  const noted = { ...(await write(plan)), isNoted: true }
  const result = await registry.reservations.create(plan.subnet, plan.value, signal, noted)
  // The same reservation of another operator has no record of the host beside it.
  const isWhole = hostRecord === undefined || (await registry.reservations.hostOf(plan.subnet, signal))
  if (result.kind === 'created' && !isWhole) return undefined
  if (result.kind === 'created')
    return { outcome: `reserved ${describeReserved(result.lease)}`, lease: result.lease }
  const { ipv4, ipv6 } = request.subnet
  const isNamed = (ipv4 ?? ipv6) !== undefined
  if (isNamed && 'reason' in result.by) {
    throw new OverlayError(
      'reserve',
      `${formatLeaseSubnet(plan.subnet)} is taken by ${result.by.key}, ` +
        `which cannot be read: ${result.by.reason}`,
      'choose another, or leave it out',
    )
  }
  request.refused.push(plan.subnet)
  return undefined
}

/**
 * Deletes a reservation, and nothing else.
 * @throws {OverlayError} `release` if there is none, or if it is a live lease; `not-confirmed`
 */
export async function runRelease(options: Options, text: string, yes: boolean): Promise<void> {
  const subnet = readSubnet(text)
  const reservation = await withRegistry(options, async (registry, signal) =>
    findReservation(await registry.snapshot(signal, NO_GROUPS), subnet),
  )
  await refuseEnrolled(options, reservation)
  await confirm(`Release ${describeReserved(reservation)}? Any host may take the subnet then.`, yes)
  const record = await auditRecord(options, 'release', describeReserved(reservation))
  await withRegistry(options, async (registry, signal) => {
    const changed = await registry.reservations.delete(reservation, record, signal)
    if (changed === undefined) return
    throw new OverlayError(
      'release',
      `${reservation.key} was changed meanwhile; nothing was deleted`,
      'check it, then try again',
    )
  })
  print(
    `released ${describeReserved(reservation)}; ` +
      'if overlayd runs there, it continues with an ordinary lease\n',
  )
}

/** @throws {OverlayError} `release` where a host is enrolled: its identity and user would stay */
async function refuseEnrolled(options: Options, { subnet }: Lease): Promise<void> {
  const host = await withRegistry(options, (registry, signal) => registry.reservations.hostOf(subnet, signal))
  if (host === undefined) return
  throw new OverlayError(
    'release',
    `a host is enrolled for ${formatLeaseSubnet(subnet)}`,
    `end its enrolment: ${unenrollHost(subnet)}`,
  )
}

function findReservation({ leases, unreadable }: Snapshot, wanted: Prefix): Lease {
  const lease = leases.find(({ subnet: { ipv4, ipv6 } }) =>
    [ipv4, ipv6].some((subnet) => subnet !== undefined && samePrefix(subnet, wanted)),
  )
  if (lease === undefined) throw noReservation(wanted, unreadable)
  if (isReservation(lease)) return lease
  throw new OverlayError(
    'release',
    `${describeReserved(lease)} is a live lease, not a reservation`,
    `it ends by itself within a day after its host is gone; to end it now: ${evictLease(lease.subnet)}`,
  )
}

function noReservation(wanted: Prefix, unreadable: readonly UnreadableLease[]): OverlayError {
  const name = formatPrefix(wanted).replace('/', '-')
  const broken = unreadable.find(({ key }) => key.endsWith(`/${name}`))
  if (broken === undefined) {
    return new OverlayError('release', `nobody has ${formatPrefix(wanted)}`, 'overlayctl status lists all')
  }
  return new OverlayError(
    'release',
    `${broken.key} cannot be read, so its owner is not known: ${broken.reason}`,
    `if it is not needed: ${evictKey(broken.key)}`,
  )
}

export function describeReserved({
  subnet,
  value: { publicIp, publicIpv6, vtep, vtep6 },
}: Pick<Lease, 'subnet' | 'value'>): string {
  const host = subnet.ipv4 === undefined ? publicIpv6 : publicIp
  const macs = [vtep, vtep6].filter((each) => each !== undefined).map(({ mac }) => formatMac(mac))
  const owner = host === undefined ? '' : ` for ${formatIp(host)}`
  const devices = macs.length === 0 ? '' : ` with the MAC ${macs.join(' and ')}`
  return `${formatLeaseSubnet(subnet)}${owner}${devices}`
}

export function readReserveFlags(flags: ReserveFlags): Omit<ReservationRequest, 'refused'> {
  return {
    publicIp: read(flags, 'public-ip', parseIpv4, 'an IPv4 address such as 192.0.2.11'),
    publicIpv6: read(flags, 'public-ipv6', parseIpv6, 'an IPv6 address such as 2001:db8::11'),
    mac: read(flags, 'mac', parseMac, 'a MAC such as 02:00:00:00:00:01'),
    subnet: {
      ipv4: read(flags, 'subnet', masked(parseIpv4Prefix), 'a subnet such as 10.5.12.0/24'),
      ipv6: read(flags, 'ipv6-subnet', masked(parseIpv6Prefix), 'a subnet such as fd00:5:0:37::/64'),
    },
  }
}

function read<T>(
  flags: ReserveFlags,
  name: keyof ReserveFlags,
  parse: (text: string) => T | undefined,
  wanted: string,
): T | undefined {
  const text = flags[name]
  if (text === undefined) return undefined
  const value = parse(text)
  if (value !== undefined) return value
  throw new UsageError(`the flag --${name} is ${JSON.stringify(text)}: expected ${wanted}`)
}

/** Clears the host bits: subnet.env shows the subnet with the bridge's address. */
const masked =
  <P extends Prefix>(parse: (text: string) => P | undefined) =>
  (text: string): P | undefined => {
    const prefix = parse(text)
    return prefix && (networkOf(prefix.address, prefix.length) as P)
  }

/** @throws {UsageError} */
export function readSubnet(text: string): Prefix {
  const subnet = masked(parseIpv4Prefix)(text) ?? masked(parseIpv6Prefix)(text)
  if (subnet !== undefined) return subnet
  throw new UsageError(`the subnet is ${JSON.stringify(text)}: expected a subnet such as 10.5.12.0/24`)
}
