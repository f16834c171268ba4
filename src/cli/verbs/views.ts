import type { LeaseDocument, PeersDocument } from '../../api/documents'
import type { Status } from '../../api/status'
import { DOCUMENT_SCHEMA } from '../../api/words'
import { count } from '../../model/count'
import { printable } from '../../model/printable'
import { type PeerQuery, queryPeers } from '../ask/peer-query'
import { describeWhereabouts } from '../ask/whereabouts'
import { EXIT } from '../exit'
import { renderLease } from '../show/render-lease'
import { countPeers, renderPeerTable } from '../show/render-peers'
import { renderStatus } from '../show/render-status'
import { hang } from '../show/screen'
import { whatItWaitsFor, whyLeaseUnknown, whyPeersUnknown } from '../show/unknown'
import type { View } from '../show/view'

function leaseDocument(status: Status): LeaseDocument {
  const { daemon, lease } = status
  const unknown = whyLeaseUnknown(status)
  const waiting =
    lease === undefined && unknown === undefined && daemon.running ? whatItWaitsFor(status) : undefined
  return {
    schema: DOCUMENT_SCHEMA,
    daemonRunning: daemon.running,
    ...(unknown !== undefined && { unknown }),
    ...(waiting !== undefined && { waiting }),
    ...(lease !== undefined && { lease }),
  }
}

/** @param query peers to list; undefined: a few, worst first */
export const statusView = (query: PeerQuery | undefined): View<Status> => ({
  isBrief: (output) => query === undefined && (output === 'text' || output === 'wide'),
  ...(query !== undefined && { sought: query.match }),
  document: (status, where) =>
    query === undefined ? status : { ...status, peers: [...queryPeers(status.peers, query, where)] },
  render: (status, screen, wide, where = {}) => {
    if (query === undefined) return renderStatus(status, { screen, wide })
    const note = describeWhereabouts(query.match, where)
    const peers = queryPeers(status.peers, query, where)
    return renderStatus(status, { screen, wide, peers, ...(note !== undefined && { note }) })
  },
  exitCode: (status) => {
    if (status.state === 'healthy') return EXIT.healthy
    const nothing = !status.daemon.running && !status.etcd.connected && status.device === undefined
    return nothing ? EXIT.unreachable : EXIT.degraded
  },
})

export const peersView = (query: PeerQuery): View<PeersDocument> => ({
  isBrief: () => false,
  sought: query.match,
  document: (status, where = {}) => {
    const { peers } = status
    const unknown = whyPeersUnknown(status)
    return {
      schema: DOCUMENT_SCHEMA,
      ...(unknown !== undefined && { unknown }),
      total: peers.length,
      peers: [...queryPeers(peers, query, where)],
      ...(where.behind !== undefined && { behind: where.behind }),
      ...(where.unknown !== undefined && { behindUnknown: where.unknown }),
    }
  },
  render: (status, screen, wide, where = {}) => {
    const unknown = whyPeersUnknown(status)
    if (unknown !== undefined)
      return `${hang('', printable(`not known: ${unknown}`), screen.width, 0).join('\n')}\n`
    const peers = queryPeers(status.peers, query, where)
    const all = peers.length === status.peers.length ? '' : ` of ${count(status.peers.length, 'peer')}`
    const summary = `${countPeers({ peers: [...peers] })}${all}`
    const note = describeWhereabouts(query.match, where)
    const notes = note === undefined ? [] : hang('', printable(note), screen.width, 0)
    return `${[...renderPeerTable(peers, screen, wide), '', ...notes, summary].join('\n')}\n`
  },
  exitCode: (status) => (whyPeersUnknown(status) === undefined ? EXIT.healthy : EXIT.unreachable),
})

/** @param now the clock, for durations */
export const leaseView = (now: () => Date = () => new Date()): View<LeaseDocument> => ({
  isBrief: () => true,
  document: leaseDocument,
  render: (status, screen) => renderLease(leaseDocument(status), screen, now()),
  exitCode: (status) => {
    if (whyLeaseUnknown(status) !== undefined) return EXIT.unreachable
    return status.lease?.state === 'held' ? EXIT.healthy : EXIT.degraded
  },
})
