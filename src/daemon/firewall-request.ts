/** What this host asks of its firewall. */
import { findProgram } from '../firewall/program'
import { bridgeNetfilter } from '../kernel/sysctl'
import { familyOf } from '../model/address'
import type { FirewallNetwork, FirewallRequest } from '../model/firewall'
import type { NetworkConfig } from '../model/network-config'
import { bridgeNetfilterProblem } from '../plan/bridge-netfilter'
import type { Logger } from './logger'
import { instanceId, type Options } from './options'

/**
 * Makes the request, and says what the host lacks for it.
 * @param links names of all devices that this overlay has or had
 */
export async function firewallRequest(
  { options, log }: { readonly options: Options; readonly log: Logger },
  config: NetworkConfig,
  networks: readonly FirewallNetwork[],
  links: readonly string[],
): Promise<FirewallRequest> {
  const mode = config.nftables ? 'nftables' : 'iptables'
  const scope = instanceId(options)
  if (mode === 'iptables') {
    const families = networks.map(({ subnet }) => familyOf(subnet.address))
    const problem = bridgeNetfilterProblem(await bridgeNetfilter(), families)
    if (problem !== undefined) log.warn(`firewall: ${problem}`, { kind: 'firewall-problem' })
  }
  return {
    mode,
    networks,
    links,
    ipMasq: options['ip-masq'],
    fullyRandom: !options['ip-masq-fully-random-disable'],
    forwardRules: options['iptables-forward-rules'],
    docker: (await findProgram('dockerd')) !== undefined,
    ...(scope !== undefined && { scope }),
  }
}
