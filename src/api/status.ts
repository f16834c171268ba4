/**
 * The status document: what the daemon serves on its control socket and `overlayctl status -o json` prints.
 * Fields are only added within one `schema` number. Times are in seconds, addresses in their usual text.
 * Revisions are numbers of 64 bits, which not every reader of JSON keeps exactly: they are texts, as in the
 * JSON of protocol buffers.
 */
import { z } from 'zod'
import { FAMILIES } from '../model/address'
import { LEASE_STATES } from '../model/lease'
import { meshSchema, probeSchema } from './mesh'
import { ENCRYPTION_WORDS, PEER_STATES, STATUS_SCHEMA } from './words'

/** One family's half of a lease: a host with both is there twice. */
const peerSchema = z.object({
  /**
   * The name below `subnets/` in etcd, of a rejected lease; `overlayctl evict` accepts it. Where it is
   * present, `subnet` is the same text, whether that is a subnet or not, and PublicIP and MAC are `-`.
   */
  key: z.string().optional(),
  subnet: z.string(),
  publicIp: z.string(),
  mac: z.string(),
  /**
   * `ok`: in the kernel. `held`: in the kernel, and gone from etcd together with most others. `pending`:
   * being programmed, or not to be sent to before packets can be encrypted. `failing`: the kernel refuses it.
   * `rejected`: its lease is not valid.
   */
  state: z.enum(PEER_STATES),
  /** Why the peer is not `ok`, or why a newer lease of an `ok` peer is not followed. */
  reason: z.string().optional(),
  /**
   * How packets leave this host for the peer: `encrypted`; in `clear`; or not at all (`none`), since the
   * network requires encryption. Absent in a network without encryption, and for a rejected lease.
   */
  encryption: z.enum(ENCRYPTION_WORDS).optional(),
  /** Why packets are not encrypted, or why the peer does not get those that are. */
  encryptionReason: z.string().optional(),
  /** Absent where the daemon does not probe, and for a rejected lease. */
  probe: probeSchema.optional(),
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
  /**
   * `healthy`: carries traffic and follows etcd. `degraded`: `problems` says what is wrong. `down`: no daemon
   * runs; only overlayctl says it.
   */
  state: z.enum(['healthy', 'degraded', 'down']),
  problems: z.array(z.string()),
  /**
   * The same problems as values, in the same order; absent from an older daemon. `part` is what the problem
   * is about (`config`, `lease`, `kernel`), `code` is for programs, `text` and `fix` are for people.
   */
  problemDetails: z
    .array(z.object({ part: z.string(), code: z.string(), text: z.string(), fix: z.string().optional() }))
    .optional(),
  /** What a person should check although this host works; absent when there is nothing. */
  warnings: z.array(z.string()).optional(),
  daemon: z.object({
    running: z.boolean(),
    pid: z.number().optional(),
    uptimeSeconds: z.number().optional(),
    /** `waiting-for-config`, `waiting-for-subnet`, `starting`, `running`; `down` when no daemon runs. */
    phase: z.enum(['waiting-for-config', 'waiting-for-subnet', 'starting', 'running', 'down']),
    /**
     * What the daemon waits for before this host takes part: etcd, a usable config, a subnet, the end of
     * another host with its address, an underlay. `code` is for programs. `reason` and `fix` are also in
     * `problems`, /readyz, systemd's status line and the log. Absent once the daemon runs.
     */
    waiting: z
      .object({
        /** As in `problemDetails`; absent from an older daemon. */
        part: z.string().optional(),
        code: z.string(),
        reason: z.string(),
        fix: z.string().optional(),
      })
      .optional(),
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
      /** Further subnets of both families (`overlayctl lease add`), in order; absent for none. */
      further: z.array(z.string()).optional(),
      /** `drained`: given back by request of an operator (`overlayctl drain`). */
      state: z.enum([...LEASE_STATES, 'unknown']),
      /** Since when the lease has that state, as far as this daemon knows; ISO 8601. */
      since: z.string().optional(),
      /** Whether the subnet stays this host's however long the host is away (`overlayctl reserve`). */
      reserved: z.boolean().optional(),
      /** etcd's revision of the last write to the lease's key. */
      modRevision: z.string().optional(),
      /** Hexadecimal, as etcdctl shows it; absent for a reservation. */
      etcdLease: z.string().optional(),
      expiresInSeconds: z.number().optional(),
      /**
       * The subnet that this host had before this start, and why it has another one now; absent where it has
       * the same.
       */
      movedFrom: z.object({ subnet: z.string(), reason: z.string() }).optional(),
      /**
       * What is wrong, and what to do about it; absent when the lease is held and etcd takes its renewals.
       */
      reason: z.string().optional(),
    })
    .optional(),
  /** The form of peers' routes; absent when the daemon is down. */
  routing: z
    .object({
      /** Whether peers on the same link are reached past the device. */
      directRouting: z.boolean(),
      /** Whether a route drops packets to unused addresses of this host's subnet. */
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
  /** The file by which this host remembers its state over a reboot; absent when the daemon is down. */
  stateFile: z
    .object({
      /**
       * True while the host runs on the state of an earlier run, since etcd has not answered since the start.
       */
      inUse: z.boolean(),
      /** When the state that is in use, or the last one, was written; ISO 8601. */
      savedAt: z.string().optional(),
      /** Why the state found at the start is not used, or why the file cannot be written. */
      problem: z.string().optional(),
    })
    .optional(),
  convergence: z.object({
    /** True when the kernel has all objects of the peers at `revision`. */
    converged: z.boolean(),
    revision: z.string().optional(),
    /** Operations of the last pass that are waiting for a retry. */
    failing: z.number(),
    /** Objects that another program changes again and again, so that overlayd repairs them less often. */
    contested: z
      .array(z.object({ what: z.string(), times: z.number(), sinceSeconds: z.number() }))
      .optional(),
    /** Operations applied since the start, repairs included. */
    operations: z.number(),
    lastSyncSecondsAgo: z.number().optional(),
    /** The kernel's last refusal, while an operation still waits for a retry. */
    lastError: z.string().optional(),
    /** ISO 8601. */
    lastErrorAt: z.string().optional(),
  }),
  /** Proofs of identity; absent when the daemon is down, or has no lease yet. */
  identity: z
    .object({
      /** The identity of this host; absent on a host that needs none. */
      key: z.string().optional(),
      /** Whether the subnet of this host is pinned, to this host's identity or to another one. */
      pin: z.enum(['none', 'own', 'other']),
      /** Subnets that have a pin. */
      pinned: z.number(),
      /** Leases that are refused, since their hosts have not proven the identity that is pinned. */
      refused: z.number(),
    })
    .optional(),
  /** Prefixes that hosts announce besides their subnets; absent where none is allowed or announced. */
  prefixes: z
    .object({
      /** Those of this host. */
      own: z.number(),
      /** Prefixes whose packets a host gets, or several hosts that share them. */
      routed: z.number(),
      /** Claims of hosts that share a prefix with others; absent for none. */
      sharing: z.number().optional(),
      /** Claims that wait for one with a better claim to the same prefix. */
      waiting: z.number(),
      /** Claims that are not followed, or cannot be read. */
      refused: z.number(),
      /** Why etcd does not have what this host announces. */
      problem: z.string().optional(),
    })
    .optional(),
  /** Absent where multicast of containers stays on its host. */
  multicast: z
    .object({
      device: z.string(),
      vni: z.number(),
      /** The bridges whose containers take part. */
      bridges: z.array(z.string()),
      /** Other hosts that take part. */
      hosts: z.number(),
      /** Frames of other hosts' containers, and copies sent to other hosts, since the device was made. */
      received: z.object({ packets: z.number(), bytes: z.number() }).optional(),
      sent: z.object({ packets: z.number(), bytes: z.number(), dropped: z.number() }).optional(),
      /** How groups are sent, for each family. */
      families: z
        .array(
          z.object({
            family: z.enum(FAMILIES),
            /**
             * `selective`: only to hosts that joined them. `partly`: groups that no host has announced go to
             * all. `flooding`: all groups go to all.
             */
            mode: z.enum(['selective', 'partly', 'flooding']),
            /** Why it is not `selective`. */
            why: z.string().optional(),
            /** Whether this host announces the groups that its containers joined. */
            told: z.boolean(),
            /** Why it does not, and so receives all groups. */
            untoldWhy: z.string().optional(),
          }),
        )
        .optional(),
      /** The number of groups that this host announces, and that others do. */
      groups: z.object({ here: z.number(), elsewhere: z.number() }).optional(),
      /** Unreadable keys under overlay/groups/: their hosts receive all groups. */
      unreadable: z.array(z.object({ key: z.string(), reason: z.string() })).optional(),
      /** Packets that containers of this host may send to other hosts in a second; absent without a limit. */
      limit: z.number().optional(),
      /** Packets over the limit, which stayed here, since the rules were written. */
      overLimit: z.number().optional(),
    })
    .optional(),
  /** Absent in a network without encryption. */
  encryption: z
    .object({
      mode: z.enum(['prefer', 'required']),
      /** `unable`: this host cannot encrypt, and sends in clear. */
      state: z.enum(['on', 'unable']),
      /** Why it cannot, and what to do about it. */
      reason: z.string().optional(),
      fix: z.string().optional(),
      /** The WireGuard devices, and the UDP ports that they listen on. */
      devices: z.array(z.object({ name: z.string(), port: z.number() })),
      /** The number of peers for each value of a peer's `encryption`; a host with both families is two. */
      peers: z.object({ encrypted: z.number(), clear: z.number(), none: z.number() }),
      /** Peers that announce no key: flannel hosts, and overlayds that do not encrypt. */
      withoutKey: z.number().optional(),
      /** Encrypted peers that do not answer handshakes any more: their packets are lost. */
      silent: z.number().optional(),
      /** Leases whose keys are not used; at most 20. */
      refused: z.array(z.object({ key: z.string(), reason: z.string() })).optional(),
      /** Since the last change of this host's keys. */
      keyAgeSeconds: z.number().optional(),
      /**
       * Packets in clear that were dropped, from other hosts and to them, since the rules were written; only
       * where encryption is required.
       */
      dropped: z.object({ in: z.number(), out: z.number() }).optional(),
      /** Why it does not work, or not as it should. */
      problem: z.string().optional(),
    })
    .optional(),
  /** Absent before this host has a lease, and of an older daemon. */
  mesh: meshSchema.optional(),
  /**
   * Peers that disappeared from etcd and are kept for a while in case etcd is wrong; absent when there are
   * none.
   */
  heldBack: z.object({ peers: z.number(), secondsLeft: z.number(), reason: z.string() }).optional(),
  /** All peers; or, where `peerCounts` is present, the few that a person is shown first, the worst of all. */
  peers: z.array(peerSchema),
  /** The number of peers in each state. */
  peerCounts: z.partialRecord(z.enum(PEER_STATES), z.number()).optional(),
  /**
   * The number of keys under subnets/ that name no subnet and are not among `peers`: only some of them are
   * kept.
   */
  moreMisnamed: z.number().optional(),
})

export type Status = z.infer<typeof statusSchema>

/** Phases of a daemon that runs. */
export type DaemonPhase = Exclude<Status['daemon']['phase'], 'down'>
export type DeviceStatus = z.infer<typeof deviceSchema>
export type PeerStatus = z.infer<typeof peerSchema>
