/** Encryption of packets to other hosts, where the network config asks for it. */
import { familyOf, formatIp, formatPrefix } from '../../model/address'
import { nameUnderSubnets } from '../../model/commands'
import { count } from '../../model/count'
import type { ObservedWireguardPeer, WireguardKey } from '../../model/kernel/wireguard'
import { type Peer, slotOf, type WireguardAnnouncement } from '../../model/lease'
import { wireguardLinkName } from '../../plan/encryption/encryption-plan'
import { describeRefusal, type TunnelHost, tunnelHosts } from '../../plan/encryption/tunnel-hosts'
import { allowedIpsOf, samePrefixes, slotWith } from '../../plan/encryption/tunnels'
import type { DaemonFacts, Facts, Known, WireguardFacts } from '../facts'
import { type Check, check, type Finding, few, type Outcome, outcome, type Unmade } from '../finding'
import {
  daemonsWord,
  familiesOf,
  OVERLAY,
  type OverlayFacts,
  ownAnnouncement,
  ownLease,
  peerKey,
  peerTable,
  portBetween,
  vniOf,
} from '../overlay'

export const ENCRYPTION_CHECKS: readonly Check[] = [
  check({
    name: 'encryption',
    about: 'packets to other hosts are encrypted, where the network config asks for it',
    needs: ['config'],
    uses: [...OVERLAY, 'wireguard', 'firewall', 'clock'],
    premise: 'started',
    run: checkEncryption,
  }),
]

type EncryptionFacts = OverlayFacts & Known<'config', 'wireguard' | 'firewall' | 'clock'>
type Mode = 'prefer' | 'required'

/** Seconds by which clocks may differ: then a clock is named as a cause. */
const MOST_SKEW_SECONDS = 5

const LOOK = 'see in the log of overlayd why it does not repair this'
const LOG = ['journalctl -u overlayd -n 50', 'systemctl restart overlayd']

function checkEncryption(facts: EncryptionFacts): Outcome {
  const { encryption } = facts.config.value.backend
  if (encryption === undefined) return outcome('packets go in clear, as the network config says', [])
  const { mode } = encryption
  const status = facts.daemon.value?.encryption
  if (status?.state === 'unable') return outcome('', [unable(status)])
  if (ownLease(facts) === undefined) return { skipped: 'this host has no lease yet', because: 'needless' }
  const own = ownAnnouncement(facts)
  if (own === undefined) return outcome('', [unannounced(mode)])
  const peers = familiesOf(facts).map((family) => [...(peerTable(facts, family)?.peers() ?? [])])
  const all = peers.flat()
  const { hosts, refused } = tunnelHosts(peers, own.keys)
  const used = facts.wireguard.value
  const counts = status?.peers
  const summary =
    counts === undefined
      ? `${mode}; ${all.filter(({ wireguard }) => wireguard !== undefined).length} of ` +
        `${count(all.length, 'peer')} announce keys`
      : `${mode}; ${counts.encrypted} of ${count(all.length, 'peer')} get packets encrypted`
  return outcome(
    summary,
    [
      status?.problem === undefined ? undefined : troubled(mode, status.problem),
      facts.wireguard.ok ? wrongDevice(facts, own, used ?? []) : undefined,
      ...(used ?? []).map((device) => wrongPeers(device, own, hosts)),
      ...(used ?? []).map((device) => strangers(device, hosts)),
      wrongRule6(used ?? []),
      mode === 'required' ? noGuard(facts) : undefined,
      keyless(mode, all),
      refusedKeys(mode, refused, all),
      unanswered(facts, mode, own, hosts, all),
    ],
    unmadeFor(facts),
  )
}

/** The devices could not be read. */
function unmadeFor({ wireguard }: EncryptionFacts): Unmade | undefined {
  if (wireguard.ok) return undefined
  const { text, code } = wireguard.problem
  return { what: text, because: code === 'no-rights' ? 'rights' : 'unknown' }
}

type Word = NonNullable<DaemonFacts['encryption']>

const unable = ({ reason = 'overlayd does not say why', fix = '' }: Word): Finding => ({
  code: 'encryption-unable',
  severity: 'warn',
  what: 'this host cannot encrypt, and the network prefers encryption',
  evidence: [reason],
  breaks:
    'all packets between this host and others go in clear, and encryption cannot be required before this ' +
    'host is able',
  fix,
})

const unannounced = (mode: Mode): Finding => ({
  code: 'encryption-unannounced',
  severity: mode === 'required' ? 'fail' : 'warn',
  what: 'the lease of this host announces no key',
  evidence: [`the network config has "Encryption":"${mode}"`],
  breaks:
    mode === 'required'
      ? 'other hosts send nothing here'
      : 'packets between this host and others go in clear',
  fix: 'overlayd announces its keys as soon as it follows the config: see in its log why it does not',
  commands: LOG,
})

const troubled = (mode: Mode, problem: string): Finding => ({
  code: 'encryption-problem',
  severity: 'fail',
  what: 'overlayd cannot encrypt as it should',
  evidence: [problem],
  breaks:
    mode === 'required' ? 'peers may get no packets' : 'packets to peers may go in clear, or in nothing',
  fix: 'the reason is in its words; it tries again by itself',
  commands: ['overlayctl status', 'journalctl -u overlayd -n 50'],
})

/** The device that this host receives through. */
function wrongDevice(
  facts: EncryptionFacts,
  own: WireguardAnnouncement,
  devices: readonly WireguardFacts[],
): Finding | undefined {
  const slot = slotOf(own.turn)
  const name = wireguardLinkName(slot, vniOf(facts))
  const found = devices.find((each) => each.slot === slot)
  const wrong = (evidence: string): Finding => ({
    code: 'encryption-device',
    severity: 'fail',
    what: `the WireGuard device ${name} is not as the lease of this host says`,
    evidence: [evidence],
    breaks: 'nothing that other hosts encrypt for this one is decrypted here',
    fix: LOOK,
    commands: LOG,
  })
  if (found === undefined) return wrong(`there is no link ${name}`)
  const { link, device } = found
  if (device === undefined) return wrong(`the link ${name} is of the kind ${link.kind ?? 'unknown'}`)
  if (!link.up) return wrong(`ip link show ${name} says DOWN`)
  if (device.publicKey !== own.keys[slot])
    return wrong(`its key is ${device.publicKey ?? 'none'}, and the lease has ${own.keys[slot]}`)
  if (device.port !== own.port + slot)
    return wrong(`it listens on UDP port ${device.port}, and the lease says ${own.port + slot}`)
  return undefined
}

/** Hosts whose addresses inside of the tunnel are not those of their leases. */
function wrongPeers(
  { slot, device, link }: WireguardFacts,
  own: WireguardAnnouncement,
  hosts: readonly TunnelHost[],
): Finding | undefined {
  const wrong = hosts.flatMap((host) => {
    const observed = device?.peers.get(host.announced.keys[slot])
    // A peer that is kept for a host that leaves the slot is not looked at.
    if (observed === undefined || slotWith(own.turn, host) !== slot) return []
    const wanted = allowedIpsOf(host)
    if (samePrefixes(observed.allowedIps, wanted)) return []
    const has = observed.allowedIps.map(formatPrefix).join(' and ') || 'none'
    return [`${namesOf(host)}: allowed-ips ${has}, and ${wanted.map(formatPrefix).join(' and ')} is right`]
  })
  if (wrong.length === 0) return undefined
  return {
    code: 'encryption-allowed-ips',
    severity: 'fail',
    what: `${link.name} has wrong addresses for ${count(wrong.length, 'host')}`,
    evidence: few(wrong),
    breaks: 'packets to and from those hosts are dropped by the device, or one host can pose as another',
    fix: 'overlayd repairs it by itself within a second while it runs; if it comes back, find who changes it',
    commands: [`wg show ${link.name} allowed-ips`],
  }
}

/** Keys on the device that no lease announces. */
function strangers(
  { slot, device, link }: WireguardFacts,
  hosts: readonly TunnelHost[],
): Finding | undefined {
  const known = new Set<WireguardKey>(hosts.map(({ announced: { keys } }) => keys[slot]))
  const unknown = [...(device?.peers.keys() ?? [])].filter((key) => !known.has(key))
  const [first] = unknown
  if (first === undefined) return undefined
  return {
    code: 'encryption-stranger',
    severity: 'fail',
    what: `${link.name} has ${count(unknown.length, 'peer')} that no lease announces`,
    evidence: few(unknown.map((key) => `the key ${key}`)),
    breaks: 'whoever has that key may send packets into the overlay',
    fix:
      'overlayd removes it by itself within a second while it runs and etcd answers; if it comes back, ' +
      'find who adds it',
    commands: [`wg set ${link.name} peer ${first} remove`],
  }
}

function wrongRule6(devices: readonly WireguardFacts[]): Finding | undefined {
  const without = devices.filter(({ hasRule6, device }) => device !== undefined && hasRule6 === false)
  if (without.length === 0) return undefined
  return {
    code: 'encryption-rule6',
    severity: 'fail',
    what: 'IPv6 packets to peers may leave in clear',
    evidence: without.map(
      ({ link: { name } }) => `ip -6 rule has no rule for oif ${name}, or its table no route`,
    ),
    breaks: 'the kernel sends IPv6 packets by the route to the peer, past the WireGuard device',
    fix: 'overlayd repairs it by itself within a second while it runs',
    commands: ['ip -6 rule show', ...LOG],
  }
}

function noGuard(facts: EncryptionFacts): Finding | undefined {
  const table = wireguardLinkName(0, vniOf(facts))
  const { value } = facts.firewall
  // Where rules could not be read, the check of the firewall says so.
  if (value === undefined || value.unread.length > 0) return undefined
  if (value.chains.some((chain) => chain.family === 'inet' && chain.table === table)) return undefined
  return {
    code: 'encryption-guard',
    severity: 'fail',
    what: 'no rule keeps packets in clear out, though encryption is required',
    evidence: [`nft list ruleset has no table inet ${table}`],
    breaks: 'whoever can write to the underlay can send packets in clear into the overlay',
    fix: LOOK,
    commands: LOG,
  }
}

function keyless(mode: Mode, all: readonly Peer[]): Finding | undefined {
  const without = all.filter(({ wireguard }) => wireguard === undefined)
  if (without.length === 0) return undefined
  const isRequired = mode === 'required'
  const hosts = new Set(without.map(({ key }) => key)).size
  return {
    code: 'encryption-keyless',
    severity: isRequired ? 'fail' : 'warn',
    what: `${count(hosts, 'host')} ${hosts === 1 ? 'announces' : 'announce'} no key`,
    evidence: few(without.map((peer) => `${describePeer(peer)}: no key in its lease`)),
    breaks: isRequired
      ? 'packets of this host do not reach them, and theirs are dropped here'
      : 'packets between them and this host go in clear; with "required" they would be cut off',
    fix:
      'run overlayd there, on a kernel with WireGuard and without --encryption=off; ' +
      'overlayctl doctor there says what is missing',
    ...(isRequired && { explains: new Set(without.map(peerKey)) }),
  }
}

function refusedKeys(
  mode: Mode,
  refused: ReturnType<typeof tunnelHosts>['refused'],
  all: readonly Peer[],
): Finding | undefined {
  if (refused.size === 0) return undefined
  const lines = [...refused].map(([key, refusal]) => `${nameUnderSubnets(key)}: ${describeRefusal(refusal)}`)
  const isRequired = mode === 'required'
  return {
    code: 'encryption-refused',
    severity: isRequired ? 'fail' : 'warn',
    what: `the keys of ${count(refused.size, 'lease')} are not used`,
    evidence: few(lines),
    breaks: isRequired ? 'nothing is sent to those hosts' : 'packets to those hosts go in clear',
    fix:
      'a host that was copied with its state directory has the keys of the other: stop overlayd there, ' +
      'delete the key file, and start it; a lease of a host that is gone can be evicted',
    commands: ['overlayctl peers'],
    ...(isRequired && { explains: new Set(all.filter(({ key }) => refused.has(key)).map(peerKey)) }),
  }
}

/** Hosts with keys that are not reached encrypted, and those that have fallen silent. */
function unanswered(
  facts: EncryptionFacts,
  mode: Mode,
  own: WireguardAnnouncement,
  hosts: readonly TunnelHost[],
  all: readonly Peer[],
): Finding | undefined {
  const wordOn = daemonsWord(facts)
  const byLease = new Map(hosts.flatMap((host) => host.leases.map((lease) => [lease, host] as const)))
  const found = all.flatMap((peer) => {
    const host = byLease.get(peer.key)
    if (host === undefined) return []
    const seen = observedPeer(facts.wireguard, own, host)
    const word = wordOn(peer)?.encryption
    const hasNone = seen !== undefined && seen.lastHandshake === undefined && seen.sent > 0n
    const isMeant = word === 'clear' || word === 'none' || hasNone
    return isMeant && seen?.lastHandshake === undefined ? [{ peer, host, seen }] : []
  })
  const [first] = found
  if (first === undefined) return undefined
  const isRequired = mode === 'required'
  const hears = found.every(({ seen }) => (seen?.received ?? 0n) > 0n)
  const { port } = first.host.announced
  const firstIs6 = familyOf(first.host.endpoint) === 'IPv6'
  const line = ({ peer, host, seen }: (typeof found)[number]): string => {
    const bytes = seen === undefined ? '' : `, ${seen.sent} bytes sent, ${seen.received} received`
    return `${describePeer(peer)}, UDP port ${portBetween(own, host.announced)}: no handshake${bytes}`
  }
  const ahead = facts.clock.value?.aheadSeconds ?? 0
  const clock = Math.abs(ahead) > MOST_SKEW_SECONDS
  return {
    code: 'encryption-blocked',
    severity: isRequired ? 'fail' : 'warn',
    what: `${count(found.length, 'peer answers', 'peers answer')} no handshake`,
    evidence: [
      ...few(found.map(line)),
      ...(hears ? ['packets of those hosts arrive here, so the way there is the one that is blocked'] : []),
      ...(clock
        ? [`this host's clock is ${Math.abs(ahead)} s ${ahead > 0 ? 'behind' : 'before'} etcd's`]
        : []),
    ],
    breaks: isRequired ? 'nothing is sent to those hosts' : 'packets to those hosts go in clear, or are lost',
    fix:
      `let the UDP ports ${port} and ${port + 1} in there and here, and through what is between (security ` +
      'groups, switches)' +
      (clock ? '; set the clock right: hosts refuse handshakes that are older than the last one' : ''),
    commands: [
      `${firstIs6 ? 'ip6tables' : 'iptables'} -I INPUT -p udp --dport ${port}:${port + 1} -j ACCEPT` +
        `    # on ${formatIp(first.host.endpoint)}`,
      ...(clock ? ['timedatectl set-ntp true'] : []),
    ],
    ...(isRequired && { explains: new Set(found.map(({ peer }) => peerKey(peer))) }),
  }
}

function observedPeer(
  wireguard: Facts['wireguard'],
  own: WireguardAnnouncement,
  host: TunnelHost,
): ObservedWireguardPeer | undefined {
  const slot = slotWith(own.turn, host)
  const used = wireguard.value?.find((each) => each.slot === slot)
  return used?.device?.peers.get(host.announced.keys[slot])
}

const describePeer = ({ subnet, publicIp }: Peer): string =>
  `${formatPrefix(subnet)} at ${formatIp(publicIp)}`

const namesOf = ({ leases }: TunnelHost): string => leases.map(nameUnderSubnets).join(' and ')
