/** What the kernel has of the peers, and whether anything comes before it. */
import { formatIp, formatPrefix, prefixContains, samePrefix } from '../../model/address'
import { type KernelObjects, ROUTE_METRIC, routeKey, type UnderlayRoute } from '../../model/kernel'
import type { Facts, PeerFact } from './facts'
import { type Check, count, type Finding, few, outcome } from './finding'
import { deviceOf, directLink, familyWord, linkNameOf, peerKey, peersOf, sampleAddress } from './overlay'

export const ROUTE_CHECKS: readonly Check[] = [
  { name: 'peers', about: 'the kernel has neighbour, FDB entry and route of every peer', run: checkPeers },
  { name: 'routes', about: 'no other route takes packets for peers', run: checkShadows },
]

function checkPeers(facts: Facts, earlier: readonly Finding[]) {
  if (facts.kernel.value === undefined) return { skipped: facts.kernel.missing }
  if (earlier.some(({ code }) => code.startsWith('device-')))
    return { skipped: 'the device is not as it should be' }
  const peers = peersOf(facts)
  const lacking = peers.flatMap((peer) => {
    const objects = deviceOf(facts, peer.family)?.objects
    const lacks = objects === undefined ? [] : whatLacks(objects, peer)
    return lacks.length === 0 ? [] : [{ peer, lacks }]
  })
  const finding: Finding = {
    code: 'peer-incomplete',
    severity: 'fail',
    what: `the kernel does not have ${count(lacking.length, 'peer')} as etcd has ${lacking.length === 1 ? 'it' : 'them'}`,
    evidence: few(lacking.map(({ peer, lacks }) => `${peerKey(peer)}: no ${lacks.join(', no ')}`)),
    breaks: 'their containers are not reached from here',
    fix:
      facts.daemon.value === undefined
        ? 'start overlayd, which programs them'
        : 'overlayd programs them within a second, unless the kernel refuses: see overlayctl status',
    commands: [facts.daemon.value === undefined ? 'systemctl start overlayd' : 'overlayctl status'],
    explains: new Set(lacking.map(({ peer }) => peerKey(peer))),
  }
  return outcome(`${count(peers.length, 'peer')}, complete in the kernel`, [
    lacking.length === 0 ? undefined : finding,
  ])
}

function whatLacks(objects: KernelObjects, { subnet, mac, publicIp }: PeerFact): string[] {
  if (directLink(objects, subnet) !== undefined) return []
  return [
    ...(objects.routes.has(routeKey(subnet)) ? [] : [`route to ${formatPrefix(subnet)}`]),
    ...(objects.neighbours.get(subnet.address) === mac ? [] : [`neighbour ${formatIp(subnet.address)}`]),
    ...(objects.fdb.get(mac)?.includes(publicIp) ? [] : [`FDB entry to ${formatIp(publicIp)}`]),
  ]
}

function checkShadows(facts: Facts, earlier: readonly Finding[]) {
  if (facts.kernel.value === undefined) return { skipped: facts.kernel.missing }
  const incomplete = earlier.flatMap(({ explains }) => (explains === undefined ? [] : [explains]))
  if (incomplete.includes('all')) return { skipped: 'there is no usable device' }
  const peers = peersOf(facts)
  const findings = peers.flatMap((peer) => {
    if (incomplete.some((keys) => keys !== 'all' && keys.has(peerKey(peer)))) return []
    const device = deviceOf(facts, peer.family)
    if (device === undefined) return []
    const links = [device.link.index, directLink(device.objects, peer.subnet)]
    const route = facts.kernel.value?.routes.find(
      (each) => beats(each, peer) && !links.includes(each.linkIndex),
    )
    if (route !== undefined) return [shadowedBy(facts, peer, route)]
    const way = facts.ways.get(sampleAddress(peer.subnet))
    const known = facts.ways.has(sampleAddress(peer.subnet))
    return !known || links.includes(way?.linkIndex) ? [] : [ledAstray(facts, peer, way?.linkIndex)]
  })
  return outcome(`the way to ${count(peers.length, 'peer')} is ours`, merge(findings))
}

/** Whether a packet for (a part of) the peer's subnet takes this route rather than ours. */
function beats({ destination, metric }: UnderlayRoute, { family, subnet }: PeerFact): boolean {
  if (!prefixContains(subnet, destination.address) || destination.length < subnet.length) return false
  return !samePrefix(destination, subnet) || metric < ROUTE_METRIC[family]
}

function shadowedBy(facts: Facts, peer: PeerFact, route: UnderlayRoute): Finding {
  const more = samePrefix(route.destination, peer.subnet) ? 'of a lower metric' : 'more specific'
  const text = `${formatPrefix(route.destination)} dev ${linkNameOf(facts, route.linkIndex)}`
  return {
    code: 'route-shadowed',
    severity: 'fail',
    what: `another route takes packets for the containers of ${peerKey(peer)}`,
    evidence: [`${text}${route.metric === 0 ? '' : ` metric ${route.metric}`} is ${more}`],
    breaks: `packets for ${formatPrefix(route.destination)} do not go to ${formatIp(peer.publicIp)}`,
    fix: 'remove that route, and keep whatever made it (a VPN, a routing daemon, another network of containers) from making it again',
    commands: [`ip ${familyWord(peer.subnet.address)}route del ${text}`],
    explains: new Set([peerKey(peer)]),
  }
}

function ledAstray(facts: Facts, peer: PeerFact, link: number | undefined): Finding {
  const address = formatIp(sampleAddress(peer.subnet))
  return {
    code: 'route-shadowed',
    severity: 'fail',
    what: `a rule or another table takes packets for the containers of ${peerKey(peer)}`,
    evidence: [
      `ip route get ${address}: ${link === undefined ? 'no way' : `dev ${linkNameOf(facts, link)}`}`,
    ],
    breaks: `packets for ${peerKey(peer)} do not go to ${formatIp(peer.publicIp)}`,
    fix: 'look what leads it there: policy rules come before the main table, where our routes are',
    commands: ['ip rule', `ip route show table all match ${address}`],
    explains: new Set([peerKey(peer)]),
  }
}

/** Many peers that suffer in one way are one finding. */
function merge(findings: readonly Finding[]): Finding[] {
  const [first, ...rest] = findings
  if (first === undefined || rest.length === 0) return [...findings]
  return [
    {
      ...first,
      what: `other routes take packets for the containers of ${findings.length} peers`,
      evidence: few(findings.flatMap(({ evidence }) => evidence)),
      commands: few(findings.flatMap(({ commands = [] }) => commands)).filter((line) =>
        line.startsWith('ip '),
      ),
      explains: new Set(
        findings.flatMap(({ explains }) =>
          explains === undefined || explains === 'all' ? [] : [...explains],
        ),
      ),
    },
  ]
}
