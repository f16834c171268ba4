/**
 * The status document: what the daemon serves on its control socket and `overlayctl status -o json` prints. Fields are only added
 * within one `schema` number. Times are in seconds, addresses in their usual text.
 */
import { z } from 'zod'
import { FAMILIES } from '../model/address'

export const STATUS_SCHEMA = 1

/** Peers in a brief document: as many as a person is shown unasked, so that all of it stays on one screen. */
export const BRIEF_PEERS = 8

export const PEER_STATES = ['ok', 'held', 'pending', 'failing', 'rejected'] as const
export type PeerState = (typeof PEER_STATES)[number]

/** One family's half of a lease: a host with both is there twice. */
const peerSchema = z.object({
  subnet: z.string(),
  publicIp: z.string(),
  mac: z.string(),
  /**
   * `ok`: in the kernel. `held`: in the kernel, and gone from etcd together with most others. `pending`: being programmed. `failing`: the
   * kernel refuses it. `rejected`: not believed.
   */
  state: z.enum(PEER_STATES),
  /** Why it is not `ok`, or why a newer lease of an `ok` peer is not followed. */
  reason: z.string().optional(),
})

const deviceSchema = z.object({
  name: z.string(),
  index: z.number(),
  mac: z.string(),
  mtu: z.number(),
  local: z.string().optional(),
  underlay: z.string().optional(),
  up: z.boolean(),
})

export const statusSchema = z.object({
  schema: z.literal(STATUS_SCHEMA),
  version: z.string(),
  /** `healthy`: carries traffic and follows etcd. `degraded`: `problems` says what is wrong. */
  state: z.enum(['healthy', 'degraded']),
  problems: z.array(z.string()),
  daemon: z.object({
    running: z.boolean(),
    pid: z.number().optional(),
    uptimeSeconds: z.number().optional(),
    /** What it is doing: `waiting-for-config`, `waiting-for-subnet`, `starting`, `running`; `down` when it does not run. */
    phase: z.enum(['waiting-for-config', 'waiting-for-subnet', 'starting', 'running', 'down']),
  }),
  network: z
    .object({
      etcdPrefix: z.string(),
      /** These two where the network has IPv4, the next two where it has IPv6. */
      network: z.string().optional(),
      subnetLength: z.number().optional(),
      ipv6Network: z.string().optional(),
      ipv6SubnetLength: z.number().optional(),
      backend: z.string(),
      vni: z.number(),
      port: z.number().optional(),
    })
    .optional(),
  lease: z
    .object({
      subnet: z.string().optional(),
      publicIp: z.string().optional(),
      ipv6Subnet: z.string().optional(),
      publicIpv6: z.string().optional(),
      /** `drained`: given back by request of an operator (`overlayctl drain`). */
      state: z.enum(['held', 'conflict', 'lost', 'drained', 'unknown']),
      /** When this daemon took it, or found it in that state; ISO 8601. */
      since: z.string().optional(),
      /** Whether it is kept for this host however long it is away (`overlayctl reserve`). */
      reserved: z.boolean().optional(),
      /** etcd's revision of the last write to its key. */
      modRevision: z.string().optional(),
      /** Hexadecimal, as etcdctl shows it; absent for a reservation. */
      etcdLease: z.string().optional(),
      expiresInSeconds: z.number().optional(),
      /** What is wrong, and what to do about it; absent when the lease is held and etcd takes its renewals. */
      reason: z.string().optional(),
    })
    .optional(),
  /** What peers' routes are to be like; absent when the daemon is down. */
  routing: z
    .object({
      /** Whether peers on the same link are reached past the device. */
      directRouting: z.boolean(),
      /** Whether what goes to nobody in this host's subnet is dropped by a route. */
      blackhole: z.boolean(),
    })
    .optional(),
  device: deviceSchema.optional(),
  ipv6Device: deviceSchema.optional(),
  etcd: z.object({
    endpoints: z.array(z.string()),
    connected: z.boolean(),
    latencyMs: z.number().optional(),
    revision: z.string().optional(),
    error: z.string().optional(),
  }),
  /** What this host remembers over a reboot; absent when the daemon is down. */
  stateFile: z
    .object({
      /** True while the host runs on what an earlier run remembers, for etcd has not answered since the start. */
      inUse: z.boolean(),
      /** When what is in use, or was written last, was written; ISO 8601. */
      savedAt: z.string().optional(),
      /** Why what was found at the start is not used, or why the file cannot be written. */
      problem: z.string().optional(),
    })
    .optional(),
  convergence: z.object({
    /** True when the kernel is what the peers at `revision` want. */
    converged: z.boolean(),
    revision: z.string().optional(),
    /** Operations of the last pass that are waiting for a retry. */
    failing: z.number(),
    /** Objects that another program changes again and again, and that are put right less often therefore. */
    contested: z
      .array(z.object({ what: z.string(), times: z.number(), sinceSeconds: z.number() }))
      .optional(),
    /** Operations applied since the start, repairs included. */
    operations: z.number(),
    lastSyncSecondsAgo: z.number().optional(),
    lastError: z.string().optional(),
  }),
  /** Absent where containers' multicast stays on its host. */
  multicast: z
    .object({
      device: z.string(),
      vni: z.number(),
      /** Whose containers take part. */
      bridges: z.array(z.string()),
      /** Other hosts that take part. */
      hosts: z.number(),
      /** Frames of other hosts' containers, and copies sent to other hosts, since the device was made. */
      received: z.object({ packets: z.number(), bytes: z.number() }).optional(),
      sent: z.object({ packets: z.number(), bytes: z.number(), dropped: z.number() }).optional(),
      /** How groups are sent, and which of them come in. */
      families: z
        .array(
          z.object({
            family: z.enum(FAMILIES),
            /**
             * `selective`: only to hosts that want them. `partly`: those that no host has told of go to all. `flooding`: all go to all.
             */
            mode: z.enum(['selective', 'partly', 'flooding']),
            /** Why it is not `selective`. */
            why: z.string().optional(),
            /** Whether this host tells the others which groups it wants. */
            told: z.boolean(),
            /** Why it does not, and so gets all. */
            untoldWhy: z.string().optional(),
          }),
        )
        .optional(),
      /** Groups that this host tells that it wants, and that others do. */
      groups: z.object({ here: z.number(), elsewhere: z.number() }).optional(),
      /** Keys under overlay/groups/ that cannot be read: their hosts get all groups. */
      unreadable: z.array(z.object({ key: z.string(), reason: z.string() })).optional(),
      /** Packets that containers of this host may send to others in a second; absent without a limit. */
      limit: z.number().optional(),
      /** Packets that were over it, and stayed here, since the rules were written. */
      overLimit: z.number().optional(),
    })
    .optional(),
  /** Peers that are gone from etcd and kept for a while, in case etcd is wrong; absent when there are none. */
  heldBack: z.object({ peers: z.number(), secondsLeft: z.number(), reason: z.string() }).optional(),
  /** All of them; or the few that a person is shown first, the worst of all, where `peerCounts` is there. */
  peers: z.array(peerSchema),
  /** How many there are in each state. */
  peerCounts: z.partialRecord(z.enum(PEER_STATES), z.number()).optional(),
})

export type Status = z.infer<typeof statusSchema>

/** The document without what time alone changes: two of them are equal exactly when nothing has happened. */
export function withoutClocks(status: Status): unknown {
  const { uptimeSeconds, ...daemon } = status.daemon
  const { latencyMs, ...etcd } = status.etcd
  const { lastSyncSecondsAgo, contested, ...convergence } = status.convergence
  return {
    ...status,
    daemon,
    etcd,
    convergence: { ...convergence, contested: contested?.map(({ what, times }) => [what, times]) },
    lease: status.lease && { ...status.lease, expiresInSeconds: undefined },
    stateFile: status.stateFile && { ...status.stateFile, savedAt: undefined },
    heldBack: status.heldBack && { ...status.heldBack, secondsLeft: undefined },
  }
}

export type DeviceStatus = z.infer<typeof deviceSchema>
export type PeerStatus = z.infer<typeof peerSchema>
