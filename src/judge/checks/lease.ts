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
import { count } from '../../model/count'
import {
  type FamilyLease,
  familyLease,
  formatLeaseSubnet,
  isReservation,
  type Lease,
} from '../../model/lease'
import { describeOverlap, type OwnPrefix, overlapped, ownPrefixes } from '../../plan/host/host-prefixes'
import type { Facts, Known } from '../facts'
import { type Check, check, type Finding, few, type Outcome, outcome } from '../finding'
import {
  claimedSubnet,
  deviceOf,
  familiesOf,
  isOwnAddress,
  OVERLAY,
  type OverlayFacts,
  ownLease,
  rejectionsOf,
  vniOf,
} from '../overlay'

/** A running daemon renews long before. Half of flannel's default renew margin. */
const NEAR_END_SECONDS = 30 * 60

export const LEASE_CHECKS: readonly Check[] = [
  check({
    name: 'lease',
    about: 'this host has its subnet, for some time',
    needs: ['etcd'],
    uses: [...OVERLAY, 'leaseLife'],
    premise: 'started',
    run: checkOwn,
  }),
  check({
    name: 'leases',
    about: 'no two hosts claim one subnet, PublicIP, MAC; VNIs agree',
    needs: ['etcd', 'config'],
    uses: OVERLAY,
    ifGathered: ['probes'],
    premise: 'config',
    run: checkAll,
  }),
]

function checkOwn(facts: OverlayFacts & Known<'etcd', 'leaseLife'>): Outcome {
  const own = ownLease(facts)
  const claims = FAMILIES.flatMap((family) => claimedSubnet(facts, family) ?? [])
  if (own === undefined) {
    if (claims.length === 0) return { skipped: 'this host has no lease yet', because: 'needless' }
    const subnet = claims.map(formatPrefix).join(' and ')
    const isDrained = facts.daemon.value?.lease?.state === 'drained'
    return outcome('', [isDrained ? drained(subnet) : lost(facts, subnet)])
  }
  const left = facts.leaseLife.value
  const subnet = formatLeaseSubnet(own.subnet)
  const until = isReservation(own) ? 'a reservation, which never ends' : `${inMinutes(left ?? 0)} left`
  const foreign = foreignClaim(facts, own)
  if (foreign !== undefined) return outcome('', [foreign])
  const around = facts.kernel.value
  const config = facts.config.value
  const inside = around && config && overlapped(own.subnet, ownPrefixes(config, around, around.routes))
  const nearEnd = !isReservation(own) && left !== undefined && left < NEAR_END_SECONDS
  return outcome(`${subnet}, ${until}`, [
    nearEnd ? nearExpiry(facts, own, left) : undefined,
    inside && covers(own, inside),
  ])
}

const covers = (own: Lease, inside: OwnPrefix): Finding => ({
  code: 'lease-overlap',
  severity: 'fail',
  what: 'the subnet of this host overlaps a network that this host is in',
  evidence: [describeOverlap(own.subnet, inside)],
  breaks: 'some containers, or some hosts of that network, are not reached from here',
  fix:
    'keep hosts out of there with SubnetMin and SubnetMax of the network config, or reserve another subnet ' +
    'for this host; then restart overlayd and Docker here',
  commands: ['overlayctl reserve --help', 'systemctl restart overlayd docker'],
})

function lost(facts: OverlayFacts, subnet: string): Finding {
  const runs = facts.daemon.value !== undefined
  return {
    code: 'lease-expired',
    severity: 'fail',
    what: `the lease of this host, ${subnet}, is not in etcd any more`,
    evidence: [
      `no key under ${facts.etcdPrefix}/subnets names it, and ` +
        `${runs ? 'the daemon' : facts.subnetFile.value?.path} does`,
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

function nearExpiry(facts: OverlayFacts, own: Lease, left: number): Finding {
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

/** The key of this host's subnet names another host. */
function foreignClaim(facts: OverlayFacts, own: Lease): Finding | undefined {
  for (const family of FAMILIES) {
    const half = familyLease(own, family)
    const device = deviceOf(facts, family)
    if (half === undefined || half.publicIp === undefined || device === undefined) continue
    const { mac, vxlan } = device.link
    if (half.vtep === undefined || half.vtep.mac === mac) continue
    const local = vxlan?.local === undefined ? 'no address' : formatIp(vxlan.local)
    const evidence =
      `${own.key} has ${formatIp(half.publicIp)} and ${formatMac(half.vtep.mac)}; this host has ${local} ` +
      `and ${formatMac(mac)}`
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
    'a host is known by its PublicIP, so both use one lease, and packets go to the host that wrote last',
  fix: 'give one of the two another address, or its --public-ip; then restart overlayd there',
  commands: [`arping -D -c 3 -I <interface> ${formatIp(publicIp)}`],
  explains: 'all',
})

const taken = ({ subnet, publicIp }: FamilyLease, evidence: string): Finding => ({
  code: 'lease-foreign',
  severity: 'fail',
  what: `the subnet of this host, ${formatPrefix(subnet)}, is leased to ${
    publicIp === undefined ? 'another host' : formatIp(publicIp)
  }`,
  evidence: [evidence],
  breaks: 'all other hosts send what is for the containers here to that host',
  fix:
    'if that host is right, restart overlayd here: it takes another subnet, and Docker has to follow; if ' +
    'that host is gone, evict it, and overlayd takes the subnet back',
  commands: [
    `overlayctl evict ${formatPrefix(subnet)}    # if that host is gone`,
    'systemctl restart overlayd docker',
  ],
  explains: 'all',
})

/** One family's half of a lease, and the lease. */
interface Claim {
  readonly lease: Lease
  readonly half: FamilyLease
}

type ClaimFacts = OverlayFacts & Pick<Facts, 'probes'>

function checkAll(facts: ClaimFacts & Known<'etcd' | 'config'>): Outcome {
  const { etcd } = facts
  const findings: Finding[] = []
  const named = new Set<string>()
  for (const family of familiesOf(facts)) {
    const claims = etcd.value.leases.flatMap((lease): Claim[] => {
      const half = familyLease(lease, family)
      return half === undefined ? [] : [{ lease, half }]
    })
    const found = [
      ...sharedPublicIps(facts, claims),
      ...sharedMacs(claims),
      ...overlaps(facts, claims),
      ...ownAddresses(facts, claims),
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

function describe({ lease, half: { publicIp, vtep } }: Claim): string {
  const address = publicIp === undefined ? 'no PublicIP' : formatIp(publicIp)
  return `${lease.key}: ${address}, ${vtep === undefined ? 'no MAC' : formatMac(vtep.mac)}`
}

/**
 * Which of several claims belong to hosts that are gone: those that do not answer through the overlay, while
 * exactly one other claim does. A host that was not probed may be alive.
 */
function judgeLife(
  facts: ClaimFacts,
  claims: readonly Claim[],
): { readonly live: readonly Claim[]; readonly dead: readonly Claim[] } {
  const probes = new Map(facts.probes.value?.map((probe) => [probe.peer, probe]))
  const answers = ({ half, lease }: Claim): boolean | undefined => {
    if (lease.key === ownLease(facts)?.key)
      return facts.daemon.value?.lease?.state === 'held' ? true : undefined
    const probe = probes.get(formatPrefix(half.subnet))
    if (probe === undefined) return undefined
    const pings = [probe.overlayFull, probe.overlaySmall]
    return probe.overlayTcp === true || pings.some((ping) => (ping?.received ?? 0) > 0)
  }
  const live = claims.filter((claim) => answers(claim) === true)
  if (live.length !== 1) return { live, dead: [] }
  // One address has one host. Where the host answers under one lease, the others are former leases of that
  // host.
  const sameHost = claims.every(
    ({ half }) => half.publicIp !== undefined && half.publicIp === claims[0]?.half.publicIp,
  )
  const isOwn = live[0]?.lease.key === ownLease(facts)?.key
  const dead = claims.filter(
    (claim) => answers(claim) === false || (answers(claim) === undefined && sameHost && !isOwn),
  )
  return { live, dead: dead.filter((claim) => !live.includes(claim)) }
}

const evict = ({ half }: Claim): string => `overlayctl evict ${formatPrefix(half.subnet)}`

const lifeLines = ({ live, dead }: ReturnType<typeof judgeLife>): string[] => [
  ...live.map(({ half }) => `${formatPrefix(half.subnet)} is alive: it answers`),
  ...dead.map(({ half }) => `${formatPrefix(half.subnet)} does not answer`),
]

function sharedPublicIps(facts: ClaimFacts, claims: readonly Claim[]): Clash[] {
  return groups(claims, ({ half }) => half.publicIp)
    .filter((group) => new Set(group.map(({ half }) => half.vtep?.mac)).size > 1)
    .map((group) => {
      const life = judgeLife(facts, group)
      const address = formatIp(group[0]?.half.publicIp ?? (0 as IpAddress))
      const own = ownLease(facts)?.key
      return {
        keys: group.map(({ lease }) => lease.key),
        finding: {
          code: 'duplicate-public-ip',
          severity: 'fail',
          what: `two hosts have one PublicIP: ${address}`,
          evidence: [...few(group.map(describe)), ...lifeLines(life)],
          breaks: 'packets for the containers of both go to one of them',
          ...(life.dead.length > 0
            ? {
                fix: 'the lease that does not answer is of a host that was set up anew, or is gone: evict it',
                commands: life.dead.map(evict),
              }
            : {
                fix:
                  `find out which of the two is to keep ${address}: give the other host another address, ` +
                  'or its --public-ip, and start overlayd there again; a lease of a host that is gone ends ' +
                  'with overlayctl evict, which refuses a live one',
                commands: [
                  `arping -D -c 3 -I <interface> ${address}    # on either: does another host answer?`,
                ],
              }),
          // A probe of this host's own address says nothing about the other host.
          explains: new Set(
            group
              .filter(
                ({ lease }) => lease.key !== own && !life.live.some((claim) => claim.lease.key === lease.key),
              )
              .map(({ half }) => formatPrefix(half.subnet)),
          ),
        },
      }
    })
}

/**
 * A lease of another host names an address of this host: packets to it stay here, so the other host is not to
 * blame.
 */
function ownAddresses(facts: OverlayFacts, claims: readonly Claim[]): Clash[] {
  const own = ownLease(facts)
  const announced =
    own === undefined ? [] : FAMILIES.flatMap((family) => familyLease(own, family)?.publicIp ?? [])
  return claims
    .filter(
      ({ lease, half }) =>
        lease.key !== own?.key &&
        half.publicIp !== undefined &&
        !announced.includes(half.publicIp) &&
        isOwnAddress(facts, half.publicIp),
    )
    .map((claim) => ({
      keys: [claim.lease.key],
      finding: {
        code: 'peer-has-own-address',
        severity: 'fail',
        what:
          `a lease of another host names ${formatIp(claim.half.publicIp ?? (0 as IpAddress))}, which is an ` +
          'address of this host',
        evidence: [describe(claim)],
        breaks: `packets for ${formatPrefix(claim.half.subnet)} do not leave this host`,
        fix:
          'it is a former lease of this host, or another host has this address too: evict the lease if ' +
          'that host is gone, else give one of the two another address',
        commands: [evict(claim)],
        explains: new Set([formatPrefix(claim.half.subnet)]),
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
          'all hosts send packets for the containers of both to one of them; a copied virtual machine is ' +
          'the usual cause',
        fix: 'on one of them delete the device and restart: it makes a MAC of its own',
        commands: ['ip link del flannel.1 && systemctl restart overlayd'],
      },
    }))
}

function overlaps(facts: ClaimFacts, claims: readonly Claim[]): Clash[] {
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
    const life = judgeLife(facts, [before, claim])
    const subnets = [before, claim].map(({ half }) => formatPrefix(half.subnet))
    clashes.push({
      keys: [before.lease.key, claim.lease.key],
      finding: {
        code: 'subnet-conflict',
        severity: 'fail',
        what: `two leases overlap: ${subnets.join(' and ')}`,
        evidence: [describe(before), describe(claim), ...lifeLines(life)],
        breaks: 'the older one counts; the containers of the other are not reached',
        fix:
          life.dead.length > 0
            ? 'all hosts of a network need one SubnetLen; the one that does not answer is not used: evict it'
            : 'all hosts of a network need one SubnetLen: start overlayd again on the host of the wrong ' +
              'one; a lease of a host that is gone ends with overlayctl evict, which refuses a live one',
        ...(life.dead.length > 0 && { commands: life.dead.map(evict) }),
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
        what: `${count(wrong.length, 'host has', 'hosts have')} another VNI than the network's ${vni}`,
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
function otherRejections(facts: OverlayFacts, family: Family, named: ReadonlySet<string>): Finding[] {
  const own = ownLease(facts)?.key
  const rejected = rejectionsOf(facts, family).filter(({ key }) => !named.has(key) && key !== own)
  if (rejected.length === 0) return []
  const areKept = rejected.every(({ isKept }) => isKept)
  return [
    {
      code: 'lease-rejected',
      severity: 'warn',
      what: `${count(rejected.length, 'lease in etcd is', 'leases in etcd are')} not followed`,
      evidence: few(rejected.map(({ key, reason }) => `${key}: ${reason}`)),
      breaks: areKept
        ? 'nothing yet: those hosts are reached as they were before'
        : 'the containers of those hosts are not reached',
      fix: 'correct or delete what is no lease; a host corrects its own lease when it is restarted',
      commands: [areKept ? 'overlayctl peers' : 'overlayctl peers --state=rejected'],
      explains: new Set(
        rejected.flatMap(({ subnet, isKept }) =>
          subnet === undefined || isKept ? [] : formatPrefix(subnet),
        ),
      ),
    },
  ]
}

function groups<T>(items: readonly T[], keyOf: (item: T) => unknown): T[][] {
  const found = new Map<unknown, T[]>()
  for (const item of items) {
    const key = keyOf(item)
    if (key === undefined) continue
    const group = found.get(key)
    if (group === undefined) found.set(key, [item])
    else group.push(item)
  }
  return [...found.values()].filter((group) => group.length > 1)
}

const inMinutes = (seconds: number): string =>
  seconds < 3600
    ? `${Math.floor(seconds / 60)} min`
    : `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`
