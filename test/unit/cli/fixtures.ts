/** Fixed status documents of a host, so that the printed text can be compared exactly. */
import { type Status, statusSchema } from '../../../src/api/status'

export const WIDTHS = [60, 80, 120] as const

export const plain = (width: number) => ({ width, colour: false })

/** A healthy host with two peers that are not. */
export const STATUS: Status = statusSchema.parse({
  schema: 1,
  version: '0.1.0',
  state: 'healthy',
  problems: [],
  daemon: { running: true, pid: 17, uptimeSeconds: 3723, phase: 'running' },
  network: {
    etcdPrefix: '/coreos.com/network',
    network: '10.5.0.0/16',
    subnetLength: 24,
    backend: 'vxlan',
    vni: 1,
  },
  lease: {
    subnet: '10.5.12.0/24',
    publicIp: '192.168.77.11',
    state: 'held',
    since: '2026-11-28T18:03:11.250Z',
    reserved: false,
    modRevision: '12',
    etcdLease: '749bc78390d1c35a',
    expiresInSeconds: 86_340,
  },
  routing: { directRouting: false, blackhole: false },
  device: {
    name: 'flannel.1',
    index: 3,
    mac: '02:00:00:00:00:01',
    mtu: 1450,
    local: '192.168.77.11',
    underlay: 'eth0',
    up: true,
  },
  etcd: { endpoints: ['http://192.168.77.2:2379'], connected: true, latencyMs: 0.84, revision: '41' },
  convergence: { converged: true, revision: '41', failing: 0, operations: 12, lastSyncSecondsAgo: 61 },
  peers: [
    { subnet: '10.5.13.0/24', publicIp: '192.168.77.12', mac: '02:00:00:00:00:02', state: 'ok' },
    { subnet: '10.5.9.0/24', publicIp: '192.168.77.9', mac: '02:00:00:00:00:09', state: 'ok' },
    {
      subnet: '10.6.0.0-24',
      publicIp: '-',
      mac: '-',
      state: 'rejected',
      reason: 'subnet 10.6.0.0/24 lies outside the network 10.5.0.0/16',
    },
    {
      subnet: '10.5.14.0/24',
      publicIp: '192.168.77.14',
      mac: '02:00:00:00:00:0e',
      state: 'failing',
      reason: 'cannot add the route to 10.5.14.0/24 via 10.5.14.0 proto 79: a route of someone else is there',
    },
  ],
})

/** The same host with both families. */
export const DUAL_STACK: Status = {
  ...STATUS,
  network: {
    etcdPrefix: '/coreos.com/network',
    network: '10.5.0.0/16',
    subnetLength: 24,
    ipv6Network: 'fd00:5::/48',
    ipv6SubnetLength: 64,
    backend: 'vxlan',
    vni: 1,
    port: 4789,
  },
  lease: {
    subnet: '10.5.12.0/24',
    publicIp: '192.168.77.11',
    ipv6Subnet: 'fd00:5:0:37::/64',
    publicIpv6: 'fd77::11',
    state: 'held',
    since: '2026-11-28T18:03:11.250Z',
    reserved: true,
    modRevision: '12',
  },
  ipv6Device: {
    name: 'flannel-v6.1',
    index: 4,
    mac: '02:00:00:00:00:61',
    mtu: 1430,
    local: 'fd77::11',
    underlay: 'eth0',
    up: true,
  },
}

/** A host with multicast between hosts. */
export const MULTICAST: Status = {
  ...STATUS,
  multicast: {
    device: 'fl-mc.1',
    vni: 8388609,
    bridges: ['docker0'],
    hosts: 2,
    received: { packets: 12, bytes: 3456 },
    sent: { packets: 34, bytes: 5678, dropped: 0 },
    families: [
      { family: 'IPv4', mode: 'selective', told: true },
      {
        family: 'IPv6',
        mode: 'partly',
        why: '1 of 2 hosts do not announce the IPv6 groups that they want',
        told: false,
        untoldWhy: 'docker0 has no IPv6 querier',
      },
    ],
    groups: { here: 2, elsewhere: 3 },
    unreadable: [{ key: '10.5.13.0-24', reason: 'the value is not JSON' }],
  },
}

/** A host of a network that requires encryption. */
export const ENCRYPTED: Status = {
  ...STATUS,
  state: 'degraded',
  problems: ['encryption: required, and 1 peer gets no packets: 10.5.9.0/24 (it announces no key)'],
  encryption: {
    mode: 'required',
    state: 'on',
    devices: [{ name: 'fl-wg.1', port: 51_820 }],
    peers: { encrypted: 2, clear: 0, none: 1 },
    withoutKey: 1,
    silent: 1,
    refused: [{ key: '10.5.8.0-24', reason: 'an older lease announces the same key' }],
    keyAgeSeconds: 262_800,
    dropped: { in: 3, out: 0 },
  },
  peers: [
    {
      subnet: '10.5.13.0/24',
      publicIp: '192.168.77.12',
      mac: '02:00:00:00:00:02',
      state: 'ok',
      encryption: 'encrypted',
    },
    {
      subnet: '10.5.14.0/24',
      publicIp: '192.168.77.14',
      mac: '02:00:00:00:00:0e',
      state: 'ok',
      encryption: 'encrypted',
      encryptionReason: 'it answers no handshake on UDP port 51820 (2 tries)',
    },
    {
      subnet: '10.5.9.0/24',
      publicIp: '192.168.77.9',
      mac: '02:00:00:00:00:09',
      state: 'pending',
      encryption: 'none',
      encryptionReason: 'it announces no key',
    },
  ],
}

/** A host whose kernel has no WireGuard. */
export const UNABLE: Status = {
  ...STATUS,
  warnings: [
    'encryption: packets go in clear, because the kernel of this host has no WireGuard; ' +
      'load the module (modprobe wireguard)',
  ],
  encryption: {
    mode: 'prefer',
    state: 'unable',
    reason: 'the kernel of this host has no WireGuard',
    fix: 'load the module (modprobe wireguard)',
    devices: [],
    peers: { encrypted: 0, clear: 2, none: 0 },
  },
}

export const DRAINED: Status = {
  ...STATUS,
  state: 'degraded',
  problems: ['lease: drained: other hosts send nothing here; take it again: overlayctl drain --undo'],
  lease: {
    subnet: '10.5.12.0/24',
    publicIp: '192.168.77.11',
    state: 'drained',
    since: '2026-11-28T18:40:00.000Z',
    reason: 'drained: other hosts send nothing here; take it again: overlayctl drain --undo',
  },
}

/** A host that waits for a subnet. */
export const WAITING: Status = {
  schema: 1,
  version: '0.1.0',
  state: 'degraded',
  problems: ['lease: no /24 is free between 10.5.1.0 and 10.5.9.0 of 10.5.0.0/16: 9 are leased'],
  daemon: {
    running: true,
    pid: 17,
    uptimeSeconds: 5,
    phase: 'waiting-for-subnet',
    waiting: {
      code: 'out-of-subnets',
      reason: 'no /24 is free between 10.5.1.0 and 10.5.9.0 of 10.5.0.0/16: 9 are leased',
    },
  },
  etcd: { endpoints: ['http://192.168.77.2:2379'], connected: true, latencyMs: 0.84, revision: '41' },
  convergence: { converged: false, failing: 0, operations: 0 },
  peers: [],
}

/** A host with a warning, and with a key longer than any screen is wide. */
export const WARNED: Status = {
  ...STATUS,
  warnings: ['peers: 1 lease is rejected, and its host not reached from here: overlayctl peers says why'],
  peers: [
    ...STATUS.peers,
    {
      key: 'garbage-'.repeat(60),
      subnet: 'garbage-'.repeat(60),
      publicIp: '-',
      mac: '-',
      state: 'rejected',
      reason: 'the key is not a subnet written as in 10.5.12.0-24',
    },
  ],
}

export const DOWN: Status = {
  schema: 1,
  version: '0.1.0',
  state: 'down',
  problems: [
    'overlayd does not run (no answer at /run/overlayd): ' +
      'what the kernel has still carries traffic, but follows nothing',
  ],
  daemon: { running: false, phase: 'down' },
  etcd: { endpoints: ['http://a', 'http://b'], connected: false },
  convergence: { converged: false, failing: 0, operations: 0 },
  peers: [],
}
