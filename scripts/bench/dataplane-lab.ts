/**
 * Two hosts with a container each, and several paths from one container to the other: through the overlay as
 * the daemon programs it, by plain routes over the underlay, and through VXLAN devices made by hand. All
 * paths share the containers, their veths, the bridges and the firewall. Each path has addresses of its own.
 *
 *   container x.y.1.2 ── docker0 ── host1 ── underlay ── host2 ── docker0 ── container x.y.2.2
 */
import { mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Container, Host } from '../../test/lab/lab'
import { execOk, ipBatch, setSysctl } from '../../test/lab/namespace'
import { Pending, waitFor } from '../../test/lab/wait'
import type { Stage } from './case'
import { freshHost, launch, removeHost } from './daemon'

/** Source and destination of a load, as names of namespaces. */
export interface Path {
  readonly from: string
  readonly to: string
  /** Address in the namespace `to`. */
  readonly address: string
}

export interface Pair {
  readonly stage: Stage
  readonly hosts: readonly [Host, Host]
  readonly containers: readonly [Container, Container]
}

/** A VXLAN device on each host, made by `ip` and `bridge`. */
export interface HandMade {
  /** 0 to 49. Determines the name, VNI, UDP port and addresses. */
  readonly number: number
  /** Words for `ip link add`, before and after `type vxlan`. */
  readonly link?: string
  readonly vxlan?: string
  /**
   * Whether routes use nexthop objects, like those of overlayd; otherwise gateways, like those of flannel.
   */
  readonly nexthops?: boolean
  /** MTU of the device and of the containers' routes. */
  readonly mtu?: number
  /** Whether it uses the underlay's IPv6. */
  readonly six?: boolean
}

/**
 * First two octets of a path's two subnets; the third is the number of the host. Within the network, so that
 * the firewall treats all paths alike, and above the leases.
 */
const ROUTED = '10.199'
const handMadeNet = (number: number): string => `10.${200 + number}`
/** MTU of the daemon's device on an underlay of 1500. */
const OVERLAY_MTU = 1450

/** The network of the daemons with DirectRouting. */
const DIRECT = {
  prefix: '/coreos.com/direct',
  config: '{"Network":"11.0.0.0/16","Backend":{"Type":"vxlan","VNI":2,"DirectRouting":true}}',
}

/** More than a daemon's start takes on a machine that is busy with other work too. */
const START_MS = 60_000

/** The name of the hand-made device with this number. */
export const handMadeDevice = (number: number): string => `hand${number}`

/** The UDP port of the hand-made device with this number. */
export const handMadePort = (number: number): number => 8500 + number

/**
 * Starts the daemon on two new hosts whose firewall has the rules of a Docker host, runs something once both
 * have all peers, and removes the hosts.
 */
export async function onPair<T>(stage: Stage, work: (pair: Pair) => Promise<T>): Promise<T> {
  const hosts = [await freshHost(stage), await freshHost(stage)] as const
  for (const host of hosts) launch(stage, host, { env: { FLANNELD_IP_MASQ: 'true' } })
  const peers = stage.peers.length + 1
  for (const host of hosts) {
    await host.waitForKernel(`${peers} routes`, ({ routes }) => routes.length === peers, START_MS)
  }
  const containers = [await hosts[0].addContainer(), await hosts[1].addContainer()] as const
  for (const host of hosts) await actAsDocker(host)
  const result = await work({ stage, hosts, containers })
  for (const host of hosts) await removeHost(stage, host)
  return result
}

/** The path from host to host, without containers and overlay. */
export const underlay = ({ hosts: [one, other] }: Pair): Path => ({
  from: one.namespace,
  to: other.namespace,
  address: other.address,
})

/** The path through the objects that the daemon has programmed. */
export const overlay = ({ containers: [one, other] }: Pair): Path => ({
  from: one.namespace,
  to: other.namespace,
  address: other.address,
})

/** Adds a path by plain routes over the underlay. */
export async function addRouted(pair: Pair): Promise<Path> {
  const [one, other] = pair.hosts
  await ipBatch(one.namespace, [`route add ${ROUTED}.2.0/24 via ${other.address}`])
  await ipBatch(other.namespace, [`route add ${ROUTED}.1.0/24 via ${one.address}`])
  return addAddresses(pair, [`${ROUTED}.1`, `${ROUTED}.2`])
}

/** Adds a path through VXLAN devices of its own. */
export async function addHandMade(pair: Pair, made: HandMade): Promise<Path> {
  const { number, link = '', vxlan = '', nexthops = false, six = false, mtu = OVERLAY_MTU } = made
  const net = handMadeNet(number)
  const device = handMadeDevice(number)
  const ends = pair.hosts.map((host, index) => ({
    host,
    subnet: `${net}.${index + 1}`,
    mac: `02:ff:00:00:${number.toString(16).padStart(2, '0')}:0${index + 1}`,
    address: six ? host.address6 : host.address,
  }))
  for (const { host, subnet, mac, address } of ends) {
    await ipBatch(host.namespace, [
      `link add ${device} address ${mac} mtu ${mtu} ${link} ` +
        `type vxlan id ${100 + number} local ${address} dev eth0 dstport ${handMadePort(number)} ${vxlan}`,
      `address add ${subnet}.0/32 dev ${device}`,
      `link set ${device} up`,
    ])
    for (const peer of ends.filter((end) => end.host !== host)) {
      const way = `via ${peer.subnet}.0 dev ${device} onlink`
      await ipBatch(host.namespace, [
        `neigh replace ${peer.subnet}.0 lladdr ${peer.mac} dev ${device} nud permanent`,
        ...(nexthops
          ? [`nexthop add id ${100 + number} ${way}`, `route add ${peer.subnet}.0/24 nhid ${100 + number}`]
          : [`route add ${peer.subnet}.0/24 ${way}`]),
      ])
      const entry = ['fdb', 'replace', peer.mac, 'dev', device, 'dst', peer.address, 'self', 'permanent']
      await execOk(host.namespace, ['bridge', ...entry])
    }
  }
  return addAddresses(pair, [`${net}.1`, `${net}.2`], mtu)
}

/**
 * Adds a path by the plain routes that a second daemon on each host programs, for a network of its own.
 * @returns the path, and a function that ends the daemons
 */
export async function addDirect(pair: Pair): Promise<{ readonly path: Path; stop(): Promise<void> }> {
  const { lab, subject } = pair.stage
  await lab.client.put(`${DIRECT.prefix}/config`).value(DIRECT.config)
  const daemons = pair.hosts.map((host) => {
    const directory = join(dirname(host.subnetFile), 'direct')
    mkdirSync(directory)
    const flags = {
      ...subject.start.flags,
      'etcd-prefix': DIRECT.prefix,
      'subnet-file': join(directory, 'subnet.env'),
      'run-dir': directory,
      'state-dir': directory,
    }
    return host.spawn({ ...subject.start, flags })
  })
  const stop = async () => {
    await Promise.all(daemons.map((daemon) => daemon.stop()))
    await lab.client.delete().all().prefix(DIRECT.prefix)
  }
  try {
    const [one, other] = pair.hosts
    const context = () => daemons.map((daemon) => daemon.tail()).join('\n')
    const routeTo = (from: Host, to: Host): Promise<string> =>
      waitFor(
        `a direct route from ${from.name} to ${to.name}`,
        async () => {
          const routes = await from.exec('ip', 'route', 'show', 'via', to.address)
          return /^(11\.0\.\d+)\.0\/24/m.exec(routes)?.[1] ?? new Pending(routes)
        },
        { timeoutMs: START_MS, context },
      )
    const subnets = [await routeTo(other, one), await routeTo(one, other)] as const
    return { path: await addAddresses(pair, subnets), stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/**
 * Switches off all offloads of both hosts' cards: from then on the kernel segments, checksums and merges
 * packet by packet.
 */
export async function offloadNothing({ hosts }: Pair): Promise<void> {
  for (const { namespace } of hosts) {
    await execOk(namespace, ['ethtool', '-K', 'eth0', 'tx', 'off', 'gso', 'off', 'gro', 'on'])
    // A veth merges only packets from a peer that does not segment.
    await execOk('underlay', ['ethtool', '-K', namespace, 'tso', 'off'])
  }
}

/**
 * Gives bridges and containers further addresses, and the containers routes to each other. Replies take the
 * same path back.
 * @param subnets the first three octets of each host's subnet
 */
async function addAddresses(
  { hosts, containers }: Pair,
  [one, other]: readonly [string, string],
  mtu = OVERLAY_MTU,
): Promise<Path> {
  const add = async (index: 0 | 1, own: string, peers: string) => {
    await ipBatch(hosts[index].namespace, [`address add ${own}.1/24 dev docker0`])
    await ipBatch(containers[index].namespace, [
      `address add ${own}.2/24 dev eth0`,
      `route add ${peers}.0/24 via ${own}.1 src ${own}.2 mtu ${mtu}`,
    ])
  }
  await add(0, one, other)
  await add(1, other, one)
  return { from: containers[0].namespace, to: containers[1].namespace, address: `${other}.2` }
}

/**
 * Does to a host what dockerd does, as far as packets between hosts are concerned: forwarding and connection
 * tracking.
 */
async function actAsDocker(host: Host): Promise<void> {
  await setSysctl(host.namespace, 'net/ipv4/ip_forward', '1')
  const { subnet } = await host.subnetEnv()
  const rules = `*nat
-A POSTROUTING -s ${subnet} ! -o docker0 -j MASQUERADE
COMMIT
*filter
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
COMMIT
`
  await execOk(host.namespace, ['iptables-restore', '--noflush'], { input: rules })
}
