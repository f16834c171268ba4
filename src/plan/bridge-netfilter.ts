/** What is wrong with br_netfilter, in words. It matters where rules of iptables are to hold between the ports of a bridge; flannel does not start without it. */
import type { Family } from '../model/address'
import type { BridgeNetfilter } from '../model/firewall'

const SWITCHES: Readonly<Record<Family, 'bridge-nf-call-iptables' | 'bridge-nf-call-ip6tables'>> = {
  IPv4: 'bridge-nf-call-iptables',
  IPv6: 'bridge-nf-call-ip6tables',
}

/**
 * @param families those of the overlay
 * @returns `undefined` when nothing is wrong
 */
export function bridgeNetfilterProblem(
  state: BridgeNetfilter,
  families: readonly Family[],
): string | undefined {
  if (!state.present) {
    return 'the kernel module br_netfilter is not loaded, so packets between containers of one bridge pass by the iptables rules; run `modprobe br_netfilter`, and name it in /etc/modules-load.d'
  }
  const off = families.filter((family) => !(family === 'IPv4' ? state.ipv4 : state.ipv6))
  if (off.length === 0) return undefined
  const names = off.map((family) => `net.bridge.${SWITCHES[family]}`)
  return `${names.join(' and ')} ${names.length === 1 ? 'is' : 'are'} 0, so packets between containers of one bridge pass by the iptables rules; run \`sysctl -w ${names.map((name) => `${name}=1`).join(' ')}\``
}
