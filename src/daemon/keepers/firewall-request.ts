/** Completes the request to the firewall with what this host has. */
import { findProgram } from '../../firewall/program'
import { bridgeNetfilter } from '../../kernel/sysctl'
import { familyOf } from '../../model/address'
import type { FirewallRequest } from '../../model/firewall'
import { bridgeNetfilterProblem, describeBridgeNetfilter } from '../../plan/firewall/bridge-netfilter'
import type { HostPlan } from '../../plan/host-plan'
import type { Logger } from '../tell/logger'

/**
 * Looks for dockerd, and warns where bridged packets miss the rules.
 * @param links names of all devices that this overlay has or had
 */
export async function firewallRequest(
  plan: HostPlan['firewall'],
  links: readonly string[],
  log: Logger,
): Promise<FirewallRequest> {
  if (plan.mode === 'iptables') {
    const families = plan.networks.map(({ subnet }) => familyOf(subnet.address))
    const problem = bridgeNetfilterProblem(await bridgeNetfilter(), families)
    if (problem !== undefined)
      log.warn(`firewall: ${describeBridgeNetfilter(problem)}`, { kind: 'firewall-problem' })
  }
  return { ...plan, links, docker: (await findProgram('dockerd')) !== undefined }
}
