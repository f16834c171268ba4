/** Containers' multicast between hosts, where the network config asks for it. */
import { formatIp, type IpAddress } from '../../model/address'
import { type Lease, leaseHalf } from '../../model/lease'
import { ROUTER_PORT_ALWAYS } from '../../model/multicast'
import { multicastLinkName } from '../desired'
import { bridgesOf } from '../multicast'
import { readOutChainName } from '../multicast-rules'
import type { Facts, MulticastFacts } from './facts'
import { type Check, count, type Finding, few, outcome } from './finding'
import { configOf, familiesOf, ownLease, ownSubnet, vniOf } from './overlay'

export const MULTICAST_CHECKS: readonly Check[] = [
  {
    name: 'multicast',
    about: "containers' multicast goes to other hosts, where the network config asks for it",
    run: checkMulticast,
  },
]

function checkMulticast(facts: Facts) {
  const config = configOf(facts)
  if (config.value === undefined) return { skipped: config.missing }
  const vni = config.value.backend.multicast
  if (vni === undefined) return outcome('stays on its host, as the network config says', [])
  const [family = 'IPv4'] = familiesOf(facts)
  const announced = (lease: Lease): number | undefined => leaseHalf(lease, family)?.vtep?.multicast
  const own = ownLease(facts)
  if (own === undefined) return { skipped: 'this host has no lease yet' }
  if (announced(own) !== vni) return outcome('this host takes no part: its lease does not say so', [])
  if (facts.kernel.value === undefined) return { skipped: facts.kernel.missing }
  const name = multicastLinkName(vniOf(facts))
  const { multicast } = facts.kernel.value
  if (multicast === undefined) return outcome('', [noDevice(name, 'is not there')])
  if (!multicast.link.up) return outcome('', [noDevice(name, 'is down')])
  const others = (facts.etcd.value?.leases ?? []).filter(({ key }) => key !== own.key)
  const apart = others.filter((lease) => announced(lease) !== vni)
  const wanted = others.filter((lease) => announced(lease) === vni)
  const bridges = bridgesOf(
    multicast.bridges,
    facts.kernel.value.addresses,
    familiesOf(facts).flatMap((each) => ownSubnet(facts, each) ?? []),
  )
  const from = bridges.map((bridge) => bridge.name).join(' and ') || 'no bridge yet'
  const hosts = new Set(wanted.flatMap((lease) => leaseHalf(lease, family)?.publicIp ?? []))
  return outcome(`${name} sends from ${from} to ${hosts.size} of ${count(others.length, 'other host')}`, [
    wrongRules(name, multicast, bridges),
    wrongRouter(bridges),
    wrongHosts(name, multicast, hosts),
    takeNoPart(apart, others.length),
  ])
}

const LOOK = 'see why in the log of overlayd, which would put it right'
const LOG = ['journalctl -u overlayd -n 50', 'systemctl restart overlayd']

const noDevice = (name: string, how: string): Finding => ({
  code: 'multicast-device',
  severity: 'fail',
  what: `the device ${name} ${how}`,
  evidence: ['the network config has multicast, and the lease of this host says that it takes part'],
  breaks: "containers' multicast neither leaves this host nor comes in",
  fix: LOOK,
  commands: LOG,
})

function wrongRules(
  table: string,
  { chains }: MulticastFacts,
  bridges: readonly { readonly name: string }[],
): Finding | undefined {
  if (chains === undefined) return undefined
  const hooked = chains.flatMap((chain) => readOutChainName(chain)?.bridge ?? [])
  const without = bridges.filter(({ name }) => !hooked.includes(name)).map(({ name }) => name)
  if (without.length === 0 && chains.includes('in')) return undefined
  return {
    code: 'multicast-rules',
    severity: 'fail',
    what: `rules for multicast are missing in the nftables table netdev ${table}`,
    evidence: [
      ...without.map((name) => `there is no chain for the bridge ${name}`),
      ...(chains.includes('in') ? [] : [`there is no chain for ${table}`]),
    ],
    breaks: "containers' multicast does not leave this host, or does not come in",
    fix: LOOK,
    commands: LOG,
  }
}

function wrongRouter(bridges: MulticastFacts['bridges']): Finding | undefined {
  const wrong = bridges.filter(
    ({ multicastRouter }) => ![undefined, ROUTER_PORT_ALWAYS].includes(multicastRouter),
  )
  if (wrong.length === 0) return undefined
  return {
    code: 'multicast-router',
    severity: 'fail',
    what: 'a bridge keeps multicast to itself as soon as someone on it asks who is in which group',
    evidence: wrong.map(({ name, multicastRouter }) => `mcast_router of ${name} is ${multicastRouter}`),
    breaks: 'groups that containers of this host have joined do not leave it',
    fix: LOOK,
    commands: wrong.map(({ name }) => `ip link set ${name} type bridge mcast_router 2`),
  }
}

function wrongHosts(
  name: string,
  { destinations }: MulticastFacts,
  hosts: ReadonlySet<IpAddress>,
): Finding | undefined {
  const missing = [...hosts].filter((host) => !destinations.includes(host))
  const more = destinations.filter((host) => !hosts.has(host))
  if (missing.length === 0 && more.length === 0) return undefined
  return {
    code: 'multicast-hosts',
    severity: 'warn',
    what: `${name} does not send to the hosts that take part`,
    evidence: few([
      ...missing.map((host) => `${formatIp(host)} takes part, and is sent nothing`),
      ...more.map((host) => `${formatIp(host)} takes no part, and is sent copies`),
    ]),
    breaks: 'containers there miss what is sent here',
    fix: LOOK,
    commands: LOG,
  }
}

function takeNoPart(apart: readonly Lease[], all: number): Finding | undefined {
  if (apart.length === 0) return undefined
  const words = apart.map(({ value: { publicIp, publicIpv6 } }) => {
    return formatIp(publicIp === 0 ? (publicIpv6 ?? publicIp) : publicIp)
  })
  return {
    code: 'multicast-peers',
    severity: 'warn',
    what: `${apart.length} of ${count(all, 'other host')} take no part in multicast`,
    evidence: few(words.map((host) => `the lease of ${host} does not say so`)),
    breaks: 'containers there hear no multicast of other hosts, and nobody hears theirs',
    fix: 'run overlayd there without --multicast=off; a flanneld cannot take part',
  }
}
