import { EventLog } from '../../../src/daemon/events'
import { Distribution, errnoOf, Meters, Tally } from '../../../src/daemon/meters'
import { writeMetrics } from '../../../src/daemon/metrics'
import { parseOptions } from '../../../src/daemon/options'
import { type MetricsView, SERIES } from '../../../src/daemon/series'
import { NetlinkError } from '../../../src/kernel/netlink/errors'
import { ipv4, type MacAddress } from '../../../src/model/address'
import { OverlayError } from '../../../src/model/errors'
import type { ObjectOperation } from '../../../src/model/kernel'
import type { Revision } from '../../../src/model/lease'
import { planGroups } from '../../../src/plan/multicast-groups'

const view = (fields: Partial<MetricsView> = {}): MetricsView => ({
  options: parseOptions({}, {}),
  version: '1.2.3',
  phase: 'starting',
  member: undefined,
  multicast: undefined,
  configProblem: undefined,
  following: { connected: true },
  revision: 7n as Revision,
  stateFile: { inUse: false },
  rival: undefined,
  subnetProblem: undefined,
  isReady: false,
  events: new EventLog(),
  meters: new Meters(),
  ...fields,
})

const lines = async (shown: MetricsView): Promise<string[]> => (await writeMetrics(shown)).text.split('\n')

const neighbour: ObjectOperation = {
  kind: 'set-neighbour',
  address: ipv4(1),
  mac: 2 as unknown as MacAddress,
}

test('names and types follow the conventions', () => {
  expect(new Set(SERIES.map(({ name }) => name)).size).toBe(SERIES.length)
  for (const { name, type } of SERIES) {
    expect(name).toMatch(/^(overlayd|process)_[a-z]+(_[a-z]+)*$/)
    expect([name, name.endsWith('_total')]).toEqual([name, type === 'counter'])
    if (type === 'histogram') expect(name).toMatch(/_seconds$/)
  }
})

test('a host that has not started yet shows what it knows, and makes nothing up', async () => {
  const shown = await lines(view())
  expect(shown).toEqual(
    expect.arrayContaining([
      `overlayd_build_info{version="1.2.3",node="${process.version}"} 1`,
      'overlayd_ready 0',
      'overlayd_etcd_revision 7',
      'overlayd_part_in_order{part="etcd"} 1',
      'overlayd_part_in_order{part="lease"} 0',
      'overlayd_lease_state{state="conflict"} 0',
    ]),
  )
  // An absent lease is none that is about to end.
  expect(shown.filter((line) => /^overlayd_(lease_remaining|watch_revision_lag|peers\b)/.test(line))).toEqual(
    [],
  )
})

test('what events tell is counted', async () => {
  const events = new EventLog()
  for (let i = 0; i < 3; i += 1) events.record('info', 'etcd: following', { kind: 'etcd-connected' })
  events.record('info', 'put right', { kind: 'kernel-repair', tally: { route: 2 } })
  events.record('info', 'put right', { kind: 'firewall-repair' })
  expect(await lines(view({ events }))).toEqual(
    expect.arrayContaining([
      'overlayd_events_total{kind="etcd-connected"} 3',
      'overlayd_events_total{kind="lease-lost"} 0',
      'overlayd_etcd_reconnects_total 2',
      'overlayd_repairs_total{object="route"} 2',
      'overlayd_repairs_total{object="fdb"} 0',
      'overlayd_repairs_total{object="firewall"} 1',
    ]),
  )
})

test('what the kernel took and refused', async () => {
  const meters = new Meters()
  const refused = new OverlayError('route-in-the-way', 'a route is in the way', undefined, {
    cause: new NetlinkError(17, 'add route'),
  })
  meters.wrote([neighbour, neighbour, neighbour], [{ operation: neighbour, error: refused }], 2)
  meters.etcd.failed('etcd-unreachable')
  expect(await lines(view({ meters }))).toEqual(
    expect.arrayContaining([
      'overlayd_kernel_operations_total{operation="set-neighbour"} 2',
      'overlayd_kernel_errors_total{operation="set-neighbour",errno="EEXIST"} 1',
      'overlayd_netlink_write_seconds_bucket{le="0.001"} 0',
      'overlayd_netlink_write_seconds_bucket{le="0.0025"} 1',
      'overlayd_netlink_write_seconds_bucket{le="+Inf"} 1',
      'overlayd_netlink_write_seconds_sum 0.002',
      'overlayd_netlink_write_seconds_count 1',
      'overlayd_etcd_errors_total{code="etcd-unreachable"} 1',
    ]),
  )
  expect(errnoOf(new NetlinkError(524, 'x'))).toBe('errno-524')
  expect(errnoOf(new Error('x'))).toBeUndefined()
})

test('a distribution: bounds belong to what is below them', () => {
  const took = new Distribution()
  for (const milliseconds of [0, 1, 1.1, 2.5, 29_999, 60_000]) took.observe(milliseconds)
  const below = new Map(took.cumulative())
  expect([below.get(0.001), below.get(0.0025), below.get(10), below.get(30), took.count]).toEqual([
    2, 4, 4, 5, 6,
  ])
  expect(took.sum).toBeCloseTo(90.0036)
})

test('a tally by two labels', () => {
  const tally = new Tally()
  tally.add(2, 'set-route', 'EEXIST')
  tally.add(1, 'set-route', 'EPERM')
  expect([...tally.entries()]).toEqual([
    [['set-route', 'EEXIST'], 2],
    [['set-route', 'EPERM'], 1],
  ])
})

test('multicast is shown where it is exchanged, and is nothing elsewhere', async () => {
  const plan = planGroups(
    new Map([[ipv4(1), { vni: 7, tells: ['IPv4'], groups: [ipv4(0xef010203)] }]]),
    undefined,
  )
  const multicastSummary = {
    device: 'fl-mc.1',
    vni: 7,
    bridges: ['docker0'],
    hosts: 1,
    plan,
    limit: undefined,
    overLimit: undefined,
    counters: { received: { packets: 1, bytes: 2 }, sent: { packets: 3, bytes: 4, dropped: 5 } },
  }
  expect(await lines(view({ multicastSummary }))).toEqual(
    expect.arrayContaining([
      'overlayd_multicast_hosts 1',
      'overlayd_multicast_groups{where="here"} 0',
      'overlayd_multicast_groups{where="elsewhere"} 1',
      'overlayd_multicast_flooding{family="IPv4"} 0',
      'overlayd_multicast_flooding{family="IPv6"} 1',
      'overlayd_multicast_packets_total{direction="received"} 1',
      'overlayd_multicast_bytes_total{direction="sent"} 4',
      'overlayd_multicast_dropped_total 5',
    ]),
  )
  expect((await lines(view())).filter((line) => line.startsWith('overlayd_multicast'))).toEqual([])
})
