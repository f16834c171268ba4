/**
 * Changes of the overlay device and its objects by other programs and people. The daemon repairs nearly all
 * of them, so few faults have an `undo`.
 */
import { Host } from '../../lab/lab'
import { anyHost, fault, itsHost, of, twoHosts } from '../fault'
import type { Site } from '../site'

const { device } = Host
const STRANGE_MAC = '02:00:00:00:00:99'

/** A host as a peer: gateway and nexthop id of its objects in other kernels, and its underlay address. */
async function peerOf(site: Site, other: number) {
  const gateway = (await site.host(other).subnetEnv()).subnet.replace(/\d+\/\d+$/, '0')
  const bits = gateway.split('.').reduce((sum, octet) => sum * 256 + Number(octet), 0)
  return { gateway, id: bits, address: site.host(other).address }
}

/**
 * A fault that changes one kind of object by a drawn line of shell. In the line, `G` stands for the gateway
 * of another host's subnet, `N` for the id of that host's nexthop, `U` for that host's underlay address, `M`
 * for the MAC of its neighbour entry, `D` for the device.
 */
const changed = (what: string, lines: readonly string[], undo?: string) =>
  fault({
    name: `${what} changed`,
    draw: (random, world) => ({
      ...twoHosts(random, world),
      line: random.pick(lines),
      ...(random.chance(0.3) && { every: random.pick([50, 200, 500]) }),
    }),
    touches: itsHost,
    claims: of(what),
    every: ({ every }) => every,
    do: (site, { host, other, line }) => runLine(site, host, other, line),
    ...(undo !== undefined && {
      undo: (site: Site, { host, other }: { host: number; other: number }) =>
        runLine(site, host, other, undo),
    }),
  })

async function runLine(site: Site, host: number, other: number, line: string): Promise<void> {
  const { gateway, id, address } = await peerOf(site, other)
  const mac = `$(ip neigh show ${gateway} dev ${device} | sed -n 's/.*lladdr \\([^ ]*\\).*/\\1/p')`
  const words: Readonly<Record<string, string>> = { G: gateway, N: `${id}`, U: address, D: device, M: mac }
  await site.shell(
    host,
    line.replace(/\b[GNUDM]\b/g, (word) => words[word] ?? word),
  )
}

export const DEVICE_FAULTS = [
  fault({
    name: 'device deleted',
    draw: anyHost,
    touches: itsHost,
    claims: of('device'),
    do: (site, { host }) => site.shell(host, `ip link delete ${device}`),
  }),
  fault({
    name: 'device deleted again and again',
    draw: (random, world) => ({ ...anyHost(random, world), every: random.pick([50, 200, 500]) }),
    touches: itsHost,
    claims: of('device'),
    every: ({ every }) => every,
    do: (site, { host }) => site.shell(host, `ip link delete ${device}`),
  }),
  fault({
    name: 'device renamed',
    draw: (random, world) => ({
      ...anyHost(random, world),
      name: random.pick(['mine', 'flannel.1x', 'eth9']),
    }),
    touches: itsHost,
    claims: of('device'),
    do: (site, { host, name }) =>
      // Older kernels refuse to rename a device that is up.
      site.shell(
        host,
        `rename() { ip link set ${device} name ${name}; }; rename || { ip link set ${device} down; rename; }`,
      ),
  }),
  changed('device', [
    'ip link set D down',
    'ip link set D down; ip link set D up',
    `ip link set D address ${STRANGE_MAC}`,
    'ip link set D mtu 1300',
    'ip link set D type vxlan learning',
    'ip link add elsewhere type bridge; ip link set D master elsewhere; sleep 1; ip link delete elsewhere',
  ]),
  changed('addresses', [
    'ip address flush dev D',
    'ip address add 10.5.177.0/32 dev D',
    // As a DHCP client that configures all interfaces does.
    'ip address add 192.168.77.99/24 dev D',
    'ip address add 192.168.77.99/24 dev D; ip link set D down; ip link set D up',
  ]),
  changed('routes', [
    'ip route flush proto 79',
    'ip route delete G/24',
    'ip route replace G/24 via 10.5.151.0 dev D onlink',
    'ip route replace G/24 via 192.168.77.99 dev eth0 proto 79',
    'ip route add G/24 via 10.5.151.0 dev D onlink metric 50',
    'ip route add 198.51.100.0/24 via 10.5.151.0 dev D onlink',
  ]),
  changed(
    'nexthops',
    [
      'ip nexthop delete id N',
      'ip nexthop replace id N via 10.5.151.0 dev D onlink',
      'ip nexthop replace id N via 192.168.77.99 dev eth0',
      'ip nexthop add id 77 via 10.5.151.0 dev D onlink',
    ],
    // A daemon that starts meanwhile believes a nexthop on another link to be another program's. It leaves
    // the nexthop alone, and its routes contain the gateway instead of the nexthop id.
    'ip nexthop show id N 2>/dev/null | grep -q "dev eth0" && ip nexthop delete id N || true',
  ),
  changed('neighbours', [
    'ip neigh flush dev D nud permanent',
    'ip neigh delete G dev D',
    `ip neigh replace G lladdr ${STRANGE_MAC} dev D`,
    `ip neigh add 10.5.177.0 lladdr ${STRANGE_MAC} dev D nud permanent`,
  ]),
  changed('FDB', [
    'bridge fdb delete M dev D',
    'bridge fdb replace M dev D dst 172.16.9.9',
    'bridge fdb replace M dev D dst U port 4789',
    `bridge fdb add ${STRANGE_MAC} dev D dst 172.16.9.9`,
    'bridge fdb append 00:00:00:00:00:00 dev D dst 172.16.9.9',
  ]),
  changed('firewall', [
    'nft flush ruleset',
    'iptables -F FORWARD',
    'iptables -F FLANNEL-FWD',
    'iptables -F FORWARD; iptables -F FLANNEL-FWD; iptables -X FLANNEL-FWD',
  ]),
  changed('forwarding', [
    'sysctl -qw net.ipv4.ip_forward=0',
    'sysctl -qw net/ipv4/conf/D/forwarding=0',
    'sysctl -qw net/ipv4/conf/D/rp_filter=1',
    'sysctl -qw net/ipv6/conf/D/disable_ipv6=1',
  ]),
  fault({
    name: 'routing rules changed',
    draw: anyHost,
    touches: itsHost,
    claims: of('rules'),
    do: (site, { host }) =>
      site.shell(host, 'ip rule add to 10.0.0.0/8 table 77; ip route add blackhole 10.0.0.0/8 table 77'),
    undo: (site, { host }) =>
      site.shell(host, 'ip rule delete to 10.0.0.0/8 table 77; ip route flush table 77'),
  }),
  fault({
    name: 'all forwarded packets rejected',
    draw: (random, world) => ({ ...anyHost(random, world), how: random.pick(['-I', '-P']) }),
    touches: itsHost,
    claims: of('firewall'),
    do: (site, { host, how }) =>
      site.shell(host, how === '-P' ? 'iptables -P FORWARD DROP' : 'iptables -I FORWARD -j REJECT'),
    undo: (site, { host, how }) =>
      site.shell(host, how === '-P' ? 'iptables -P FORWARD ACCEPT' : 'iptables -D FORWARD -j REJECT'),
  }),
]
