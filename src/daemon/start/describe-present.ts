/** Collects what a running host saves in its state file. */
import type { SavedState } from '../../host/state-file'
import type { Family } from '../../model/address'
import type { Peer, Revision } from '../../model/lease'
import type { NodeView } from '../node/parts'
import { gatherFacts, remember } from './host-memory'

/** What etcd answered last, apart from the leases. */
export interface EtcdView {
  readonly prefix: string
  readonly clusterId: string | undefined
  /** The config in etcd. It may differ from the config in use. */
  readonly config: { readonly text: string | undefined; readonly revision: Revision | undefined } | undefined
  readonly revision: Revision
}

/**
 * Describes the running host for the state file.
 * @returns undefined if the config's text is not known: a later start could not use such a state
 */
export async function describePresent(node: NodeView, etcd: EtcdView): Promise<SavedState | undefined> {
  const { plan, configText, underlay, lease: keeper, overlays, proof, announcer, prefixes } = node
  if (configText === undefined) return undefined
  const peersOf = (family: Family): Peer[] => [
    ...(overlays.find((overlay) => overlay.spec.family === family)?.peers.peers() ?? []),
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
    // A drained host has given its lease back. After a restart without etcd it must not use that lease.
    ownState: state.kind === 'drained' ? 'lost' : state.kind,
    renewal: keeper.renewal,
    seenSerials: proof.hosts.seenSerials(),
    announced: announcer.wanted,
    prefixes: prefixes.claims(),
    vni: plan.inputs.config.backend.vni,
    peers: { ipv4: peersOf('IPv4'), ipv6: peersOf('IPv6') },
  })
}
