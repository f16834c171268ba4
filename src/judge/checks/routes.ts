/** Whether the kernel has the objects of each peer, and whether other routes come before them. */
import { formatIp, formatPrefix, networkOf, prefixContains, samePrefix } from '../../model/address'
import { count } from '../../model/count'
import type { KernelObjects } from '../../model/kernel/objects'
import { ROUTE_METRIC, routeKey, type UnderlayRoute } from '../../model/kernel/route'
import type { Facts, Known, PeerFact, PeerWord } from '../facts'
import { type Check, check, type Finding, few, type MadeFinding, type Outcome, outcome } from '../finding'
import {
  daemonsWord,
  deviceOf,
  directLink,
  familyWord,
  linkNameOf,
  OVERLAY,
  type OverlayFacts,
  peerKey,
  peersOf,
  sampleAddress,
  vxlanAddress,
} from '../overlay'

export const ROUTE_CHECKS: readonly Check[] = [
  check({
    name: 'peers',
    about: 'the kernel has neighbour, FDB entry and route of every peer',
    needs: ['kernel'],
    uses: OVERLAY,
    after: ['device', 'encryption'],
    premise: 'started',
    run: checkPeers,
  }),
  check({
    name: 'routes',
    about: 'no other route takes packets for peers',
    needs: ['kernel'],
    uses: [...OVERLAY, 'ways'],
    after: ['lease', 'leases', 'device', 'interface', 'peers'],
    premise: 'started',
    run: checkShadows,
  }),
]

function checkPeers(facts: OverlayFacts & Known<'kernel'>, earlier: readonly MadeFinding[]): Outcome {
  if (earlier.some(({ check: name, explains }) => name === 'device' && explains === 'all'))
    return { skipped: 'the device is not as it should be', because: 'needless' }
  const peers = peersOf(facts)
  const wordOn = daemonsWord(facts)
  const isCut = (peer: PeerFact): boolean =>
    earlier.some(({ check: name, explains }) => {
      return name === 'encryption' && explains !== 'all' && explains?.has(peerKey(peer))
    })
  // Without a tunnel such a peer has no forwarding entry, as it should be.
  const looked = peers
    .filter((peer) => !isCut(peer))
    .map((peer): Looked => {
      const objects = deviceOf(facts, peer.family)?.objects
      return { peer, word: wordOn(peer), lacks: objects === undefined ? [] : whatLacks(objects, peer) }
    })
  const failing = looked.filter(({ word }) => word?.state === 'failing')
  const lacking = looked.filter(({ word, lacks }) => word?.state !== 'failing' && lacks.length > 0)
  const incomplete = lacking.filter(({ word }) => word?.state !== 'pending')
  const pending = lacking.filter(({ word }) => word?.state === 'pending')
  return outcome(`${count(peers.length, 'peer')}, complete in the kernel`, [
    failing.length === 0 ? undefined : refused(failing),
    incomplete.length === 0 ? undefined : lacks(facts, incomplete),
    pending.length === 0 ? undefined : isProgrammed(pending),
  ])
}

/** A peer, the objects that the kernel lacks, and overlayd's report on the peer. */
interface Looked {
  readonly peer: PeerFact
  readonly lacks: readonly string[]
  readonly word: PeerWord | undefined
}

const explained = (looked: readonly Looked[]): ReadonlySet<string> =>
  new Set(looked.map(({ peer }) => peerKey(peer)))
const describeLacks = (looked: readonly Looked[]): string[] =>
  few(looked.map(({ peer, lacks }) => `${peerKey(peer)}: no ${lacks.join(', no ')}`))

const refused = (failing: readonly Looked[]): Finding => ({
  code: 'peer-failing',
  severity: 'fail',
  what: `overlayd cannot program ${count(failing.length, 'peer')}`,
  evidence: few(failing.map(({ peer, word }) => `${peerKey(peer)}: ${word?.reason ?? 'no reason is told'}`)),
  breaks: 'their containers are not reached from here',
  fix: 'take away what overlayd names; it tries again by itself',
  commands: ['overlayctl peers --state=failing'],
  explains: explained(failing),
})

const lacks = (facts: Pick<Facts, 'daemon'>, incomplete: readonly Looked[]): Finding => ({
  code: 'peer-incomplete',
  severity: 'fail',
  what: `the kernel lacks objects of ${count(incomplete.length, 'peer')}`,
  evidence: describeLacks(incomplete),
  breaks: 'their containers are not reached from here',
  fix:
    facts.daemon.value === undefined
      ? 'start overlayd, which programs them'
      : 'overlayd programs them within a second, unless the kernel refuses: see overlayctl status',
  commands: [facts.daemon.value === undefined ? 'systemctl start overlayd' : 'overlayctl status'],
  explains: explained(incomplete),
})

const isProgrammed = (pending: readonly Looked[]): Finding => ({
  code: 'peer-pending',
  severity: 'warn',
  what: `overlayd is programming ${count(pending.length, 'peer')}`,
  evidence: describeLacks(pending),
  breaks: 'their containers are not reached from here until then',
  fix: 'look again in a few seconds',
  commands: ['overlayctl peers --state=pending,failing'],
  explains: explained(pending),
})

function whatLacks(objects: KernelObjects, peer: PeerFact): string[] {
  const { subnet, mac, publicIp } = peer
  if (directLink(objects, subnet) !== undefined) return []
  return [
    ...(objects.route.has(routeKey(subnet)) ? [] : [`route to ${formatPrefix(subnet)}`]),
    ...(objects.neighbour.get(subnet.address) === mac ? [] : [`neighbour ${formatIp(subnet.address)}`]),
    ...(objects.fdb.get(mac)?.some(({ address }) => [publicIp, vxlanAddress(peer)].includes(address))
      ? []
      : [`FDB entry to ${formatIp(publicIp)}`]),
  ]
}

function checkShadows(
  facts: OverlayFacts & Known<'kernel', 'ways'>,
  earlier: readonly MadeFinding[],
): Outcome {
  const incomplete = earlier.flatMap(({ explains }) => (explains === undefined ? [] : [explains]))
  if (incomplete.includes('all')) return { skipped: 'there is no usable device', because: 'needless' }
  const peers = peersOf(facts)
  const within = routesWithin(peers, facts.kernel.value.routes)
  const findings = peers.flatMap((peer) => {
    if (incomplete.some((keys) => keys !== 'all' && keys.has(peerKey(peer)))) return []
    const device = deviceOf(facts, peer.family)
    if (device === undefined) return []
    const links = [device.link.index, directLink(device.objects, peer.subnet)]
    const route = within(peer).find((each) => beats(each, peer) && !links.includes(each.linkIndex))
    if (route !== undefined) return [shadowedBy(facts, peer, route)]
    const sample = sampleAddress(peer.subnet)
    const way = facts.ways.value?.get(sample)
    return facts.ways.value?.has(sample) !== true || links.includes(way?.linkIndex)
      ? []
      : [ledAstray(facts, peer, way?.linkIndex)]
  })
  return outcome(`the way to ${count(peers.length, 'peer')} is ours`, merge(findings))
}

/** Finds the routes into a peer's subnet, without a search in all routes for each peer. */
function routesWithin(
  peers: readonly PeerFact[],
  routes: readonly UnderlayRoute[],
): (peer: PeerFact) => readonly UnderlayRoute[] {
  const lengths = new Set(peers.map(({ subnet }) => subnet.length))
  const found = new Map<string, UnderlayRoute[]>()
  for (const route of routes) {
    const { address, length } = route.destination
    for (const wide of lengths) {
      if (length < wide) continue
      const key = formatPrefix(networkOf(address, wide))
      const list = found.get(key)
      if (list === undefined) found.set(key, [route])
      else list.push(route)
    }
  }
  return ({ subnet }) => found.get(formatPrefix(subnet)) ?? []
}

/** Whether a packet for the peer's subnet, or for a part of it, takes this route instead of ours. */
function beats({ destination, metric }: UnderlayRoute, { family, subnet }: PeerFact): boolean {
  if (!prefixContains(subnet, destination.address) || destination.length < subnet.length) return false
  return !samePrefix(destination, subnet) || metric < ROUTE_METRIC[family]
}

function shadowedBy(facts: Pick<Facts, 'kernel'>, peer: PeerFact, route: UnderlayRoute): Finding {
  const more = samePrefix(route.destination, peer.subnet) ? 'of a lower metric' : 'more specific'
  const text = `${formatPrefix(route.destination)} dev ${linkNameOf(facts, route.linkIndex)}`
  return {
    code: 'route-shadowed',
    severity: 'fail',
    what: `another route takes packets for the containers of ${peerKey(peer)}`,
    evidence: [`${text}${route.metric === 0 ? '' : ` metric ${route.metric}`} is ${more}`],
    breaks: `packets for ${formatPrefix(route.destination)} do not go to ${formatIp(peer.publicIp)}`,
    fix:
      'remove that route, and keep whatever made it (a VPN, a routing daemon, another network of ' +
      'containers) from making it again',
    commands: [`ip ${familyWord(peer.subnet.address)}route del ${text}`],
    explains: new Set([peerKey(peer)]),
  }
}

function ledAstray(facts: Pick<Facts, 'kernel'>, peer: PeerFact, link: number | undefined): Finding {
  const address = formatIp(sampleAddress(peer.subnet))
  return {
    code: 'route-shadowed',
    severity: 'fail',
    what: `a rule or another table takes packets for the containers of ${peerKey(peer)}`,
    evidence: [
      `ip route get ${address}: ${link === undefined ? 'no way' : `dev ${linkNameOf(facts, link)}`}`,
    ],
    breaks: `packets for ${peerKey(peer)} do not go to ${formatIp(peer.publicIp)}`,
    fix: 'find what leads it there: policy rules come before the main table, in which our routes are',
    commands: ['ip rule', `ip route show table all match ${address}`],
    explains: new Set([peerKey(peer)]),
  }
}

/** Commands against many routes: the evidence counts the routes, and the commands are alike. */
const MOST_COMMANDS = 5

/** Many peers with the same trouble are one finding. */
function merge(findings: readonly Finding[]): Finding[] {
  const [first, ...rest] = findings
  if (first === undefined || rest.length === 0) return [...findings]
  return [
    {
      ...first,
      what: `other routes take packets for the containers of ${findings.length} peers`,
      evidence: few(findings.flatMap(({ evidence }) => evidence)),
      commands: findings.flatMap(({ commands = [] }) => commands).slice(0, MOST_COMMANDS),
      explains: new Set(
        findings.flatMap(({ explains }) =>
          explains === undefined || explains === 'all' ? [] : [...explains],
        ),
      ),
    },
  ]
}
