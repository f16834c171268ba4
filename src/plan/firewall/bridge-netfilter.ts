/**
 * Problems with br_netfilter, which makes iptables rules apply between the ports of a bridge. flannel does
 * not start without it.
 */
import type { Family } from '../../model/address'
import { ofFamily } from '../../model/family'
import type { BridgeNetfilter } from '../../model/firewall'
import type { Problem } from '../../model/result'

const SWITCHES: Readonly<Record<Family, 'bridge-nf-call-iptables' | 'bridge-nf-call-ip6tables'>> = {
  IPv4: 'bridge-nf-call-iptables',
  IPv6: 'bridge-nf-call-ip6tables',
}

/** A problem with br_netfilter always has a fix and a command. */
export interface BridgeNetfilterProblem extends Required<Problem> {
  readonly code: 'br-netfilter-missing' | 'br-netfilter-off'
}

/**
 * @param families families of the overlay
 * @returns `undefined` if there is no problem
 */
export function bridgeNetfilterProblem(
  state: BridgeNetfilter,
  families: readonly Family[],
): BridgeNetfilterProblem | undefined {
  if (!state.present) {
    return {
      part: 'firewall',
      code: 'br-netfilter-missing',
      text: 'the kernel module br_netfilter is not loaded',
      fix: 'load the module now, and at each boot',
      commands: ['modprobe br_netfilter'],
    }
  }
  const off = families.filter((family) => !ofFamily(state, family))
  if (off.length === 0) return undefined
  const names = off.map((family) => `net.bridge.${SWITCHES[family]}`)
  return {
    part: 'firewall',
    code: 'br-netfilter-off',
    text: `${names.join(' and ')} ${names.length === 1 ? 'is' : 'are'} 0`,
    fix: 'enable it',
    commands: [`sysctl -w ${names.map((name) => `${name}=1`).join(' ')}`],
  }
}

/** The problem in one line, for the log. */
export const describeBridgeNetfilter = ({ code, text, commands }: BridgeNetfilterProblem): string =>
  `${text}, so packets between containers of one bridge bypass the iptables rules; ` +
  `run \`${commands.join('; ')}\`` +
  (code === 'br-netfilter-missing' ? ', and list it in /etc/modules-load.d' : '')
