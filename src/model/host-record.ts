/** What operators have noted of an enrolled host. */
import type { LeaseSubnet, Revision } from './lease'

declare const brand: unique symbol
/** An Ed25519 public key (RFC 8032): 32 bytes in base64 with padding, 44 characters. */
export type IdentityKey = string & { readonly [brand]: 'IdentityKey' }

/** Reads a key: canonical base64 only (RFC 4648, 3.5), and not the null key, which is none of a host. */
export function parseIdentityKey(text: string): IdentityKey | undefined {
  if (!/^[A-Za-z0-9+/]{43}=$/.test(text)) return undefined
  const bytes = Buffer.from(text, 'base64')
  return bytes.toString('base64') === text && bytes.some((byte) => byte !== 0)
    ? (text as IdentityKey)
    : undefined
}

/** The record of the host that a subnet is enrolled for. */
export interface HostRecord {
  /** The identity that leases of the subnet have to prove; absent where any host may announce them. */
  readonly identity?: IdentityKey
  /** The user of etcd, and the role of the same name, that enrolment made. */
  readonly user?: string
}

/** One record in etcd, by the name of its subnets there. */
export interface HostEntry {
  readonly name: string
  readonly modRevision: Revision
  /** `undefined` for a name that is that of no subnet. */
  readonly subnet: LeaseSubnet | undefined
  readonly record: HostRecord | { readonly reason: string }
}

/** Why the record is unreadable; `undefined` if it is not. */
export const whyUnreadable = ({ record }: HostEntry): string | undefined =>
  'reason' in record ? record.reason : undefined

/** The record, if it is readable. */
export const readableRecord = ({ record }: HostEntry): HostRecord | undefined =>
  'reason' in record ? undefined : record
