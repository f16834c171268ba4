/** Containers' multicast between hosts, where the network config asks for it. */
import { FAMILIES, type Family, formatIp, formatMac, type IpAddress } from '../../model/address'
import { count } from '../../model/count'
import { familyLease, type Lease } from '../../model/lease'
import { type GroupsEntry, ROUTER_PORT_ALWAYS } from '../../model/multicast'
import { type HostLease, hostsOf, planGroups } from '../../plan/multicast/groups'
import { bridgesOf } from '../../plan/multicast/multicast'
import { readOutChainName } from '../../plan/multicast/rules'
import { multicastLinkName } from '../../plan/reconcile/desired'
import type { Facts, Given, Known, MulticastFacts } from '../facts'
import { type Check, check, type Finding, few, type Outcome, outcome, skipFor } from '../finding'
import {
  daemonsWord,
  familiesOf,
  OVERLAY,
  type OverlayFacts,
  ownLease,
  subnetsOf,
  vniOf,
  vxlanAddress,
} from '../overlay'

export const MULTICAST_CHECKS: readonly Check[] = [
  check({
    name: 'multicast',
    about: "containers' multicast goes to other hosts, where the network config asks for it",
    needs: ['config'],
    uses: [...OVERLAY, 'multicast'],
    premise: 'started',
    run: checkMulticast,
  }),
]

function checkMulticast(facts: OverlayFacts & Known<'config', 'multicast'>): Outcome {
  const vni = facts.config.value.backend.multicast
  if (vni === undefined) return outcome('stays on its host, as the network config says', [])
  const [family = 'IPv4'] = familiesOf(facts)
  const announced = (lease: Lease): number | undefined => familyLease(lease, family)?.vtep?.multicast
  const own = ownLease(facts)
  if (own === undefined) return { skipped: 'this host has no lease yet', because: 'needless' }
  if (announced(own) !== vni) return outcome('this host takes no part: its lease does not say so', [])
  if (!facts.kernel.ok) return skipFor(facts.kernel.problem)
  if (!facts.multicast.ok) return skipFor(facts.multicast.problem)
  const name = multicastLinkName(vniOf(facts))
  const multicast = facts.multicast.value
  if (multicast === undefined) return outcome('', [noDevice(name, 'is not there')])
  if (!multicast.link.up) return outcome('', [noDevice(name, 'is down')])
  const others = (facts.etcd.value?.leases ?? []).filter(({ key }) => key !== own.key)
  const apart = others.filter((lease) => announced(lease) !== vni)
  const wanted = others.filter((lease) => announced(lease) === vni)
  const bridges = bridgesOf(
    multicast.bridges,
    facts.kernel.value.addresses,
    familiesOf(facts).flatMap((each) => subnetsOf(facts, each)),
  )
  const from = bridges.map((bridge) => bridge.name).join(' and ') || 'no bridge yet'
  const hosts = new Set(wanted.flatMap((lease) => sentTo(facts, lease, family) ?? []))
  return outcome(`${name} sends from ${from} to ${hosts.size} of ${count(others.length, 'other host')}`, [
    wrongRules(name, multicast, bridges),
    wrongRouter(bridges),
    wrongHosts(name, multicast, hosts),
    missingGroups(facts, name, multicast, wanted, vni, family),
    noQuerier(bridges, familiesOf(facts)),
    unreadableGroups(facts),
    takeNoPart(apart, others.length),
  ])
}

/** Where copies for a host go; `undefined` where overlayd sends it nothing, as it cannot be encrypted. */
function sentTo(facts: Pick<Facts, 'daemon'>, lease: Lease, family: Family): IpAddress | undefined {
  const { subnet, publicIp, vtep } = familyLease(lease, family) ?? {}
  if (subnet === undefined || publicIp === undefined) return undefined
  if (daemonsWord(facts)({ subnet })?.encryption === 'none') return undefined
  return vxlanAddress({ publicIp, ...(vtep?.wireguard !== undefined && { wireguard: vtep.wireguard }) })
}

const LOOK = 'see in the log of overlayd why it does not repair this'
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
  const sentTo = new Set(destinations)
  const missing = [...hosts].filter((host) => !sentTo.has(host))
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

/**
 * Finds hosts that joined a group and are missing from its list, and groups that others joined and that do
 * not leave this host. Without lists and rules of groups everything is flooded, so nothing can be missing.
 */
function missingGroups(
  facts: Given & Pick<Facts, 'etcd' | 'daemon'>,
  name: string,
  { lists = [], wanted = {} }: MulticastFacts,
  leases: readonly Lease[],
  vni: number,
  carrier: Family,
): Finding | undefined {
  const { etcd, etcdPrefix } = facts
  const told = new Map(
    (etcd.value?.groups ?? []).flatMap((each) => (each.value ? [[each.name, each.value]] : [])),
  )
  const peers = leases.flatMap((lease): HostLease[] => {
    const publicIp = sentTo(facts, lease, carrier)
    return publicIp === undefined ? [] : [{ key: lease.key, multicast: vni, publicIp }]
  })
  const nameOf = (key: string): string => key.slice(key.lastIndexOf('/') + 1)
  const { destinations, families } = planGroups(
    hostsOf(peers, vni, (key) => told.get(nameOf(key))),
    undefined,
  )
  const listed = new Set(lists.map(({ mac }) => mac))
  const entries = new Set(lists.map(({ mac, address }) => `${mac} ${address}`))
  const missing = destinations.filter(
    ({ mac, address }) => listed.has(mac) && !entries.has(`${mac} ${address}`),
  )
  const stuck = FAMILIES.flatMap((family) => {
    const leave = wanted[family]
    const plan = families[family].wanted
    if (leave === undefined) return []
    const leaving = new Set(leave)
    return plan === 'all'
      ? [`${families[family].why}, and only some ${family} groups leave`]
      : plan.filter((group) => !leaving.has(group)).map((group) => `${formatIp(group)} does not leave`)
  })
  if (missing.length === 0 && stuck.length === 0) return undefined
  return {
    code: 'multicast-groups',
    severity: 'fail',
    what: `${name} does not send groups to all hosts that want them`,
    evidence: few([
      ...missing.map(
        ({ mac, address }) => `frames to ${formatMac(mac)} are not sent to ${formatIp(address)}`,
      ),
      ...stuck,
      `what hosts want is in etcd under ${etcdPrefix}/overlay/groups/`,
    ]),
    breaks: 'containers there miss what is sent here',
    fix: LOOK,
    commands: LOG,
  }
}

function noQuerier(bridges: MulticastFacts['bridges'], families: readonly Family[]): Finding | undefined {
  const evidence = bridges.flatMap(({ name, snooping }) => {
    if (snooping === undefined) return [`${name} does not snoop`]
    const without = families.filter((family) => !snooping.queriers.includes(family))
    return without.length === 0 ? [] : [`${name} has no querier for ${without.join(' and ')}`]
  })
  if (evidence.length === 0) return undefined
  return {
    code: 'multicast-querier',
    severity: 'warn',
    what: 'nobody asks the containers of this host which groups they want',
    evidence,
    breaks: 'nothing is lost, but other hosts send this one every group, wanted or not',
    fix:
      'have the bridge ask; a bridge keeps that until it is deleted. Before Linux 5.15 the kernel does not ' +
      'say who asks, and there is no cure',
    commands: bridges.map(({ name }) => `ip link set ${name} type bridge mcast_snooping 1 mcast_querier 1`),
  }
}

function unreadableGroups({ etcd, etcdPrefix }: Given & Pick<Facts, 'etcd'>): Finding | undefined {
  const bad = (etcd.value?.groups ?? []).filter(({ reason }) => reason !== undefined)
  const [first] = bad
  if (first === undefined) return undefined
  const keyOf = ({ name }: GroupsEntry): string => `${etcdPrefix}/overlay/groups/${name}`
  return {
    code: 'multicast-keys',
    severity: 'warn',
    what: `${count(bad.length, 'key')} under overlay/groups/ cannot be read`,
    evidence: few(bad.map((each) => `${keyOf(each)}: ${each.reason}`)),
    breaks: 'nothing is lost, but the host of such a key is sent every group, wanted or not',
    fix: 'delete what no overlayd wrote; a host that runs writes its own again',
    commands: [`etcdctl del '${keyOf(first)}'`],
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
    breaks: 'containers there receive no multicast of other hosts, and no other host receives theirs',
    fix: 'run overlayd there without --multicast=off; a flanneld cannot take part',
  }
}
