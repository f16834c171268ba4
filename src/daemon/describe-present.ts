/** What of a running host is to be remembered. */
import type { SavedState } from '../host/state-file'
import type { Family } from '../model/address'
import type { Peer, Revision } from '../model/lease'
import { gatherFacts, remember } from './host-memory'
import type { MemberParts } from './member'

/** What etcd told, beside the peers. */
export interface EtcdView {
  readonly prefix: string
  readonly clusterId: string | undefined
  /** The config in etcd, which may be another than the one in use. */
  readonly config: { readonly text: string | undefined; readonly revision: Revision | undefined } | undefined
  readonly revision: Revision
}

/** @returns undefined for a host whose config is not known as text, which has nothing to come up from */
export async function describePresent(member: MemberParts, etcd: EtcdView): Promise<SavedState | undefined> {
  const { config, configText, underlay, keeper, overlays } = member
  if (configText === undefined) return undefined
  const peersOf = (family: Family): Peer[] => [
    ...(overlays.find((overlay) => overlay.family === family)?.peers.peers() ?? []),
  ]
  const host = await gatherFacts(underlay.current)
  const { state } = keeper
  return remember({
    prefix: etcd.prefix,
    clusterId: etcd.clusterId,
    host,
    config: {
      text: configText,
      revision: etcd.config?.text === configText ? etcd.config.revision : undefined,
    },
    revision: etcd.revision,
    own: state.kind === 'held' ? state.lease : { ...keeper.own, value: keeper.announced },
    // A host that comes up again with etcd away must not think that it still has what it gave back.
    ownState: state.kind === 'drained' ? 'lost' : state.kind,
    renewal: keeper.renewal,
    vni: config.backend.vni,
    peers: { ipv4: peersOf('IPv4'), ipv6: peersOf('IPv6') },
  })
}
