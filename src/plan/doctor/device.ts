/** The VXLAN device, and the interface it sends over. */
import { type Family, familyOf, formatIp, formatMac, prefixContains } from '../../model/address'
import { VXLAN_OVERHEAD } from '../../model/kernel'
import { leaseHalf } from '../../model/lease'
import type { DeviceFacts, Facts, PeerFact } from './facts'
import { type Check, count, type Finding, few, outcome } from './finding'
import {
  configOf,
  deviceName,
  deviceOf,
  familiesOf,
  familyWord,
  findLink,
  isOwnAddress,
  linkNameOf,
  ownLease,
  parentOf,
  peerKey,
  peersOf,
} from './overlay'

export const DEVICE_CHECKS: readonly Check[] = [
  { name: 'device', about: 'the VXLAN device is there, up, and as the config wants it', run: checkDevice },
  {
    name: 'interface',
    about: 'the device sends over the interface that leads to the peers',
    run: checkInterface,
  },
]

const CUT_OFF = 'no packet goes between the containers here and those of other hosts'
const REPAIR = 'overlayd puts it right by itself within a second while it runs'
const RESTART = ['systemctl restart overlayd']

function checkDevice(facts: Facts, earlier: readonly Finding[]) {
  if (facts.kernel.value === undefined) return { skipped: facts.kernel.missing }
  const families = familiesOf(facts)
  // One that was changed since the start is not what the device is to be like.
  const changed = earlier.some(({ code }) => code === 'config-changed')
  const findings = families.map((family) => {
    const device = deviceOf(facts, family)
    return device === undefined ? missing(facts, family) : judge(facts, device, changed)
  })
  const summary = families
    .flatMap((family) => deviceOf(facts, family) ?? [])
    .map(({ link }) => `${link.name} up, MTU ${link.mtu}, ${formatMac(link.mac)}`)
  return outcome(summary.join('; '), findings)
}

function missing(facts: Facts, family: Family): Finding {
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

/** The first thing that is wrong with it; one cures the others as well. */
function judge(facts: Facts, device: DeviceFacts, configChanged: boolean): Finding | undefined {
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
    fix: facts.daemon.value === undefined ? 'start overlayd, which puts it right' : REPAIR,
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
  const config = configChanged ? undefined : configOf(facts).value
  const { vni, port, local } = link.vxlan
  if (config !== undefined && vni !== config.backend.vni) {
    return wrong('device-vni', `has the VNI ${vni}`, `the config has ${config.backend.vni}`)
  }
  if (config?.backend.port !== undefined && port !== config.backend.port) {
    return wrong('device-port', `has the UDP port ${port}`, `the config has ${config.backend.port}`)
  }
  const parent = parentOf(facts, device)
  const outer = config?.backend.mtu ?? parent?.mtu
  const mtu = outer === undefined || configChanged ? undefined : outer - VXLAN_OVERHEAD[device.family]
  if (mtu !== undefined && link.mtu !== mtu) {
    return {
      ...wrong(
        'device-mtu',
        `has the MTU ${link.mtu}, and ${mtu} is right`,
        config?.backend.mtu === undefined
          ? `${parent?.name} has ${outer}, and VXLAN takes ${VXLAN_OVERHEAD[device.family]} of it`
          : `Backend.MTU is ${outer}, and VXLAN takes ${VXLAN_OVERHEAD[device.family]} of it`,
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
  const announced = own && leaseHalf(own, device.family)?.publicIp
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

function checkInterface(facts: Facts) {
  const families = familiesOf(facts)
  const devices = families.flatMap((family) => deviceOf(facts, family) ?? [])
  if (devices.length === 0) return { skipped: 'there is no device' }
  const names = devices.map((device) => {
    const { local } = device.link.vxlan ?? {}
    return `${linkNameOf(facts, parentOf(facts, device)?.index)}, from ${local === undefined ? 'no address' : formatIp(local)}`
  })
  return outcome(
    names.join('; '),
    devices.map((device) => wrongInterface(facts, device)),
  )
}

function wrongInterface(facts: Facts, device: DeviceFacts): Finding | undefined {
  const parent = parentOf(facts, device)
  if (parent === undefined) return undefined
  const elsewhere = peersOf(facts)
    .filter(({ family }) => family === device.family)
    .flatMap((peer) => {
      const way = facts.ways.get(peer.publicIp)
      return way === undefined || way.linkIndex === parent.index || leadsThere(facts, parent.index, peer)
        ? []
        : [{ peer, link: way.linkIndex }]
    })
  const [first] = elsewhere
  if (first === undefined) return undefined
  const right = findLink(facts, first.link)?.name ?? '<interface>'
  return {
    code: 'wrong-interface',
    severity: 'fail',
    what: `packets to ${count(elsewhere.length, 'peer')} leave by ${parent.name}, and ${right} leads there`,
    evidence: few(
      elsewhere.map(
        ({ peer, link }) =>
          `ip ${familyWord(peer.publicIp)}route get ${formatIp(peer.publicIp)}: dev ${linkNameOf(facts, link)}; no route over ${parent.name} leads there`,
      ),
    ),
    breaks: 'nothing reaches those hosts through the overlay',
    fix: `start overlayd with --iface=${right} (in /etc/default/overlayd: FLANNELD_IFACE=${right}), or add the route that is missing`,
    commands: [`overlayd --iface=${right} ...`],
    explains: new Set(elsewhere.map(({ peer }) => peerKey(peer))),
  }
}

/** Whether a route over that link leads to the peer, though it may not be the best: the device asks for its own link only. */
export const leadsThere = (facts: Facts, link: number, { publicIp }: PeerFact): boolean =>
  facts.kernel.value?.routes.some(
    ({ destination, linkIndex }) =>
      linkIndex === link &&
      familyOf(destination.address) === familyOf(publicIp) &&
      prefixContains(destination, publicIp),
  ) ?? false
