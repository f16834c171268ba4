/** This host's lease, and clashes among everyone's. */
import {
  FAMILIES,
  type Family,
  formatIp,
  formatMac,
  formatPrefix,
  type IpAddress,
  prefixesOverlap,
} from '../../model/address'
import { formatLeaseSubnet, isReservation, type Lease, type LeaseHalf, leaseHalf } from '../../model/lease'
import type { Facts } from './facts'
import { type Check, count, type Finding, few, outcome } from './finding'
import {
  claimedSubnet,
  configOf,
  deviceOf,
  familiesOf,
  isOwnAddress,
  ownLease,
  peerTable,
  vniOf,
} from './overlay'

/** A daemon that runs renews every few minutes, so less than this is never left. Half of flannel's default renew margin. */
const NEAR_END_SECONDS = 30 * 60

export const LEASE_CHECKS: readonly Check[] = [
  { name: 'lease', about: 'this host has its subnet, for some time', run: checkOwn },
  { name: 'leases', about: 'no two hosts claim one subnet, PublicIP, MAC; VNIs agree', run: checkAll },
]

function checkOwn(facts: Facts) {
  if (facts.etcd.value === undefined) return { skipped: 'etcd cannot be read' }
  const own = ownLease(facts)
  const claims = FAMILIES.flatMap((family) => claimedSubnet(facts, family) ?? [])
  if (own === undefined) {
    if (claims.length === 0) return { skipped: 'this host has no lease yet' }
    const subnet = claims.map(formatPrefix).join(' and ')
    const isDrained = facts.daemon.value?.lease?.state === 'drained'
    return outcome('', [isDrained ? drained(subnet) : lost(facts, subnet)])
  }
  const left = facts.etcd.value.timeToLive.get(own.etcdLease)
  const subnet = formatLeaseSubnet(own.subnet)
  const until = isReservation(own) ? 'a reservation, which never ends' : `${inMinutes(left ?? 0)} left`
  const foreign = foreignClaim(facts, own)
  if (foreign !== undefined) return outcome('', [foreign])
  const nearEnd = !isReservation(own) && left !== undefined && left < NEAR_END_SECONDS
  return outcome(`${subnet}, ${until}`, [nearEnd ? nearExpiry(facts, own, left) : undefined])
}

function lost(facts: Facts, subnet: string): Finding {
  const runs = facts.daemon.value !== undefined
  return {
    code: 'lease-expired',
    severity: 'fail',
    what: `the lease of this host, ${subnet}, is not in etcd any more`,
    evidence: [
      `no key under ${facts.etcdPrefix}/subnets names it, and ${runs ? 'the daemon' : facts.subnetFile.value?.path} does`,
    ],
    breaks:
      'all other hosts drop their way to the containers here, and the subnet may become that of another host',
    fix: runs
      ? 'overlayd makes it again by itself within seconds; its log says what hinders it'
      : 'start overlayd: it takes the same subnet if that is still free',
    commands: [runs ? 'journalctl -u overlayd -n 50' : 'systemctl start overlayd'],
    explains: 'all',
  }
}

const drained = (subnet: string): Finding => ({
  code: 'lease-drained',
  severity: 'warn',
  what: `an operator has drained this host: its subnet, ${subnet}, is given back`,
  evidence: ['overlayd says that it was told to (overlayctl drain)'],
  breaks:
    'the other hosts send nothing to the containers here, and the subnet may become that of another host',
  fix: 'take it again when the host is to carry traffic',
  commands: ['overlayctl drain --undo'],
  explains: 'all',
})

function nearExpiry(facts: Facts, own: Lease, left: number): Finding {
  return {
    code: 'lease-near-expiry',
    severity: 'warn',
    what: `the lease of this host ends in ${inMinutes(left)}`,
    evidence: [`${own.key}, etcd lease ${BigInt(own.etcdLease).toString(16)}: ${left} s left of a day`],
    breaks: 'then all other hosts drop their way to the containers here',
    fix:
      facts.daemon.value === undefined
        ? 'start overlayd, which renews it'
        : 'overlayd should have renewed it long ago: its log says why it could not',
    commands: [
      facts.daemon.value === undefined ? 'systemctl start overlayd' : 'journalctl -u overlayd -n 50',
    ],
  }
}

/** Whether the key of this host's subnet says that it is someone else's. */
function foreignClaim(facts: Facts, own: Lease): Finding | undefined {
  for (const family of FAMILIES) {
    const half = leaseHalf(own, family)
    const device = deviceOf(facts, family)
    if (half === undefined || half.publicIp === undefined || device === undefined) continue
    const { mac, vxlan } = device.link
    if (half.vtep === undefined || half.vtep.mac === mac) continue
    const evidence = `${own.key} has ${formatIp(half.publicIp)} and ${formatMac(half.vtep.mac)}; this host has ${
      vxlan?.local === undefined ? 'no address' : formatIp(vxlan.local)
    } and ${formatMac(mac)}`
    return isOwnAddress(facts, half.publicIp) ? twoHosts(half.publicIp, evidence) : taken(half, evidence)
  }
  return undefined
}

const twoHosts = (publicIp: IpAddress, evidence: string): Finding => ({
  code: 'duplicate-public-ip',
  severity: 'fail',
  what: `another host announces the PublicIP of this one, ${formatIp(publicIp)}`,
  evidence: [evidence],
  breaks:
    'a host is told by its PublicIP, so both take one lease for theirs, and packets go to whoever wrote last',
  fix: 'give one of the two another address, or its --public-ip; then restart overlayd there',
  commands: [`arping -D -c 3 -I <interface> ${formatIp(publicIp)}`],
  explains: 'all',
})

const taken = ({ subnet, publicIp }: LeaseHalf, evidence: string): Finding => ({
  code: 'lease-foreign',
  severity: 'fail',
  what: `the subnet of this host, ${formatPrefix(subnet)}, is leased to ${publicIp === undefined ? 'another host' : formatIp(publicIp)}`,
  evidence: [evidence],
  breaks: 'all other hosts send what is for the containers here to that host',
  fix: 'if that host is right, restart overlayd here: it takes another subnet, and Docker has to follow; if it is gone, delete the key, and overlayd takes the subnet back',
  commands: ['systemctl restart overlayd docker'],
  explains: 'all',
})

/** A half of a lease, and whose. */
interface Claim {
  readonly lease: Lease
  readonly half: LeaseHalf
}

function checkAll(facts: Facts) {
  const { etcd } = facts
  if (etcd.value === undefined) return { skipped: 'etcd cannot be read' }
  const config = configOf(facts).value
  if (config === undefined) return { skipped: 'the network config cannot be read' }
  const findings: Finding[] = []
  const named = new Set<string>()
  for (const family of familiesOf(facts)) {
    const claims = etcd.value.leases.flatMap((lease): Claim[] => {
      const half = leaseHalf(lease, family)
      return half === undefined ? [] : [{ lease, half }]
    })
    const found = [
      ...sharedPublicIps(claims),
      ...sharedMacs(claims),
      ...overlaps(claims),
      ...otherVnis(claims, vniOf(facts)),
    ]
    for (const { keys, finding } of found) {
      for (const key of keys) named.add(key)
      findings.push(finding)
    }
    findings.push(...otherRejections(facts, family, named))
  }
  return outcome(`${count(etcd.value.leases.length, 'lease')}, no clash`, findings)
}

interface Clash {
  readonly keys: readonly string[]
  readonly finding: Finding
}

const describe = ({ lease, half }: Claim): string =>
  `${lease.key}: ${half.publicIp === undefined ? 'no PublicIP' : formatIp(half.publicIp)}, ${half.vtep === undefined ? 'no MAC' : formatMac(half.vtep.mac)}`

function sharedPublicIps(claims: readonly Claim[]): Clash[] {
  return groups(claims, ({ half }) => half.publicIp)
    .filter((group) => new Set(group.map(({ half }) => half.vtep?.mac)).size > 1)
    .map((group) => ({
      keys: group.map(({ lease }) => lease.key),
      finding: {
        code: 'duplicate-public-ip',
        severity: 'fail',
        what: `two hosts have one PublicIP: ${formatIp(group[0]?.half.publicIp ?? (0 as IpAddress))}`,
        evidence: few(group.map(describe)),
        breaks: 'packets for the containers of both go to one of them',
        fix: 'give one another address, or its --public-ip, and restart overlayd there; if one of the leases is of a host that was set up anew, delete that key',
        commands: group.slice(1, 2).map(({ lease }) => `etcdctl del ${lease.key}`),
      },
    }))
}

function sharedMacs(claims: readonly Claim[]): Clash[] {
  return groups(claims, ({ half }) => half.vtep?.mac)
    .filter((group) => new Set(group.map(({ half }) => half.publicIp)).size > 1)
    .map((group) => ({
      keys: group.map(({ lease }) => lease.key),
      finding: {
        code: 'duplicate-mac',
        severity: 'fail',
        what: `two hosts have one MAC: ${formatMac(group[0]?.half.vtep?.mac ?? (0 as never))}`,
        evidence: few(group.map(describe)),
        breaks:
          'all hosts send packets for the containers of both to one of them; a copied virtual machine is the usual cause',
        fix: 'on one of them delete the device and restart: it makes a MAC of its own',
        commands: ['ip link del flannel.1 && systemctl restart overlayd'],
      },
    }))
}

function overlaps(claims: readonly Claim[]): Clash[] {
  const sorted = [...claims].sort((a, b) =>
    a.half.subnet.address === b.half.subnet.address
      ? a.half.subnet.length - b.half.subnet.length
      : a.half.subnet.address < b.half.subnet.address
        ? -1
        : 1,
  )
  const clashes: Clash[] = []
  for (const [i, claim] of sorted.entries()) {
    const before = sorted[i - 1]
    if (before === undefined || !prefixesOverlap(before.half.subnet, claim.half.subnet)) continue
    clashes.push({
      keys: [before.lease.key, claim.lease.key],
      finding: {
        code: 'subnet-conflict',
        severity: 'fail',
        what: `two leases overlap: ${formatPrefix(before.half.subnet)} and ${formatPrefix(claim.half.subnet)}`,
        evidence: [describe(before), describe(claim)],
        breaks: 'the older one counts; the containers of the other are not reached',
        fix: 'all hosts of a network need one SubnetLen: restart overlayd on the host of the wrong one, or delete that key if nobody has it',
        commands: [`etcdctl del ${claim.lease.key}`],
      },
    })
  }
  return clashes
}

function otherVnis(claims: readonly Claim[], vni: number): Clash[] {
  const wrong = claims.filter(({ half }) => half.vtep !== undefined && half.vtep.vni !== vni)
  if (wrong.length === 0) return []
  return [
    {
      keys: wrong.map(({ lease }) => lease.key),
      finding: {
        code: 'vni-differs',
        severity: 'fail',
        what: `${count(wrong.length, 'host')} ${wrong.length === 1 ? 'has' : 'have'} another VNI than the network's ${vni}`,
        evidence: few(wrong.map((claim) => `${describe(claim)}, VNI ${claim.half.vtep?.vni}`)),
        breaks: 'they and the others throw away each other’s packets',
        fix: 'they run with an older network config: restart overlayd (or flanneld) there',
        commands: ['systemctl restart overlayd'],
        explains: new Set(wrong.map(({ half }) => formatPrefix(half.subnet))),
      },
    },
  ]
}

/** Leases that are not followed for another reason. */
function otherRejections(facts: Facts, family: Family, named: ReadonlySet<string>): Finding[] {
  const own = ownLease(facts)?.key
  const rejected = [...(peerTable(facts, family)?.rejected() ?? [])].filter(
    ({ key }) => !named.has(key) && key !== own,
  )
  if (rejected.length === 0) return []
  return [
    {
      code: 'lease-rejected',
      severity: 'warn',
      what: `${count(rejected.length, 'lease')} in etcd ${rejected.length === 1 ? 'is' : 'are'} not followed`,
      evidence: few(rejected.map(({ key, reason }) => `${key}: ${reason}`)),
      breaks: 'the containers of those hosts are not reached',
      fix: 'correct or delete what is no lease; a host puts its own right when it is restarted',
      commands: rejected.slice(0, 1).map(({ key }) => `etcdctl get ${key}`),
    },
  ]
}

function groups<T>(items: readonly T[], keyOf: (item: T) => unknown): T[][] {
  const found = new Map<unknown, T[]>()
  for (const item of items) {
    const key = keyOf(item)
    if (key !== undefined) found.set(key, [...(found.get(key) ?? []), item])
  }
  return [...found.values()].filter((group) => group.length > 1)
}

const inMinutes = (seconds: number): string =>
  seconds < 3600
    ? `${Math.floor(seconds / 60)} min`
    : `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`
