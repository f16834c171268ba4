import { renderStatus } from '../../../src/cli/render-status'
import { type Status, statusSchema } from '../../../src/daemon/status'

const healthy: Status = statusSchema.parse({
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
    etcdLease: '749b',
    expiresInSeconds: 86_340,
  },
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
    { subnet: 'garbage', publicIp: '-', mac: '-', state: 'rejected', reason: 'the key is not a subnet' },
  ],
})

test('a healthy host on one screen', () => {
  expect(renderStatus(healthy, false)).toBe(`state    healthy
daemon   overlayd 0.1.0, running, process 17, up 1 h 2 min
network  10.5.0.0/16, a /24 for each host; vxlan, VNI 1; etcd prefix /coreos.com/network
lease    10.5.12.0/24 as 192.168.77.11, held, etcd lease 749b, 23 h 59 min left
device   flannel.1 up, 02:00:00:00:00:01, MTU 1450, from 192.168.77.11 on eth0
etcd     connected: http://192.168.77.2:2379, 0.8 ms, revision 41
kernel   converged at revision 41, 12 changes made, last pass 1 min 1 s ago
peers    1 ok, 1 rejected

SUBNET        PUBLIC IP      MAC                STATE     WHY
garbage       -              -                  rejected  the key is not a subnet
10.5.13.0/24  192.168.77.12  02:00:00:00:00:02  ok
`)
})

test('problems come right after the verdict', () => {
  const text = renderStatus(
    { ...healthy, state: 'degraded', problems: ['etcd: gone', 'lease: conflict'] },
    false,
  )
  expect(text.split('\n').slice(0, 3)).toEqual([
    'state    DEGRADED',
    '         ! etcd: gone',
    '         ! lease: conflict',
  ])
})

test('a daemon that does not run is the first thing said, and what is not known is said to be so', () => {
  const text = renderStatus(
    {
      schema: 1,
      version: '0.1.0',
      state: 'degraded',
      problems: [],
      daemon: { running: false, phase: 'down' },
      etcd: { endpoints: ['http://a', 'http://b'], connected: false },
      convergence: { converged: false, failing: 0, operations: 0 },
      peers: [],
    },
    false,
  )
  expect(text).toBe(`state    DAEMON DOWN
daemon   not running
network  not known
lease    none
device   none
etcd     NOT CONNECTED: http://a, http://b
kernel   nobody compares it with etcd
peers    none
`)
})

test('colour is only where it is asked for', () => {
  expect(renderStatus(healthy, false)).not.toContain('\u001b')
  expect(renderStatus(healthy, true)).toContain('\u001b')
})
