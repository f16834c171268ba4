import { writeMetrics } from '../../../../src/daemon/serve/metrics'
import { SERIES } from '../../../../src/daemon/serve/series'
import type { MetricsView, Sample } from '../../../../src/daemon/serve/series-shape'
import { EventLog } from '../../../../src/daemon/tell/events'
import { Distribution, Meters, Tally } from '../../../../src/daemon/tell/meters'
import { ipv4, type MacAddress } from '../../../../src/model/address'
import { OverlayError } from '../../../../src/model/errors'
import type { ObjectOperation } from '../../../../src/model/kernel/objects'
import { LEASE_STATES, type Peer, type Revision } from '../../../../src/model/lease'
import { parseOptions } from '../../../../src/options/schema'
import { planGroups } from '../../../../src/plan/multicast/groups'
import { alertQueries, dashboardQueries, missing, readExposition } from '../../../support/prometheus'
import { peer } from '../../plan/encryption/support'

const view = (fields: Partial<MetricsView> = {}): MetricsView => ({
  options: parseOptions({}, {}),
  version: '1.2.3',
  phase: 'starting',
  node: undefined,
  multicast: undefined,
  mesh: undefined,
  link: { kind: 'following', known: { revision: 7n as Revision, clusterId: undefined, config: undefined } },
  stateFile: { inUse: false },
  waiting: undefined,
  obstacle: undefined,
  subnetFileProblem: undefined,
  isReady: false,
  now: 1_090_000,
  certificates: [],
  losses: new Map(),
  events: new EventLog(),
  meters: new Meters(),
  ...fields,
})

const lines = async (shown: MetricsView): Promise<string[]> => (await writeMetrics(shown)).text.split('\n')

const neighbour: ObjectOperation = {
  do: 'set',
  kind: 'neighbour',
  key: ipv4(1),
  value: 2 as unknown as MacAddress,
  replace: false,
}

test('names and types follow the conventions', () => {
  expect(new Set(SERIES.map(({ name }) => name)).size).toBe(SERIES.length)
  for (const { name, type } of SERIES) {
    expect(name).toMatch(/^(overlayd|process)_[a-z]+(_[a-z]+)*$/)
    expect([name, name.endsWith('_total')]).toEqual([name, type === 'counter'])
    if (type === 'histogram') expect(name).toMatch(/_seconds$/)
  }
})

test('samples have the documented labels, in order', () => {
  const meters = new Meters()
  const error = new OverlayError('netlink-refused', 'no')
  meters.wrote([neighbour, neighbour], [{ operation: neighbour, error, cause: 'taken', errno: 'EEXIST' }], 2)
  meters.etcd.failed('etcd-unreachable')
  const shown = view({ meters })
  const found = SERIES.flatMap(({ name, labels = [], read }) => {
    const samples = read(shown)
    return Symbol.iterator in samples ? [...samples].map(([given]) => [name, Object.keys(given), labels]) : []
  })
  expect(found.length).toBeGreaterThan(20)
  for (const [name, given, labels] of found) expect([name, given]).toEqual([name, labels])
})

test('a host that has not started yet exposes known values only', async () => {
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
  // A remaining time of 0 would look like a lease that is about to end.
  expect(shown.filter((line) => /^overlayd_(lease_remaining|watch_revision_lag|peers\b)/.test(line))).toEqual(
    [],
  )
})

test.each(LEASE_STATES)('for a lease that is %s the series of that state alone is 1', (state) => {
  const node = { lease: { state: { kind: state } } } as MetricsView['node']
  const series = SERIES.find(({ name }) => name === 'overlayd_lease_state')
  const samples = [...((series?.read(view({ node })) ?? []) as Iterable<Sample>)]
  expect(samples).toHaveLength(LEASE_STATES.length)
  for (const [labels, value] of samples)
    expect([labels, value]).toEqual([labels, labels['state'] === state ? 1 : 0])
})

test('events and their tallies are exposed', async () => {
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

test('accepted and refused operations are exposed', async () => {
  const meters = new Meters()
  const error = new OverlayError('route-in-the-way', 'a route is in the way')
  const refused = { operation: neighbour, error, cause: 'taken', errno: 'EEXIST' } as const
  meters.wrote([neighbour, neighbour, neighbour], [refused], 2)
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
})

test('a value that equals a bound of a histogram counts as below it', () => {
  const took = new Distribution()
  for (const milliseconds of [0, 1, 1.1, 2.5, 29_999, 60_000]) took.observe(milliseconds)
  const below = new Map(took.cumulative())
  expect([below.get(0.001), below.get(0.0025), below.get(10), below.get(30), took.count]).toEqual([
    2, 4, 4, 5, 6,
  ])
  expect(took.sum).toBeCloseTo(90.0036)
})

test('a tally has one count for each pair of labels', () => {
  const tally = new Tally()
  tally.add(2, 'set-route', 'EEXIST')
  tally.add(1, 'set-route', 'EPERM')
  expect([...tally.entries()]).toEqual([
    [['set-route', 'EEXIST'], 2],
    [['set-route', 'EPERM'], 1],
  ])
})

test('multicast has series only if it is exchanged', async () => {
  const plan = planGroups(
    new Map([[ipv4(1), { vni: 7, tells: ['IPv4'], groups: [ipv4(0xef010203)], via: 0 }]]),
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

describe('encryption', () => {
  const encryption = {
    kind: 'on',
    mode: 'required',
    devices: [],
    peers: { encrypted: 3, clear: 0, none: 2 },
    withoutKey: 1,
    silent: 4,
    lacking: [],
    refused: new Map([['10.5.9.0-24', 'own-key' as const]]),
    since: 1_000_000,
    problem: undefined,
  } as const
  const shownBy = async (fields: Partial<MetricsView>) =>
    (await lines(view(fields))).filter((line) => line.startsWith('overlayd_encryption'))

  test('has series only in a network that has it', async () => {
    expect(await shownBy({})).toEqual([])
    expect(await shownBy({ encryption, clearDropped: { droppedIn: 5n, droppedOut: 0n } })).toEqual([
      'overlayd_encryption_info{mode="required",state="on"} 1',
      'overlayd_encryption_peers{state="encrypted"} 3',
      'overlayd_encryption_peers{state="clear"} 0',
      'overlayd_encryption_peers{state="none"} 2',
      'overlayd_encryption_keyless_peers 1',
      'overlayd_encryption_silent_peers 4',
      'overlayd_encryption_refused_keys 1',
      'overlayd_encryption_key_age_seconds 90',
      'overlayd_encryption_dropped_packets_total{direction="in"} 5',
      'overlayd_encryption_dropped_packets_total{direction="out"} 0',
    ])
  })

  test('counts peers that nothing is sent to as pending, unless they are in another state', () => {
    const peers = [peer(1), peer(2), peer(3), peer(4)] as const
    const [ok, , failing, held] = peers
    const ways = { of: (each: Peer) => ({ kind: each === ok ? 'tunnel' : 'none' }) }
    const nodeOf = (mode: string) =>
      ({
        plan: { encryption: { kind: 'on', mode } },
        encryption: { ways },
        holdBack: { keys: () => [held.key], has: (name: string) => name === held.key },
        overlays: [
          {
            spec: { family: 'IPv4' },
            peers: {
              size: peers.length,
              peers: () => peers,
              peer: (name: string) => peers.find((each) => each.key === name),
              rejected: () => [],
            },
            reconciler: { peersAmiss: () => new Map([[failing, { state: 'failing' }]]) },
          },
        ],
      }) as unknown as MetricsView['node']
    const states = (mode: string): Record<string, number> => {
      const samples = SERIES.find(({ name }) => name === 'overlayd_peers')?.read(view({ node: nodeOf(mode) }))
      return Object.fromEntries([...(samples as Iterable<Sample>)].map(([{ state }, n]) => [state, n]))
    }
    expect(states('required')).toEqual({ ok: 1, held: 1, pending: 1, failing: 1, rejected: 0 })
    expect(states('prefer')).toEqual({ ok: 2, held: 1, pending: 0, failing: 1, rejected: 0 })
  })

  test('has all series that the dashboard and the alert rules ask for, and no others', () => {
    const clearDropped = { droppedIn: 0n, droppedOut: 0n }
    const { text } = writeMetrics(view({ encryption, clearDropped }))
    const exposed = readExposition(text)
    const queries = [...dashboardQueries(), ...alertQueries()]
    const wanting = missing(queries, exposed).filter((name) => name.includes('_encryption_'))
    // That is of a host which cannot encrypt.
    expect(wanting).toEqual(['overlayd_encryption_info{state="unable"}'])
    const unseen = [...exposed.keys()].filter((name) => name.includes('_encryption_'))
    expect(unseen.filter((name) => !queries.some((query) => query.includes(name)))).toEqual([])
  })

  test('of a host that cannot encrypt has what is known', async () => {
    const peers = { encrypted: 0, clear: 2, none: 0 }
    const unable = { kind: 'unable', mode: 'prefer', reason: '', fix: '', peers } as const
    expect(await shownBy({ encryption: unable })).toEqual([
      'overlayd_encryption_info{mode="prefer",state="unable"} 1',
      'overlayd_encryption_peers{state="encrypted"} 0',
      'overlayd_encryption_peers{state="clear"} 2',
      'overlayd_encryption_peers{state="none"} 0',
    ])
  })
})

test('ends of certificates and the time of the state file are points in time', async () => {
  const shown = await lines(
    view({
      stateFile: { inUse: false, savedAt: '2026-01-02T00:00:00.000Z' },
      certificates: [{ file: 'client', subject: 'CN=host', notAfter: 1_800_000_000 }],
    }),
  )
  expect(shown).toEqual(
    expect.arrayContaining([
      'overlayd_state_file_written_timestamp_seconds 1767312000',
      'overlayd_etcd_certificate_not_after_timestamp_seconds{file="client",subject="CN=host"} 1800000000',
    ]),
  )
})
