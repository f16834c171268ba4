/** Announced prefixes: those besides its subnet for which a host has packets sent to it. */
import { formatIp, type IpAddress, type Prefix, parseIp } from './address'
import type { EtcdLeaseId, Revision } from './lease'

/** The highest priority, which wins over all lower ones. */
export const MOST_PRIORITY = 65_535
/** Between the extremes, so that another host can be preferred as well as put behind. */
export const DEFAULT_PRIORITY = 100
/** Most announcements of one host that are followed: its oldest ones. */
export const MOST_OF_HOST = 1024
/** Most hosts that share one prefix: the oldest claims. */
export const MOST_SHARING = 16
/** The largest weight of a host that shares: struct rtnexthop has one byte for it (linux/rtnetlink.h). */
export const MOST_WEIGHT = 255
/** Most further subnets of one host, of both families together. */
export const MOST_FURTHER = 16
/** Most entries of a network that are kept. */
export const MOST_PREFIX_ENTRIES = 65_536

/**
 * Where the announcing host sends packets to its prefix: to the hosts of a link, such as a bridge of
 * containers, or to a gateway on one.
 */
export type Via =
  | { readonly kind: 'link'; readonly name: string }
  | { readonly kind: 'gateway'; readonly address: IpAddress }

/** The most characters of {@link formatVia}: an IPv6 address has more than the name of a link. */
export const MOST_VIA_TEXT = 64

/** Names of links as the kernel takes them (dev_valid_name, net/core/dev.c), without control characters. */
const LINK_NAME = /^(?!\.{1,2}$)[!-.0-9;-~]{1,15}$/

/** `br-moving` or `10.5.1.9`; `undefined` for what is neither. */
export function parseVia(text: string): Via | undefined {
  const address = parseIp(text)
  if (address !== undefined) return { kind: 'gateway', address }
  return LINK_NAME.test(text) ? { kind: 'link', name: text } : undefined
}

export const formatVia = (via: Via): string => (via.kind === 'link' ? via.name : formatIp(via.address))

const sameVia = (a: Via | undefined, b: Via | undefined): boolean =>
  a === undefined || b === undefined ? a === b : formatVia(a) === formatVia(b)

/** What a host announces. */
export interface Announcement {
  /** Without host bits. */
  readonly prefix: Prefix
  /** 0 to {@link MOST_PRIORITY}. */
  readonly priority: number
  /** When it ends, in milliseconds since 1970; `undefined` for the end of the host's lease. */
  readonly until: number | undefined
  /** `undefined` where the routes of the host are left alone. Nothing to other hosts. */
  readonly via: Via | undefined
  /**
   * The weight, 1 to {@link MOST_WEIGHT}, with which this host shares the packets with other hosts that share
   * the prefix with the same priority; absent where it shares with nobody.
   */
  readonly share?: number | undefined
  /** Whether it is a further subnet of the host, for its containers; absent for no. */
  readonly further?: boolean | undefined
}

/** One key in etcd. */
export type PrefixEntry = {
  /** The rest of the key: `10.5.12.0-24/10.5.240.7-32`. */
  readonly name: string
  readonly modRevision: Revision
} & (
  | {
      /** The name of the announcing host's subnet below `subnets/`. */
      readonly host: string
      readonly announcement: Announcement
      /** When the key was made, which writing it again does not change: an older claim has a smaller one. */
      readonly claimedAt: Revision
      readonly etcdLease: EtcdLeaseId
      readonly reason?: never
    }
  | { readonly reason: string; readonly announcement?: never }
)

/** A readable entry. */
export type PrefixClaim = Extract<PrefixEntry, { readonly announcement: Announcement }>

export const isClaim = (entry: PrefixEntry): entry is PrefixClaim => entry.reason === undefined

export const sameAnnouncement = (a: Announcement, b: Announcement): boolean =>
  a.prefix.address === b.prefix.address &&
  a.prefix.length === b.prefix.length &&
  a.priority === b.priority &&
  a.until === b.until &&
  sameVia(a.via, b.via) &&
  a.share === b.share &&
  a.further === b.further

/** A prefix as part of a key: `10.5.240.7-32`. */
export const prefixName = ({ address, length }: Prefix): string => `${formatIp(address)}-${length}`
