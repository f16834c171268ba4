/** What `overlayctl status`, `peers` and `lease` make of the status document. */
import { z } from 'zod'
import { type Status, statusSchema } from '../daemon/status'
import { EXIT } from './exit'
import { type PeerQuery, queryPeers } from './peer-query'
import { renderLease } from './render-lease'
import { countPeers, renderPeerTable } from './render-peers'
import { renderStatus } from './render-status'
import type { View } from './status'

/** Raised when a field changes its meaning or goes; fields are added within one number. */
const SCHEMA = 1

/** What `overlayctl peers -o json` prints. */
export const peersDocumentSchema = z.object({
  schema: z.literal(SCHEMA),
  /** Of all peers there are. */
  total: z.number(),
  peers: statusSchema.shape.peers,
})

/** What `overlayctl lease -o json` prints. */
export const leaseDocumentSchema = z.object({
  schema: z.literal(SCHEMA),
  /** Whether anyone looks after it. */
  daemonRunning: z.boolean(),
  /** Absent where this host has none. */
  lease: statusSchema.shape.lease,
})
export type LeaseDocument = z.infer<typeof leaseDocumentSchema>

const leaseDocument = ({ daemon, lease }: Status): LeaseDocument => ({
  schema: SCHEMA,
  daemonRunning: daemon.running,
  ...(lease !== undefined && { lease }),
})

const answered = ({ daemon, etcd }: Status): number =>
  daemon.running || etcd.connected ? EXIT.healthy : EXIT.unreachable

/** @param query which peers are listed; none: a few, the worst first */
export const statusView = (query: PeerQuery | undefined): View<Status> => ({
  isBrief: (output) => query === undefined && (output === 'text' || output === 'wide'),
  document: (status) =>
    query === undefined ? status : { ...status, peers: [...queryPeers(status.peers, query)] },
  render: (status, screen, wide) =>
    renderStatus(status, {
      screen,
      wide,
      ...(query !== undefined && { peers: queryPeers(status.peers, query) }),
    }),
  exitCode: (status) => {
    if (status.state === 'healthy') return EXIT.healthy
    const nothing = !status.daemon.running && !status.etcd.connected && status.device === undefined
    return nothing ? EXIT.unreachable : EXIT.degraded
  },
})

export const peersView = (query: PeerQuery): View<z.infer<typeof peersDocumentSchema>> => ({
  isBrief: () => false,
  document: ({ peers }) => ({
    schema: SCHEMA,
    total: peers.length,
    peers: [...queryPeers(peers, query)],
  }),
  render: (status, screen, wide) => {
    const peers = queryPeers(status.peers, query)
    const all = peers.length === status.peers.length ? '' : ` of ${status.peers.length} peers`
    return `${[...renderPeerTable(peers, screen, wide), '', `${countPeers({ peers: [...peers] })}${all}`].join('\n')}\n`
  },
  exitCode: answered,
})

/** @param now for what is told in how long ago */
export const leaseView = (now: () => Date = () => new Date()): View<LeaseDocument> => ({
  isBrief: () => true,
  document: leaseDocument,
  render: (status, screen) => renderLease(leaseDocument(status), screen, now()),
  exitCode: (status) => {
    if (answered(status) === EXIT.unreachable) return EXIT.unreachable
    return status.lease?.state === 'held' ? EXIT.healthy : EXIT.degraded
  },
})
