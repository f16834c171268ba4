/** Describes a node in one line: for systemd, /readyz and the log. */
import { count } from '../../model/count'
import { formatLeaseSubnet } from '../../model/lease'
import { isAtRisk } from '../../model/lease-life'
import { describeShortage } from '../../plan/host/underlay-room'
import { convergenceOf } from '../overlay/overlay'
import type { NodeView } from './parts'

/** `10.5.12.0/24 on flannel.1, 3 peers` */
export function headline({ plan, lease, overlays }: NodeView): string {
  const links = plan.overlays.map(({ link }) => link.name).join(' and ')
  const peers = Math.max(...overlays.map((overlay) => overlay.peers.size))
  return `${formatLeaseSubnet(lease.own.subnet)} on ${links}, ${count(peers, 'peer')}`
}

/**
 * `10.5.12.0/24 on flannel.1, 3 peers, healthy`
 * @param more further troubles, of parts outside the node
 */
export function summary(node: NodeView, followsEtcd: boolean, more: readonly (string | false)[]): string {
  const { plan, lease, overlays, firewall, underlay, encryption, holdBack, wayIn } = node
  const troubles = [
    !followsEtcd && 'etcd away',
    lease.state.kind !== 'held' && `lease ${lease.state.kind}`,
    !convergenceOf(overlays).converged && 'kernel not converged',
    firewall.problem !== undefined && 'firewall rules missing',
    ...wayIn.findings.map(({ severity, code }) => severity === 'problem' && code),
    underlay.problem !== undefined && 'underlay gone or too small',
    describeShortage(plan.inputs.config, underlay.current) !== undefined && 'MTU limited by the underlay',
    encryption.problem !== undefined && 'encryption not in order',
    node.configProblem !== undefined && 'config not in use',
    holdBack.size > 0 && `${count(holdBack.size, 'peer')} held back`,
    ...more,
  ].filter((trouble) => trouble !== false)
  return `${headline(node)}, ${troubles.join(', ') || 'healthy'}`
}

/**
 * Why other hosts may not reach this host; `undefined` if nothing is known against it.
 * @param renewMargin `--subnet-lease-renew-margin` in minutes
 */
export function unready(
  { lease, overlays, firewall, underlay, encryption, wayIn }: NodeView,
  renewMargin: number,
): string | undefined {
  const { converged, failing } = convergenceOf(overlays)
  const troubles = [
    lease.state.kind !== 'held' && `lease ${lease.state.kind}`,
    isAtRisk(lease.expiresInSeconds, renewMargin) && 'lease not renewed, and near its end',
    // A host must not become unready because the kernel refuses single peers.
    !converged && failing === 0 && 'kernel not converged',
    underlay.problem !== undefined && 'underlay gone',
    firewall.problem !== undefined && 'firewall rules missing',
    ...wayIn.findings.map(({ isCut, text }) => isCut && text),
    encryption.blockage !== undefined && 'encryption required, and not possible',
  ].filter((trouble) => trouble !== false)
  return troubles.length === 0 ? undefined : troubles.join(', ')
}
