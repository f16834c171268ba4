/** The VXLAN device, and the interface it sends over. */
import { type Family, familyOf, formatIp, formatMac, formatPrefix, prefixContains } from '../../model/address'
import type { NetworkConfig } from '../../model/config/network-config'
import { count } from '../../model/count'
import type { ObservedLink } from '../../model/kernel/link'
import { familyLease } from '../../model/lease'
import type { Room } from '../../plan/host/underlay'
import { carrierOf, isWayOut, roomOf } from '../../plan/host/underlay-room'
import type { DeviceFacts, Facts, Known, PeerFact } from '../facts'
import { type Check, check, type Finding, few, type Outcome, outcome } from '../finding'
import {
  deviceName,
  deviceOf,
  familiesOf,
  familyWord,
  findLink,
  isOwnAddress,
  linkNameOf,
  OVERLAY,
  type OverlayFacts,
  outerOverhead,
  ownLease,
  ownSubnet,
  parentOf,
  peerKey,
  peersOf,
} from '../overlay'

export const DEVICE_CHECKS: readonly Check[] = [
  check({
    name: 'device',
    about: 'the VXLAN device is there, up, and as the config wants it',
    needs: ['kernel'],
    uses: OVERLAY,
    after: ['config'],
    premise: 'started',
    run: checkDevice,
  }),
  check({
    name: 'interface',
    about: 'the device sends over the interface that leads to the peers',
    needs: ['kernel'],
    uses: [...OVERLAY, 'ways'],
    premise: 'started',
    run: checkInterface,
  }),
]

const CUT_OFF = 'no packet goes between the containers here and those of other hosts'
const REPAIR = 'overlayd repairs it by itself within a second while it runs'
const RESTART = ['systemctl restart overlayd']

type LinkFacts = OverlayFacts & Known<'kernel'>

function checkDevice(facts: LinkFacts, earlier: readonly Finding[]): Outcome {
  const families = familiesOf(facts)
  // The device follows the config of the start, not one that was changed since.
  const changed = earlier.some(({ code }) => code === 'config-changed')
  const findings = families.map((family) => {
    const device = deviceOf(facts, family)
    if (device === undefined) return missing(facts, family)
    return judge(facts, device, changed) ?? (changed ? undefined : limited(facts, device))
  })
  const summary = families
    .flatMap((family) => deviceOf(facts, family) ?? [])
    .map(({ link }) => `${link.name} up, MTU ${link.mtu}, ${formatMac(link.mac)}`)
  return outcome(summary.join('; '), [
    ...findings,
    ...families.flatMap((family) => foreignAddresses(facts, deviceOf(facts, family)) ?? []),
  ])
}

/**
 * Addresses that another program put on the device: a DHCP client, or a network manager that manages every
 * interface.
 */
function foreignAddresses(facts: LinkFacts, device: DeviceFacts | undefined): Finding | undefined {
  const own = device && ownSubnet(facts, device.family)
  if (device === undefined || own === undefined) return undefined
  const { link } = device
  const foreign = facts.kernel.value.addresses.filter(
    ({ linkIndex, address, scope }) =>
      linkIndex === link.index && scope === 'global' && address.address !== own.address,
  )
  const [first] = foreign
  if (first === undefined) return undefined
  const texts = foreign.map(({ address }) => formatPrefix(address))
  const one = texts.length === 1
  const needed = [device.link.vxlan?.local, ...peersOf(facts).map(({ publicIp }) => publicIp)]
  const covers = foreign.some(({ address }) =>
    needed.some((each) => each !== undefined && prefixContains(address, each)),
  )
  return {
    code: 'device-address',
    severity: covers ? 'fail' : 'warn',
    what: `the device ${link.name} has ${one ? 'an address' : 'addresses'} that overlayd did not give it`,
    evidence: [`${link.name} has ${texts.join(' and ')}; its own is ${formatIp(own.address)}`],
    breaks: covers
      ? `the way to other hosts may lead over ${link.name} itself: then this host is cut off from them`
      : 'the kernel has routes over the device that nobody wants',
    fix:
      `remove it, and keep the program that gave it from ${link.name}: denyinterfaces in dhcpcd.conf, ` +
      'unmanaged-devices of NetworkManager, an Unmanaged=yes of systemd-networkd',
    commands: texts.map((text) => `ip address del ${text} dev ${link.name}`),
  }
}

function missing(facts: LinkFacts, family: Family): Finding {
  const name = deviceName(facts, family)
  return {
    code: 'device-missing',
    severity: 'fail',
    what: `the device ${name} is not there`,
    evidence: [`no link of this host is called ${name}`],
    breaks: CUT_OFF,
    fix: facts.daemon.value === undefined ? 'start overlayd, which makes it' : REPAIR,
    commands: facts.daemon.value === undefined ? ['systemctl start overlayd'] : RESTART,
    explains: 'all',
  }
}

/** The first thing that is wrong with a device: its fix mends the others too. */
function judge(facts: LinkFacts, device: DeviceFacts, configChanged: boolean): Finding | undefined {
  const { link } = device
  const wrong = (
    code: string,
    what: string,
    evidence: string,
    more: { readonly breaks?: string; readonly command?: string } = {},
  ): Finding => ({
    code,
    severity: 'fail',
    what: `the device ${link.name} ${what}`,
    evidence: [evidence],
    breaks: more.breaks ?? CUT_OFF,
    fix: facts.daemon.value === undefined ? 'start overlayd, which repairs it' : REPAIR,
    commands: [
      ...(more.command === undefined ? [] : [more.command]),
      ...(facts.daemon.value === undefined ? ['systemctl start overlayd'] : RESTART),
    ],
    explains: 'all',
  })
  if (link.vxlan === undefined) {
    return wrong('device-kind', 'is no VXLAN device', `its kind is ${link.kind ?? 'not known'}`, {
      command: `ip link del ${link.name}`,
    })
  }
  if (!link.up) {
    return wrong('device-down', 'is down', `ip link show ${link.name} says DOWN`, {
      command: `ip link set ${link.name} up`,
    })
  }
  const config = configChanged ? undefined : facts.config.value
  const { vni, port, local } = link.vxlan
  if (config !== undefined && vni !== config.backend.vni) {
    return wrong('device-vni', `has the VNI ${vni}`, `the config has ${config.backend.vni}`)
  }
  if (config?.backend.port !== undefined && port !== config.backend.port) {
    return wrong('device-port', `has the UDP port ${port}`, `the config has ${config.backend.port}`)
  }
  const parent = parentOf(facts, device)
  const room = roomBelow(facts, parent)
  const overhead = outerOverhead(facts, device.family)
  // Without the config it is not known how much of the underlay's MTU the devices are to use.
  const outer = config && outerMtu(config, room)
  const mtu = outer === undefined ? undefined : outer - overhead
  const isClear = config?.backend.encryption === undefined
  const takes = `VXLAN ${isClear ? 'takes' : 'and encryption take'} ${overhead}`
  if (mtu !== undefined && link.mtu !== mtu) {
    return {
      ...wrong(
        'device-mtu',
        `has the MTU ${link.mtu}, and ${mtu} is right`,
        outer === room?.mtu
          ? `${room?.name} has ${outer}, and ${takes} of it`
          : `Backend.MTU is ${outer}, and ${takes} of it`,
        {
          breaks:
            link.mtu > mtu
              ? 'large packets are lost: connections open, and hang when data flows'
              : 'large packets are cut into more than they need to be, or refused',
          command: `ip link set ${link.name} mtu ${mtu}`,
        },
      ),
    }
  }
  const own = ownLease(facts)
  const announced = own && familyLease(own, device.family)?.publicIp
  if (local === undefined || !isOwnAddress(facts, local)) {
    return wrong(
      'device-local',
      `sends from ${local === undefined ? 'no address' : formatIp(local)}`,
      'no interface of this host has that address',
    )
  }
  if (announced !== undefined && announced !== local && isOwnAddress(facts, announced)) {
    return wrong(
      'device-local',
      `sends from ${formatIp(local)}`,
      `the lease says ${formatIp(announced)}, which this host has`,
      { breaks: 'other hosts see packets from an address they do not know; their firewalls may drop them' },
    )
  }
  return undefined
}

/** The largest packet that leaves by the interface of the device; `undefined` where that is not known. */
function roomBelow(facts: LinkFacts, parent: ObservedLink | undefined): Room | undefined {
  const { value } = facts.kernel
  if (parent === undefined) return undefined
  return roomOf({ link: parent, carrier: carrierOf(parent, value) })
}

/** The largest packet that VXLAN may make: the config's size, as far as the host carries it. */
function outerMtu(config: NetworkConfig, room: Room | undefined): number | undefined {
  const wanted = config.backend.mtu
  return wanted === undefined || room === undefined ? (wanted ?? room?.mtu) : Math.min(wanted, room.mtu)
}

/** The config wants more than this host carries. overlayd makes the devices as large as they can be. */
function limited(facts: LinkFacts, device: DeviceFacts): Finding | undefined {
  const room = roomBelow(facts, parentOf(facts, device))
  const wanted = facts.config.value?.backend.mtu
  if (room === undefined || wanted === undefined || wanted <= room.mtu) return undefined
  return {
    code: 'mtu-limited',
    severity: 'warn',
    what: `Backend.MTU is ${wanted}, and ${room.name} carries ${room.mtu}`,
    evidence: [
      `${device.link.name} has the MTU ${device.link.mtu}; ip link show ${room.name} says mtu ${room.mtu}`,
    ],
    breaks: 'packets of full size from hosts that carry more are lost on their way here',
    fix:
      `raise the MTU of ${room.name} to ${wanted} and that of what is behind it, or set Backend.MTU to ` +
      `${room.mtu} or less in the network config`,
    commands: [`ip link set ${room.name} mtu ${wanted}`],
    explains: new Set(),
  }
}

type WayFacts = LinkFacts & Pick<Facts, 'ways'>

function checkInterface(facts: WayFacts): Outcome {
  const families = familiesOf(facts)
  const devices = families.flatMap((family) => deviceOf(facts, family) ?? [])
  if (devices.length === 0) return { skipped: 'there is no device', because: 'needless' }
  const names = devices.map((device) => {
    const { local } = device.link.vxlan ?? {}
    const from = local === undefined ? 'no address' : formatIp(local)
    return `${linkNameOf(facts, parentOf(facts, device)?.index)}, from ${from}`
  })
  return outcome(
    names.join('; '),
    devices.map((device) => wrongInterface(facts, device)),
  )
}

function wrongInterface(facts: WayFacts, device: DeviceFacts): Finding | undefined {
  const parent = parentOf(facts, device)
  // The underlay's address may be on a link that sends nothing itself, such as lo. Then any way out is right.
  if (parent === undefined || !isWayOut(parent)) return undefined
  const elsewhere = peersOf(facts)
    .filter(({ family }) => family === device.family)
    .flatMap((peer) => {
      const way = facts.ways.value?.get(peer.publicIp)
      const isThroughItself = way?.linkIndex === device.link.index
      return way === undefined ||
        way.linkIndex === parent.index ||
        (leadsThere(facts, parent.index, peer) && !isThroughItself)
        ? []
        : [{ peer, link: way.linkIndex }]
    })
  const [first] = elsewhere
  if (first === undefined) return undefined
  if (first.link === device.link.index)
    return throughItself(
      facts,
      device,
      elsewhere.map(({ peer }) => peer),
    )
  const right = findLink(facts, first.link)?.name ?? '<interface>'
  return {
    code: 'wrong-interface',
    severity: 'fail',
    what: `packets to ${count(elsewhere.length, 'peer')} leave by ${parent.name}, and ${right} leads there`,
    evidence: few(
      elsewhere.map(
        ({ peer, link }) =>
          `${routeGet(peer)}: dev ${linkNameOf(facts, link)}; no route over ${parent.name} leads there`,
      ),
    ),
    breaks: 'nothing reaches those hosts through the overlay',
    fix:
      `start overlayd with --iface=${right} (in /etc/default/overlayd: FLANNELD_IFACE=${right}), or add ` +
      'the route that is missing',
    commands: [`overlayd --iface=${right} ...`],
    explains: new Set(elsewhere.map(({ peer }) => peerKey(peer))),
  }
}

/** The command that shows the way to a peer. */
const routeGet = ({ publicIp }: Pick<PeerFact, 'publicIp'>): string =>
  `ip ${familyWord(publicIp)}route get ${formatIp(publicIp)}`

/** The UDP packets of the overlay would be sent into the overlay again. */
function throughItself(facts: LinkFacts, { link }: DeviceFacts, peers: readonly PeerFact[]): Finding {
  const routes = facts.kernel.value.routes.filter(
    ({ destination, linkIndex }) =>
      linkIndex === link.index && peers.some(({ publicIp }) => prefixContains(destination, publicIp)),
  )
  const [first] = peers
  return {
    code: 'underlay-over-device',
    severity: 'fail',
    what: `the way to ${count(peers.length, 'peer')} leads over ${link.name}, the overlay's own device`,
    evidence: few(peers.map((peer) => `${routeGet(peer)}: dev ${link.name}`)),
    breaks: 'nothing reaches those hosts, neither through the overlay nor past it',
    fix:
      `remove the route over ${link.name}, and the address that made it; then the route of the interface ` +
      'must be there again',
    commands: [
      ...routes.map(
        ({ destination }) =>
          `ip ${familyWord(destination.address)}route del ${formatPrefix(destination)} dev ${link.name}`,
      ),
      ...(first === undefined ? [] : [routeGet(first)]),
    ],
    explains: new Set(peers.map(peerKey)),
  }
}

/**
 * Whether any route over that link leads to the peer: the device sends by its own link, best route or not.
 */
export const leadsThere = (facts: Pick<Facts, 'kernel'>, link: number, { publicIp }: PeerFact): boolean =>
  facts.kernel.value?.routes.some(
    ({ destination, linkIndex }) =>
      linkIndex === link &&
      familyOf(destination.address) === familyOf(publicIp) &&
      prefixContains(destination, publicIp),
  ) ?? false
