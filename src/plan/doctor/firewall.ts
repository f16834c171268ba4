/** Whether forwarded packets of the overlay get through this host's rules. */
import { type Family, formatPrefix, type Prefix } from '../../model/address'
import type { IptablesListing } from '../../model/firewall'
import { subnetRanges } from '../../model/network-config'
import type { Facts } from './facts'
import { type Check, type Finding, outcome } from './finding'
import { configOf, rangeOf } from './overlay'
import { readChains } from './ruleset'

/** Chains that come before the policy and that rules of ours stand in; those of further networks have a suffix. */
const OUR_CHAINS = /^-A (?:FLANNEL-FWD\S*|DOCKER-USER|FORWARD) /

export const FIREWALL_CHECKS: readonly Check[] = [
  { name: 'firewall', about: 'forwarded packets of the overlay are accepted', run: checkForward },
]

function checkForward(facts: Facts) {
  const config = configOf(facts).value
  const { firewall } = facts
  if (firewall.value === undefined) return { skipped: firewall.missing }
  const networks = config === undefined ? [] : subnetRanges(config).map(({ network }) => network)
  if (networks.length === 0) return { skipped: 'the network is not known' }
  const { iptables, ruleset } = firewall.value
  const findings = (['IPv4', 'IPv6'] as const).flatMap((family): Finding[] => {
    const network = rangeOf(config, family)?.network
    if (network === undefined) return []
    const reason = byIptables(iptables.get(family), network) ?? byTable(ruleset, family, network)
    return reason === undefined ? [] : [dropped(family, network, reason)]
  })
  return outcome('forwarded packets of the network are accepted', findings)
}

function byIptables(listing: IptablesListing | undefined, network: Prefix): string | undefined {
  const filter = listing?.get('filter')
  if (filter === undefined || filter === 'foreign') return undefined
  const policy = filter.find((line) => line.startsWith(':FORWARD '))?.split(' ')[1]
  if (policy !== 'DROP') return undefined
  const text = formatPrefix(network)
  const accepts = (option: string): boolean =>
    filter.some(
      (line) => OUR_CHAINS.test(line) && line.includes(`${option} ${text} `) && line.includes('-j ACCEPT'),
    )
  const isCalled = filter.some((line) => /^-A FORWARD .*-j (?:FLANNEL-FWD|DOCKER-USER|ACCEPT)/.test(line))
  return accepts('-s') && accepts('-d') && isCalled
    ? undefined
    : `the policy of FORWARD is DROP, and no rule accepts ${text} (iptables -S FORWARD)`
}

/** An accept in one table does not undo the policy of another's chain. */
function byTable(ruleset: string | undefined, family: Family, network: Prefix): string | undefined {
  const word = family === 'IPv4' ? 'ip' : 'ip6'
  const chain = readChains(ruleset ?? '').find(
    ({ table, hook, policy, rules }) =>
      hook === 'forward' &&
      policy === 'drop' &&
      [`${word} `, 'inet '].some((start) => table.startsWith(start)) &&
      // Told by iptables already.
      table !== `${word} filter` &&
      !rules.some(({ text }) => text.includes('accept') && text.includes(formatPrefix(network))),
  )
  return (
    chain &&
    `chain ${chain.name} of table ${chain.table} has the policy drop, and no rule for ${formatPrefix(network)}`
  )
}

const dropped = (family: Family, network: Prefix, reason: string): Finding => {
  const program = family === 'IPv4' ? 'iptables' : 'ip6tables'
  const text = formatPrefix(network)
  return {
    code: 'forward-drop',
    severity: 'fail',
    what: `this host drops what it forwards for containers (${family})`,
    evidence: [reason],
    breaks:
      'hosts reach each other through the overlay, but the containers here reach nothing and are not reached',
    fix: 'run overlayd with --iptables-forward-rules (the default), which keeps the rules there; by hand:',
    commands: reason.includes('of table')
      ? [
          `nft insert rule ${reason.replace(/^chain (\S+) of table (\S+ \S+) .*/, '$2 $1')} ${family === 'IPv4' ? 'ip' : 'ip6'} saddr ${text} accept`,
          `nft insert rule ${reason.replace(/^chain (\S+) of table (\S+ \S+) .*/, '$2 $1')} ${family === 'IPv4' ? 'ip' : 'ip6'} daddr ${text} accept`,
        ]
      : [`${program} -I FORWARD -s ${text} -j ACCEPT`, `${program} -I FORWARD -d ${text} -j ACCEPT`],
  }
}
