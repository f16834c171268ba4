/** A host as the commands show it: fixed, so that what is printed can be compared word by word. */
import { type Status, statusSchema } from '../../../src/daemon/status'

export const WIDTHS = [80, 120] as const

export const plain = (width: number) => ({ width, colour: false })

/** All of it in order but for what two peers did. */
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

/** The same host in both families. */
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

/** One that exchanges its containers' multicast with others. */
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
        why: '1 of 2 hosts do not tell which IPv6 groups they want',
        told: false,
        untoldWhy: 'docker0 has no IPv6 querier',
      },
    ],
    groups: { here: 2, elsewhere: 3 },
    unreadable: [{ key: '10.5.13.0-24', reason: 'the value is not JSON' }],
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

export const DOWN: Status = {
  schema: 1,
  version: '0.1.0',
  state: 'degraded',
  problems: [
    'overlayd does not run (no answer at /run/overlayd): what the kernel has still carries traffic, but follows nothing',
  ],
  daemon: { running: false, phase: 'down' },
  etcd: { endpoints: ['http://a', 'http://b'], connected: false },
  convergence: { converged: false, failing: 0, operations: 0 },
  peers: [],
}
