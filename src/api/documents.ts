/**
 * Documents of overlayctl besides the status, as `-o json` prints them and `--schema` describes them. Fields
 * are only added.
 */
import { z } from 'zod'
import { KINDS_REVERSED, type Kind } from '../model/kernel/objects'
import { statusSchema } from './status'
import { DOCUMENT_SCHEMA, OBJECT_STATES, PING_PARTS } from './words'

/** An announced prefix with an address that is in no subnet, and the hosts that get its packets. */
export const behindSchema = z.object({
  prefix: z.string(),
  /** The best first. Several share the packets. */
  hosts: z.array(
    z.object({
      /** The name of the host's subnet in etcd. */
      host: z.string(),
      /** Whether it is this host. */
      own: z.boolean(),
      /** The link or gateway to which that host sends the packets; absent where its own routes lead. */
      via: z.string().optional(),
    }),
  ),
})
export type Behind = z.infer<typeof behindSchema>

/** What `overlayctl peers -o json` prints. */
export const peersDocumentSchema = z.object({
  schema: z.literal(DOCUMENT_SCHEMA),
  /** Why the peers are not known; then `peers` is empty. */
  unknown: z.string().optional(),
  /** The number of all peers. */
  total: z.number(),
  peers: statusSchema.shape.peers,
  /** Where the address that is looked for is in no subnet: which hosts announce it; absent for none. */
  behind: behindSchema.optional(),
  /** Why it is not known whether a host announces that address. */
  behindUnknown: z.string().optional(),
})
export type PeersDocument = z.infer<typeof peersDocumentSchema>

/** What `overlayctl lease -o json` prints. */
export const leaseDocumentSchema = z.object({
  schema: z.literal(DOCUMENT_SCHEMA),
  /** Whether a daemon maintains the lease. */
  daemonRunning: z.boolean(),
  /** Why it is not known whether this host has a lease. */
  unknown: z.string().optional(),
  /** Why this host has none. */
  waiting: z.string().optional(),
  /** Absent where this host has no lease, or where that is not known. */
  lease: statusSchema.shape.lease,
})
export type LeaseDocument = z.infer<typeof leaseDocumentSchema>

/**
 * `wins`: packets to the prefix go to that host. `shares`: some of them do, others go to hosts that share
 * with it. `waits`: another host has the better claim. `refused`: the claim is not followed. `unreadable`:
 * the key or its value is not valid.
 */
export const PREFIX_STATES = ['wins', 'shares', 'waits', 'refused', 'unreadable'] as const

/** What `overlayctl prefixes -o json` prints, and the answer to `GET /prefixes`. */
export const prefixesDocumentSchema = z.object({
  schema: z.literal(DOCUMENT_SCHEMA),
  /** Ranges of the network config in which hosts may announce. */
  allowed: z.array(z.string()),
  /** The claims of one prefix together, the best first; then what cannot be read. */
  prefixes: z.array(
    z.object({
      /** Of an unreadable one: its key below overlay/prefixes/. */
      prefix: z.string(),
      /** The name of the announcing host's subnet in etcd; absent of an unreadable one. */
      host: z.string().optional(),
      /** Whether it is this host. */
      own: z.boolean(),
      priority: z.number().optional(),
      /** When the announcement ends; absent where it ends with the lease of its host. */
      until: z.iso.datetime().optional(),
      /** The link or gateway to which the announcing host sends packets; absent where its own routes lead. */
      via: z.string().optional(),
      /** Of this host: why its packets get no further, though the link is there; absent where they may. */
      silence: z.string().optional(),
      /** The weight with which that host shares with others; absent where it shares with nobody. */
      share: z.number().optional(),
      /** Whether it is a further subnet of the host (`overlayctl lease add`); absent for no. */
      further: z.boolean().optional(),
      state: z.enum(PREFIX_STATES),
      /** Why it does not win, or gets no packets of this host though it shares. */
      reason: z.string().optional(),
    }),
  ),
  /** Keys that are not among `prefixes`, for there are more than are kept; absent for none. */
  more: z.number().optional(),
  /** Why etcd does not have what this host announces; absent when it has. */
  problem: z.string().optional(),
})
export type PrefixesDocument = z.infer<typeof prefixesDocumentSchema>

/** What `overlayctl audit -o json` prints. */
export const auditDocumentSchema = z.object({
  schema: z.literal(DOCUMENT_SCHEMA),
  /** The newest first. */
  records: z.array(
    z.object({
      /** Counts the records from 1. */
      number: z.number(),
      time: z.iso.datetime(),
      /** The user of etcd; absent where etcd asked for none. */
      etcdUser: z.string().optional(),
      /** User and name of the machine where the command ran, as that machine said. */
      user: z.string(),
      host: z.string(),
      verb: z.string(),
      what: z.string(),
    }),
  ),
  /** Records that cannot be read. */
  unreadable: z.array(z.object({ number: z.number(), reason: z.string() })),
})
export type AuditDocument = z.infer<typeof auditDocumentSchema>

/** What `overlayctl ping -o json` prints. */
export const pingDocumentSchema = z.object({
  schema: z.literal(DOCUMENT_SCHEMA),
  target: z.string(),
  /** The host that was asked for, or that has the container. */
  host: z.object({ subnet: z.string(), publicIp: z.string() }),
  /** The announced prefix with the target, where it is in no subnet; absent where it is. */
  behind: behindSchema.optional(),
  /** How packets leave this host for it; absent in a network without encryption. */
  encryption: statusSchema.shape.peers.element.shape.encryption,
  probes: z.array(
    z.object({
      part: z.enum(PING_PARTS),
      address: z.string(),
      /** Bytes of a packet, IP header included. */
      size: z.number(),
      sent: z.number(),
      received: z.number(),
      /** Mean. */
      rttMs: z.number().optional(),
    }),
  ),
  /** The first part that does not work, seen from below; absent where all packets were answered. */
  fails: z.enum(PING_PARTS).optional(),
})
export type PingDocument = z.infer<typeof pingDocumentSchema>

export type ObjectKind = 'device' | Kind
const OBJECT_KINDS: readonly ObjectKind[] = ['device', ...KINDS_REVERSED]

/** Objects of the kernel, compared with the desired ones. */
const comparedObjectsSchema = z.array(
  z.object({
    kind: z.enum(OBJECT_KINDS),
    object: z.string(),
    state: z.enum(OBJECT_STATES),
    found: z.string().optional(),
  }),
)

/** Answer to `GET /objects`. */
export const objectsDocumentSchema = z.object({
  schema: z.literal(DOCUMENT_SCHEMA),
  objects: comparedObjectsSchema,
})
export type ObjectsDocument = z.infer<typeof objectsDocumentSchema>

/** What `overlayctl routes -o json` prints. */
export const routesDocumentSchema = z.object({
  schema: z.literal(DOCUMENT_SCHEMA),
  /**
   * Whether a daemon gave the desired objects. Without one they are those of the leases in etcd, valid or
   * not.
   */
  daemonRunning: z.boolean(),
  /** Why the desired objects are not known; then no object is `extra`. */
  unknown: z.string().optional(),
  /**
   * Without a daemon: shared prefixes whose routes lead to other hosts than all who share. They are
   * `unknown`: a daemon leaves out hosts that its probes do not reach. Absent for none.
   */
  unprobed: z.array(z.string()).optional(),
  /** Of all objects, also of those that a flag leaves out. */
  counts: z.partialRecord(z.enum(OBJECT_STATES), z.number()),
  objects: comparedObjectsSchema,
})
export type RoutesDocument = z.infer<typeof routesDocumentSchema>
