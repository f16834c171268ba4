/** Faults of a host's underlay interface. */
import type { Host } from '../../lab/lab'
import { exec } from '../../lab/namespace'
import { anyHost, fault, itsHost, of } from '../fault'

const GATEWAY = '192.168.77.1'
const GATEWAY6 = 'fd77::1'

/**
 * Restores all that the lab configured on the interface: a link that goes down loses routes and IPv6
 * addresses.
 */
const restore = ({ address, address6 }: Host): string =>
  [
    'ip link set eth0 mtu 1500 up',
    `ip address replace ${address}/24 dev eth0`,
    `ip address replace ${address6}/64 dev eth0 nodad`,
    `ip route replace default via ${GATEWAY} dev eth0`,
    `ip -6 route replace ::/0 via ${GATEWAY6} dev eth0`,
  ].join('; ')

/** Another underlay address for the same host. */
const elsewhere = ({ address }: Host): string => address.replace(/\d+$/, (last) => `${Number(last) + 100}`)

export const UNDERLAY_FAULTS = [
  fault({
    name: 'underlay interface down',
    draw: anyHost,
    touches: itsHost,
    claims: of('underlay'),
    do: (site, { host }) => site.shell(host, 'ip link set eth0 down'),
    undo: (site, { host }) => site.shell(host, restore(site.host(host))),
  }),
  fault({
    name: 'underlay without carrier',
    draw: anyHost,
    touches: itsHost,
    claims: of('underlay'),
    do: (_, { host }) => exec('underlay', ['ip', 'link', 'set', `host${host}`, 'down']),
    undo: async (site, { host }) => {
      await exec('underlay', ['ip', 'link', 'set', `host${host}`, 'up'])
      await site.shell(host, restore(site.host(host)))
    },
  }),
  fault({
    name: 'underlay address changed',
    draw: anyHost,
    touches: itsHost,
    claims: of('underlay'),
    do: (site, { host }) => {
      const { address } = site.host(host)
      const commands = [
        `ip address delete ${address}/24 dev eth0`,
        `ip address add ${elsewhere(site.host(host))}/24 dev eth0`,
        `ip route replace default via ${GATEWAY} dev eth0`,
      ]
      return site.shell(host, commands.join('; '))
    },
    undo: (site, { host }) =>
      site.shell(
        host,
        `ip address delete ${elsewhere(site.host(host))}/24 dev eth0; ${restore(site.host(host))}`,
      ),
  }),
  fault({
    name: 'underlay MTU changed',
    draw: (random, world) => ({ ...anyHost(random, world), mtu: random.pick([1280, 1400, 1492, 9000, 600]) }),
    touches: itsHost,
    claims: of('underlay'),
    do: (site, { host, mtu }) => site.shell(host, `ip link set eth0 mtu ${mtu}`),
    undo: (site, { host }) => site.shell(host, restore(site.host(host))),
  }),
  fault({
    name: 'VPN takes the default route',
    draw: (random, world) => ({ ...anyHost(random, world), restart: random.chance(0.5) }),
    // No `touches`: etcd and the other hosts are on-link, so the default route does not matter for them.
    claims: of('underlay', 'daemon'),
    do: async (site, { host, restart }) => {
      const commands = [
        'ip link add tun0 mtu 1400 type dummy',
        'ip address add 172.20.0.2/24 dev tun0',
        'ip link set tun0 up',
        'ip route replace default dev tun0',
      ]
      await site.shell(host, commands.join('; '))
      if (restart) await site.daemon(host).end('SIGTERM')
    },
    undo: (site, { host }) => site.shell(host, `ip link delete tun0; ${restore(site.host(host))}`),
  }),
]
