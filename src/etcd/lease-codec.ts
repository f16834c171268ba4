/**
 * The value of a lease: compact JSON with its fields in a fixed order (flannel: pkg/lease/lease.go,
 * pkg/backend/vxlan/vxlan.go), read by Go's rules.
 */
import { z } from 'zod'
import {
  formatIpv4,
  formatIpv6,
  formatMac,
  type Ipv6,
  parseIpv4,
  parseIpv6,
  parseMac,
} from '../model/address'
import { firstIssue, foldGoObject, goField, parseGoObject } from '../model/go-json'
import type { EtcdLeaseId, Lease, LeaseValue, Revision, UnreadableLease, Vtep } from '../model/lease'
import { type Decoded, type Keys, parseSubnetName } from './keys'

/** The parts of etcd's KeyValue message that we read. */
export interface KeyValue {
  readonly key: Buffer
  readonly value: Buffer
  readonly mod_revision: string
  readonly lease: string
}

/** The lease's value as flannel writes it, byte for byte. */
export function encodeLeaseValue(value: LeaseValue): string {
  return JSON.stringify({
    PublicIP: formatIpv4(value.publicIp),
    PublicIPv6: value.publicIpv6 === undefined ? null : formatIpv6(value.publicIpv6),
    // Go omits an empty string, JSON.stringify an undefined field.
    BackendType: value.backendType === '' ? undefined : value.backendType,
    BackendData: encodeVtep(value.vtep),
    BackendV6Data: encodeVtep(value.vtep6),
  })
}

// Fields that flannel does not know are passed over by it; it writes none, so ours come last and only where they say something.
const encodeVtep = (vtep: Vtep | undefined) =>
  vtep === undefined
    ? undefined
    : { VNI: vtep.vni, VtepMAC: formatMac(vtep.mac), MulticastVNI: vtep.multicast }

const LEASE_FIELDS = ['PublicIP', 'PublicIPv6', 'BackendType', 'BackendData', 'BackendV6Data'] as const
const VTEP_FIELDS = ['VNI', 'VtepMAC', 'MulticastVNI'] as const

const parsedBy = <T>(parse: (text: string) => T | undefined, what: string) =>
  z.string().transform((text, context) => {
    const value = parse(text)
    if (value !== undefined) return value
    context.addIssue({ code: 'custom', message: `${quote(text)} is not ${what}` })
    return z.NEVER
  })

const leaseSchema = z.object({
  // No default, unlike Go's 0.0.0.0: a host without an address is none we can send to.
  PublicIP: parsedBy(parseIpv4, 'an IPv4 address'),
  PublicIPv6: goField(parsedBy(parseAnyIp, 'an IP address')),
  BackendType: goField(z.string()),
  BackendData: z.unknown().optional(),
  BackendV6Data: z.unknown().optional(),
})

const vtepSchema = z.object({
  VNI: goField(z.int().min(0).max(0xffffffff)),
  VtepMAC: parsedBy(parseMac, 'a MAC address'),
  // What is no VNI costs the host its multicast, and not its packets.
  MulticastVNI: z.int().min(1).max(0xffffff).optional().catch(undefined),
})

/**
 * Reads a lease's value. The data of another backend than vxlan is opaque; vxlan data that cannot be read leaves
 * `vtep` undefined, for the lease still holds its subnet and still belongs to its `PublicIP`.
 */
export function decodeLeaseValue(text: string): Decoded<LeaseValue> {
  let fields: Partial<Record<(typeof LEASE_FIELDS)[number], unknown>>
  try {
    fields = parseGoObject(text, LEASE_FIELDS)
  } catch (error) {
    return refuse(`the value is not a JSON object: ${error instanceof Error ? error.message : String(error)}`)
  }
  if (fields.PublicIP === undefined) return refuse('the value has no PublicIP')
  const result = leaseSchema.safeParse(fields)
  if (!result.success) return refuse(`the value is not valid: ${firstIssue(result.error)}`)
  const { PublicIP, PublicIPv6, BackendType = '', BackendData, BackendV6Data } = result.data
  const isVxlan = BackendType === 'vxlan'
  return {
    value: {
      publicIp: PublicIP,
      publicIpv6: PublicIPv6,
      backendType: BackendType,
      vtep: isVxlan ? decodeVtep(BackendData) : undefined,
      vtep6: isVxlan ? decodeVtep(BackendV6Data) : undefined,
    },
  }
}

function decodeVtep(data: unknown): Vtep | undefined {
  if (typeof data !== 'object' || data === null || Array.isArray(data)) return undefined
  const result = vtepSchema.safeParse(foldGoObject(data, VTEP_FIELDS))
  if (!result.success) return undefined
  const { VNI: vni = 0, VtepMAC: mac, MulticastVNI: multicast } = result.data
  return multicast === undefined ? { vni, mac } : { vni, mac, multicast }
}

/** Go takes IPv4 text for an IPv6 field and keeps it as an IPv4-mapped address (RFC 4291, 2.5.5.2). */
function parseAnyIp(text: string): Ipv6 | undefined {
  return parseIpv6(parseIpv4(text) === undefined ? text : `::ffff:${text}`)
}

/** Reads a key under `subnets/` with its value. Never throws: what cannot be read is one unreadable lease. */
export function decodeLease(keys: Keys, kv: KeyValue): Lease | UnreadableLease {
  const key = kv.key.toString()
  const modRevision = toRevision(kv.mod_revision)
  const subnet = parseSubnetName(key.slice(keys.subnets.length))
  if (subnet.reason !== undefined) return { key, reason: subnet.reason, modRevision }
  const value = decodeLeaseValue(kv.value.toString())
  if (value.reason !== undefined) return { key, reason: value.reason, modRevision }
  return { key, subnet: subnet.value, value: value.value, etcdLease: kv.lease as EtcdLeaseId, modRevision }
}

export const isReadable = (lease: Lease | UnreadableLease): lease is Lease => !('reason' in lease)

/** A revision as etcd's client gives it: decimal text, for it has 64 bits. */
export const toRevision = (text: string): Revision => BigInt(text) as Revision

const quote = (text: string) => JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}...` : text)

/** Reasons are shown on terminals, and anyone who may write to etcd chooses the text. */
const refuse = (reason: string) => ({ reason: reason.replace(/\p{C}/gu, '?').slice(0, 300) })
