/**
 * A host with a container behind a bridge and a VXLAN device to one peer, in both families. The host is the
 * sandbox itself. Real packets go between container and peer.
 *
 *   container 10.5.1.2 ── docker0 10.5.1.1 ┐
 *                                          ├ host ── flannel.1 ══ eth0 192.0.2.1 ── 192.0.2.2 peer: 10.5.2.2
 *
 * Container and peer answer pings, and TCP and UDP to one port.
 */
import { writeFileSync } from 'node:fs'
import type { OverlayHost, OverlayPeer } from '../../../src/judge/packet-path/overlay-ways'
import { parseIp } from '../../../src/model/address'
import { assertSandbox, inNamespace, ipBatch } from '../../lab/namespace'
import { patient } from '../../lab/patience'
import { type Command, LongProcess, run, runOk } from '../../lab/process'
import { Pending, waitFor } from '../../lab/wait'

export type Version = 'ipv4' | 'ipv6'
export const VERSIONS: readonly Version[] = ['ipv4', 'ipv6']
export type Place = 'container' | 'peer'

const address = (text: string) => {
  const parsed = parseIp(text)
  if (parsed === undefined) throw new Error(`not an address: ${text}`)
  return parsed
}

const TEXT = {
  ipv4: {
    container: '10.5.1.2',
    bridge: '10.5.1.1/24',
    vtep: '10.5.1.0/32',
    local: '192.0.2.1/24',
    peer: { container: '10.5.2.2', vtep: '10.5.2.0', publicIp: '192.0.2.2/24', subnet: '10.5.2.0/24' },
    own: '10.5.1.0/24',
    device: 'flannel.1',
    port: 8472,
    bits: 32,
    lengths: 24,
  },
  ipv6: {
    container: 'fd00:5:0:1::2',
    bridge: 'fd00:5:0:1::1/64',
    vtep: 'fd00:5:0:1::/128',
    local: '2001:db8::1/64',
    peer: {
      container: 'fd00:5:0:2::2',
      vtep: 'fd00:5:0:2::',
      publicIp: '2001:db8::2/64',
      subnet: 'fd00:5:0:2::/64',
    },
    own: 'fd00:5:0:1::/64',
    device: 'flannel-v6.1',
    port: 8473,
    bits: 128,
    lengths: 64,
  },
} as const

const bare = (text: string): string => text.split('/')[0] ?? ''

export const hostOf = (version: Version): OverlayHost => {
  const { container, vtep, device, local, port } = TEXT[version]
  return {
    container: address(container),
    vtep: address(bare(vtep)),
    device,
    bridge: 'docker0',
    port: 'port1',
    underlay: 'eth0',
    local: address(bare(local)),
    udpPort: port,
    vni: 1,
  }
}
export const peerOf = (version: Version): OverlayPeer => {
  const { peer } = TEXT[version]
  return {
    container: address(peer.container),
    vtep: address(peer.vtep),
    publicIp: address(bare(peer.publicIp)),
  }
}

const MACS = { host: '02:00:00:00:00:01', peer: '02:00:00:00:00:02' }
/** The same port as the model's. No set of rules has a rule for that port. */
const SERVICE = 41952

const SERVER = `
const net = require('node:net'), dgram = require('node:dgram')
net.createServer((socket) => socket.on('error', () => {}).end('x')).listen(${SERVICE}, '::', () => console.log('tcp'))
const udp = dgram.createSocket('udp6')
udp.on('message', (data, from) => udp.send(data, from.port, from.address)).bind(${SERVICE}, '::', () => console.log('udp'))`

/** Asks again and again within the given milliseconds, and prints yes or no. */
const CLIENT = `
const [protocol, host, deadline] = process.argv.slice(1)
const end = (word) => { console.log(word); process.exit(0) }
setTimeout(() => end('no'), Number(deadline))
if (protocol === 'TCP') {
  require('node:net').connect({ host, port: ${SERVICE} }).on('data', () => end('yes')).on('error', () => {})
} else {
  const socket = require('node:dgram').createSocket(host.includes(':') ? 'udp6' : 'udp4')
  socket.on('message', () => end('yes')).on('error', () => {})
  const send = () => socket.send('x', ${SERVICE}, host, () => {})
  send()
  setInterval(send, 400)
}`

export class PacketSite {
  readonly #servers: LongProcess[] = []

  static async create(): Promise<PacketSite> {
    assertSandbox()
    // Files of one shard share a sandbox, and another file may have left rules.
    await flush()
    const site = new PacketSite()
    await ipBatch(undefined, [
      'netns add container',
      'netns add peer',
      'link add docker0 type bridge',
      'link set docker0 up',
      'link add port1 type veth peer name eth0 netns container',
      'link set port1 master docker0',
      'link set port1 up',
      'link add eth0 type veth peer name eth0 netns peer',
      'link set eth0 up',
    ])
    for (const place of ['container', 'peer'] as const) {
      await ipBatch(place, ['link set lo up', 'link set eth0 up'])
    }
    for (const path of ['ipv4/ip_forward', 'ipv6/conf/all/forwarding'])
      writeFileSync(`/proc/sys/net/${path}`, '1')
    // The next test must not see connections of this one.
    writeFileSync('/proc/sys/net/netfilter/nf_conntrack_udp_timeout', '2')
    for (const version of VERSIONS) await join(version)
    for (const place of ['container', 'peer'] as const) await site.#serve(place)
    for (const version of VERSIONS) {
      await waitFor(
        `${version} works without any rule`,
        async () => (await arrives('container', version, 'ICMP')) || new Pending('no answer'),
        { timeoutMs: 30_000 },
      )
    }
    return site
  }

  async close(): Promise<void> {
    for (const server of this.#servers) await server.stop('SIGKILL')
    await flush()
    // Links first: those of a namespace that is deleted end later.
    const links = ['docker0', 'port1', 'eth0', ...VERSIONS.map((version) => TEXT[version].device)]
    for (const line of [
      ...links.map((link) => `link delete ${link}`),
      'netns delete container',
      'netns delete peer',
    ])
      await ipBatch(undefined, [line]).catch(() => undefined)
  }

  async #serve(place: Place): Promise<void> {
    const server = new LongProcess(
      `the server of ${place}`,
      inNamespace(place, [process.execPath, '-e', SERVER]),
    )
    this.#servers.push(server)
    await server.waitForOutput(/tcp[\s\S]*udp|udp[\s\S]*tcp/)
  }
}

async function join(version: Version): Promise<void> {
  const { container, bridge, vtep, local, peer, own, device, port, bits, lengths } = TEXT[version]
  const nodad = version === 'ipv6' ? ' nodad' : ''
  const vxlan = (from: string, mac: string) =>
    `link add ${device} address ${mac} type vxlan id 1 dstport ${port} dev eth0 local ${bare(from)} nolearning`
  await ipBatch(undefined, [
    `address add ${bridge} dev docker0${nodad}`,
    `address add ${local} dev eth0${nodad}`,
    vxlan(local, MACS.host),
    `address add ${vtep} dev ${device}${nodad}`,
    `link set ${device} up`,
    `route add ${peer.subnet} via ${peer.vtep} dev ${device} onlink`,
    `neighbour replace ${peer.vtep} lladdr ${MACS.peer} dev ${device} nud permanent`,
  ])
  await ipBatch('container', [
    `address add ${container}/${lengths} dev eth0${nodad}`,
    `route add default via ${bare(bridge)}`,
  ])
  await ipBatch('peer', [
    `address add ${peer.publicIp} dev eth0${nodad}`,
    vxlan(peer.publicIp, MACS.peer),
    `address add ${peer.vtep}/${bits} dev ${device}${nodad}`,
    `address add ${peer.container}/${bits} dev lo${nodad}`,
    `link set ${device} up`,
    `route add ${own} via ${bare(vtep)} dev ${device} onlink src ${peer.container}`,
    `neighbour replace ${bare(vtep)} lladdr ${MACS.host} dev ${device} nud permanent`,
  ])
  const entry = (mac: string, to: string): Command => [
    'bridge',
    'fdb',
    'append',
    mac,
    'dev',
    device,
    'dst',
    bare(to),
  ]
  await runOk(entry(MACS.peer, peer.publicIp))
  await runOk(inNamespace('peer', entry(MACS.host, local)))
}

/** Whether packets of that protocol get from one end to the other and back. */
export async function arrives(
  from: Place,
  version: Version,
  protocol: 'ICMP' | 'TCP' | 'UDP',
): Promise<boolean> {
  const { container, peer } = TEXT[version]
  const to = from === 'container' ? peer.container : container
  if (protocol === 'ICMP') {
    const source = from === 'container' ? [] : ['-I', peer.container]
    const command = ['ping', '-n', '-c', '3', '-i', '0.2', '-W', '1', ...source, to] as const
    const { code } = await run(inNamespace(from, command))
    return code === 0
  }
  // Dropped packets cost this time, so it grows only on a machine that is busy or slow.
  const deadline = Math.max(1500, patient(750))
  const out = await runOk(inNamespace(from, [process.execPath, '-e', CLIENT, protocol, to, `${deadline}`]))
  return out.trim() === 'yes'
}

/** Removes all rules, of both programs. */
export async function flush(): Promise<void> {
  await runOk(['nft', 'flush', 'ruleset'])
  for (const program of ['iptables-legacy', 'ip6tables-legacy']) {
    for (const table of ['raw', 'mangle', 'nat', 'filter']) {
      const commands = ['-F', '-X'].map((option) => `${program} -t ${table} ${option}`)
      await run(['sh', '-c', commands.join('; ')])
    }
    for (const chain of ['INPUT', 'FORWARD', 'OUTPUT']) await run([program, '-P', chain, 'ACCEPT'])
  }
}
