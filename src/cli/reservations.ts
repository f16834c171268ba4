/** `overlayctl reserve` and `release`: subnets that stay a host's however long it is away (flannel: Documentation/reservations.md). */
import { randomBytes } from 'node:crypto'
import { type Options, UsageError } from '../daemon/options'
import type { Registry } from '../etcd/registry'
import type { Snapshot } from '../etcd/snapshot'
import {
  formatIpv4,
  formatMac,
  formatPrefix,
  type Ipv4Prefix,
  networkOf,
  parseIpv4,
  parseIpv4Prefix,
  parseMac,
  randomMac,
  samePrefix,
} from '../model/address'
import { OverlayError } from '../model/errors'
import { isReservation, type Lease, type UnreadableLease } from '../model/lease'
import { parseNetworkConfig } from '../model/network-config'
import { planReservation, type ReservationRequest } from '../plan/reserve'
import { missingConfig, withRegistry } from './config'
import { confirm } from './confirm'

/** A reservation as the operator wrote it. */
export interface ReserveFlags {
  readonly 'public-ip': string
  readonly mac?: string | undefined
  readonly subnet?: string | undefined
}

/** Changes by others that may come between reading and writing, one after another. */
const MOST_RACES = 10

/**
 * Reserves a subnet for a host: the one it has, the one asked for, or any that is free.
 * @throws {OverlayError} `reserve`, `out-of-subnets`, `no-config`; {ConfigError}
 */
export async function runReserve(options: Options, flags: ReserveFlags): Promise<void> {
  const wanted = readFlags(flags)
  await withRegistry(options, async (registry, signal) => {
    const refused: Ipv4Prefix[] = []
    for (let race = 0; race < MOST_RACES; race++) {
      const outcome = await reserveOnce(registry, options, { ...wanted, refused }, signal)
      if (outcome !== undefined) {
        process.stdout.write(`${outcome}\n`)
        return
      }
    }
    throw new OverlayError(
      'reserve',
      'others were faster each time',
      'look at overlayctl status, then try again',
    )
  })
}

/** @returns what was done, or `undefined` when someone was faster */
async function reserveOnce(
  registry: Registry,
  options: Options,
  request: ReservationRequest & { readonly refused: Ipv4Prefix[] },
  signal: AbortSignal,
): Promise<string | undefined> {
  const { config, leases } = await registry.snapshot(signal)
  if (config === undefined) throw missingConfig(options)
  const fresh = () => randomMac(randomBytes(6))
  const plan = planReservation(parseNetworkConfig(config), leases, request, Math.random, fresh)
  if (plan.kind === 'unchanged') return `unchanged: ${describe(plan.lease)} is reserved`
  if (plan.kind === 'convert') {
    const result = await registry.reserveLease(plan.lease, signal)
    return result.kind === 'updated' ? `reserved ${describe(result.lease)}, which it had` : undefined
  }
  const result = await registry.createReservation({ ipv4: plan.subnet, ipv6: undefined }, plan.value, signal)
  if (result.kind === 'created') return `reserved ${describe(result.lease)}`
  if (request.subnet !== undefined && 'reason' in result.by) {
    throw new OverlayError(
      'reserve',
      `${formatPrefix(plan.subnet)} is taken by ${result.by.key}, which cannot be read: ${result.by.reason}`,
      'choose another, or leave out --subnet',
    )
  }
  request.refused.push(plan.subnet)
  return undefined
}

/**
 * Deletes a reservation, and nothing else.
 * @throws {OverlayError} `release` when there is none, or when it is a live lease; `not-confirmed`
 */
export async function runRelease(options: Options, text: string, yes: boolean): Promise<void> {
  const subnet = readSubnet(text)
  const reservation = await withRegistry(options, async (registry, signal) =>
    findReservation(await registry.snapshot(signal), subnet),
  )
  await confirm(`Release ${describe(reservation)}? Anyone may take the subnet then.`, yes)
  await withRegistry(options, async (registry, signal) => {
    const changed = await registry.deleteLease(reservation, signal)
    if (changed === undefined) return
    throw new OverlayError(
      'release',
      `${reservation.key} was changed meanwhile; nothing was deleted`,
      'look at it, then try again',
    )
  })
  process.stdout.write(
    `released ${describe(reservation)}; if overlayd runs there it goes on with an ordinary lease\n`,
  )
}

function findReservation({ leases, unreadable }: Snapshot, subnet: Ipv4Prefix): Lease {
  const lease = leases.find((each) => samePrefix(each.subnet.ipv4, subnet))
  if (lease === undefined) throw noReservation(subnet, unreadable)
  if (isReservation(lease)) return lease
  throw new OverlayError(
    'release',
    `${describe(lease)} is a live lease and no reservation`,
    'nothing needs to be done: it ends by itself within a day after its host is gone',
  )
}

function noReservation(subnet: Ipv4Prefix, unreadable: readonly UnreadableLease[]): OverlayError {
  const name = formatPrefix(subnet).replace('/', '-')
  const broken = unreadable.find(({ key }) => key.endsWith(`/${name}`))
  if (broken === undefined) {
    return new OverlayError('release', `nobody has ${formatPrefix(subnet)}`, 'overlayctl status lists all')
  }
  return new OverlayError(
    'release',
    `${broken.key} cannot be read, so whose it is cannot be told: ${broken.reason}`,
    `delete it yourself if it is of no use: etcdctl del '${broken.key}'`,
  )
}

function describe({ subnet, value }: Lease): string {
  const mac = value.vtep === undefined ? '' : ` with the MAC ${formatMac(value.vtep.mac)}`
  return `${formatPrefix(subnet.ipv4)} for ${formatIpv4(value.publicIp)}${mac}`
}

function readFlags({
  'public-ip': publicIp,
  mac,
  subnet,
}: ReserveFlags): Omit<ReservationRequest, 'refused'> {
  return {
    publicIp: read('--public-ip', publicIp, parseIpv4, 'an IPv4 address such as 192.0.2.11'),
    mac: mac === undefined ? undefined : read('--mac', mac, parseMac, 'a MAC such as 02:00:00:00:00:01'),
    subnet: subnet === undefined ? undefined : readSubnet(subnet),
  }
}

/** Takes the bridge's address too: that is how subnet.env has it. */
function readSubnet(text: string): Ipv4Prefix {
  const { address, length } = read('the subnet', text, parseIpv4Prefix, 'a subnet such as 10.5.12.0/24')
  return networkOf(address, length)
}

function read<T>(name: string, text: string, parse: (text: string) => T | undefined, wanted: string): T {
  const value = parse(text)
  if (value !== undefined) return value
  throw new UsageError(`${name} is ${JSON.stringify(text)}: ${wanted} is wanted`)
}
