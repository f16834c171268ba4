/** Each invariant of the nemesis holds on a good picture, and fails on each bad one. */
import type { Status } from '../../../src/api/status'
import { expectedObjects } from '../../lab/kernel-view'
import {
  brokenBy,
  brokenByLies,
  brokenInRound,
  doctorContent,
  kernelDifferences,
  LONGEST_LIE,
  liesAfter,
  SETTLED,
} from '../../nemesis/invariants'
import type { HostPicture, KeyPicture, Picture, RoundPicture } from '../../nemesis/picture'

const NUMBERS = [1, 2, 3]
const addressOf = (number: number): string => `192.168.77.${10 + number}`
const macOf = (number: number): string => `02:00:00:00:00:0${number}`
const subnetOf = (number: number): string => `10.5.${number}.0-24`

const keyOf = (number: number): KeyPicture => ({
  name: subnetOf(number),
  owner: { publicIp: addressOf(number), mac: macOf(number) },
  etcdLease: `70${number}`,
})

function statusOf(number: number): Status {
  return {
    schema: 1,
    version: '0',
    state: 'healthy',
    problems: [],
    daemon: { running: true, phase: 'running' },
    lease: { state: 'held', subnet: `10.5.${number}.0/24` },
    etcd: { endpoints: [], connected: true },
    stateFile: { inUse: false },
    convergence: { converged: true, failing: 0, operations: 9 },
    peers: NUMBERS.filter((other) => other !== number).map((other) => ({
      subnet: `10.5.${other}.0/24`,
      publicIp: addressOf(other),
      mac: macOf(other),
      state: 'ok' as const,
    })),
  }
}

function hostOf(number: number): HostPicture {
  const objects = NUMBERS.filter((other) => other !== number).map((other) =>
    expectedObjects({ subnet: subnetOf(other), publicIp: addressOf(other), mac: macOf(other) }),
  )
  return {
    name: `host${number}`,
    address: addressOf(number),
    status: statusOf(number),
    readyz: { code: 200, body: 'flanneld is ready' },
    subnetEnv: `10.5.${number}.1/24`,
    device: { mac: macOf(number), up: true },
    kernel: {
      routes: objects.map(({ route }) => route),
      neighbours: objects.map(({ neighbour }) => neighbour),
      fdb: objects.map(({ fdb }) => fdb),
      nexthops: objects.map(({ nexthop }) => nexthop),
    },
    objects: {
      links: ['docker0', 'eth0', 'flannel.1', 'lo', 'veth1'],
      nexthops: objects.map(({ nexthop }) => `via ${nexthop}`),
      rules: ['0: from all lookup local'],
      firewall: ['-A FORWARD -j FLANNEL-FWD'],
      files: ['host1/run/overlayd.sock', 'host1/state/overlayd/state.json'],
      sockets: ['0.0.0.0:8286'],
    },
    process: { pid: 7, rss: 90_000, descriptors: 28, threads: 11 },
    forwarding: ['1', '1'],
  }
}

const good: Picture = {
  hosts: NUMBERS.map(hostOf),
  etcd: { keys: NUMBERS.map(keyOf), leases: ['701', '702', '703'], alarms: [] },
  unreached: [],
}

/** The good picture with another first host. */
const withHost = (change: Partial<HostPicture>): Picture => ({
  ...good,
  hosts: good.hosts.map((host, index) => (index === 0 ? { ...host, ...change } : host)),
})
const withStatus = (change: Partial<Status>): Picture => withHost({ status: { ...statusOf(1), ...change } })
const withObjects = (change: Partial<HostPicture['objects']>): Picture =>
  withHost({ objects: { ...hostOf(1).objects, ...change } })
const withKernel = (change: Partial<HostPicture['kernel']>): Picture =>
  withHost({ kernel: { ...hostOf(1).kernel, ...change } })
const withProcess = (change: Partial<NonNullable<HostPicture['process']>>): Picture =>
  withHost({ process: { pid: 7, rss: 90_000, descriptors: 28, threads: 11, ...change } })
/** With another first key. */
const withKey = (change: Partial<KeyPicture>): Picture => ({
  ...good,
  etcd: { ...good.etcd, keys: [{ ...keyOf(1), ...change }, ...good.etcd.keys.slice(1)] },
})
const withMoreKeys = (...keys: readonly KeyPicture[]): Picture => ({
  ...good,
  etcd: { ...good.etcd, keys: [...good.etcd.keys, ...keys] },
})

test('all invariants hold on a good picture', () => {
  expect(brokenBy(good, good)).toEqual([])
})

const { routes, neighbours, fdb, nexthops } = hostOf(1).kernel

const BAD: readonly (readonly [keyof typeof SETTLED, string, Picture, RegExp])[] = [
  [
    'one owner per subnet',
    'two hosts with one subnet.env',
    withHost({ subnetEnv: '10.5.2.1/24' }),
    /several hosts have 10\.5\.2\.1/,
  ],
  [
    'one owner per subnet',
    'keys that overlap',
    withMoreKeys({ ...keyOf(1), name: '10.5.1.128-25' }),
    /overlap/,
  ],
  [
    'one owner per subnet',
    'a key that is no subnet',
    withMoreKeys({ name: '"~x"', etcdLease: '0' }),
    /is not a subnet/,
  ],
  [
    'one key per host',
    'a second key',
    withMoreKeys({ ...keyOf(1), name: '10.5.9.0-24' }),
    /host1 .* has 2 keys/,
  ],
  [
    'one key per host',
    'no key',
    { ...good, etcd: { ...good.etcd, keys: good.etcd.keys.slice(1) } },
    /host1 .* has 0 keys/,
  ],
  [
    'one key per host',
    'a key of nobody',
    withMoreKeys({ ...keyOf(4), name: '10.5.9.0-24' }),
    /is not the key of a host: 192\.168\.77\.14/,
  ],
  [
    'one key per host',
    'a key that is no lease',
    withMoreKeys({ name: '10.5.9.0-24', etcdLease: '0' }),
    /not a lease/,
  ],
  [
    'one MAC per key',
    'one MAC twice',
    withKey({ owner: { publicIp: addressOf(1), mac: macOf(2) } }),
    /several keys have the MAC/,
  ],
  [
    'one MAC per key',
    'another MAC on the device',
    withHost({ device: { mac: macOf(9), up: true } }),
    /its device 02:.*:09/,
  ],
  [
    'one subnet per host',
    'another subnet in subnet.env',
    withHost({ subnetEnv: '10.5.9.1/24' }),
    /host1 has 10\.5\.9\.1\/24 in subnet\.env/,
  ],
  ['one subnet per host', 'no subnet.env', withHost({ subnetEnv: '' }), /host1 has nothing in subnet\.env/],
  [
    'one subnet per host',
    'another one in the status',
    withStatus({ lease: { state: 'held', subnet: '10.5.9.0/24' } }),
    /the status of host1 has 10\.5\.9/,
  ],
  [
    'one subnet per host',
    'a key without its lease',
    withKey({ etcdLease: '999' }),
    /lease that does not exist/,
  ],
  [
    'all pairs reach each other',
    'a pair that does not',
    { ...good, unreached: ['host1 -> host2'] },
    /host1 -> host2: no answer/,
  ],
  ['kernel equals etcd', 'a route less', withKernel({ routes: routes.slice(1) }), /host1 lacks routes/],
  [
    'kernel equals etcd',
    'a neighbour less',
    withKernel({ neighbours: neighbours.slice(1) }),
    /host1 lacks neighbours/,
  ],
  [
    'kernel equals etcd',
    'an FDB entry elsewhere',
    withKernel({ fdb: [`${macOf(2)} 10.0.0.1`, ...fdb.slice(1)] }),
    /host1 has fdb 02:.* 10\.0\.0\.1/,
  ],
  [
    'kernel equals etcd',
    'a nexthop more',
    withKernel({ nexthops: [...nexthops, '10.5.9.0'] }),
    /host1 has nexthops 10\.5\.9\.0/,
  ],
  [
    'kernel equals etcd',
    'an FDB entry twice',
    withKernel({ fdb: [...fdb, ...fdb.slice(0, 1)] }),
    /has twice fdb/,
  ],
  [
    'kernel equals etcd',
    'a device that is down',
    withHost({ device: { mac: macOf(1), up: false } }),
    /device of host1 is down/,
  ],
  ['kernel equals etcd', 'no forwarding', withHost({ forwarding: ['1', '0'] }), /forwarding on host1 is 1 0/],
  [
    'nothing is left over',
    'a device',
    withObjects({ links: [...hostOf(1).objects.links, 'mine'] }),
    /more links: mine/,
  ],
  [
    'nothing is left over',
    'a nexthop',
    withObjects({ nexthops: [...hostOf(1).objects.nexthops, 'via x'] }),
    /more nexthops/,
  ],
  [
    'nothing is left over',
    'a routing rule',
    withObjects({ rules: [...hostOf(1).objects.rules, '5: from all'] }),
    /more rules/,
  ],
  [
    'nothing is left over',
    'a rule twice',
    withObjects({ firewall: ['-A FORWARD -j FLANNEL-FWD', '-A FORWARD -j FLANNEL-FWD'] }),
    /duplicate firewall/,
  ],
  ['nothing is left over', 'no rule any more', withObjects({ firewall: [] }), /lost firewall/],
  [
    'nothing is left over',
    'a temporary file',
    withObjects({ files: [...hostOf(1).objects.files, 'host1/state/.x.1'] }),
    /more files: .*\.x\.1/,
  ],
  [
    'nothing is left over',
    'a socket',
    withObjects({ sockets: ['0.0.0.0:8286', '0.0.0.0:99'] }),
    /more sockets/,
  ],
  [
    'nothing is left over',
    'leases without end',
    {
      ...good,
      etcd: { ...good.etcd, leases: [...good.etcd.leases, ...Array.from({ length: 500 }, (_, n) => `${n}`)] },
    },
    /503 leases/,
  ],
  ['status is true', 'no status', withHost({ status: 'ECONNREFUSED' }), /host1 has no status: ECONNREFUSED/],
  ['status is true', 'degraded', withStatus({ state: 'degraded' }), /is degraded/],
  ['status is true', 'a problem that is over', withStatus({ problems: ['etcd is away'] }), /etcd is away/],
  [
    'status is true',
    'a start that never ends',
    withStatus({ daemon: { running: true, phase: 'starting' } }),
    /is starting/,
  ],
  [
    'status is true',
    'a conflict',
    withStatus({ lease: { ...statusOf(1).lease, state: 'conflict' } }),
    /lease conflict/,
  ],
  [
    'status is true',
    'a reason at the lease',
    withStatus({ lease: { state: 'held', subnet: '10.5.1.0/24', reason: 'x' } }),
    /has a reason at its lease/,
  ],
  ['status is true', 'etcd away', withStatus({ etcd: { endpoints: [], connected: false } }), /not connected/],
  [
    'status is true',
    'an etcd error',
    withStatus({ etcd: { endpoints: [], connected: true, error: 'x' } }),
    /etcd error/,
  ],
  [
    'status is true',
    'not converged',
    withStatus({ convergence: { ...statusOf(1).convergence, converged: false } }),
    /not converged/,
  ],
  [
    'status is true',
    'failing operations',
    withStatus({ convergence: { ...statusOf(1).convergence, failing: 2 } }),
    /2 operations/,
  ],
  [
    'status is true',
    'a last error',
    withStatus({ convergence: { ...statusOf(1).convergence, lastError: 'x' } }),
    /last error/,
  ],
  [
    'status is true',
    'a state file with a problem',
    withStatus({ stateFile: { inUse: false, problem: 'full' } }),
    /state file: full/,
  ],
  [
    'status is true',
    'a state file in use',
    withStatus({ stateFile: { inUse: true } }),
    /runs on its state file/,
  ],
  ['status is true', 'a peer less', withStatus({ peers: statusOf(1).peers.slice(1) }), /has 1 peers/],
  [
    'status is true',
    'a rejected peer',
    withStatus({
      peers: statusOf(1).peers.map((peer) => ({ ...peer, state: 'rejected' as const, reason: 'x' })),
    }),
    /10\.5\.2\.0\/24 rejected \(x\)/,
  ],
  [
    'ready',
    'not ready',
    withHost({ readyz: { code: 503, body: 'not ready' } }),
    /readyz of host1 answers 503: not ready/,
  ],
  ['ready', 'no answer', withHost({ readyz: { code: 0, body: 'no answer' } }), /answers 0/],
  ['processes are bounded', 'memory', withProcess({ rss: 400_000 }), /400000 KiB/],
  ['processes are bounded', 'descriptors', withProcess({ descriptors: 60 }), /60 descriptors/],
  ['processes are bounded', 'threads', withProcess({ threads: 30 }), /30 threads/],
  [
    'subnets are kept',
    'a host that moved',
    withHost({ subnetEnv: '10.5.9.1/24' }),
    /moved from 10\.5\.1\.1\/24 to 10\.5\.9\.1\/24/,
  ],
]

test.each(BAD)('%s: fails on %s', (name, _what, bad, message) => {
  const wrong = SETTLED[name](bad, good)
  expect(wrong.join('\n')).toMatch(message)
  expect(brokenBy(bad, good)).toEqual(expect.arrayContaining(wrong.map((what) => `${name}: ${what}`)))
})

test('a daemon that does not run is detected', () => {
  const { process: _, ...host } = hostOf(1)
  expect(SETTLED['processes are bounded']({ ...good, hosts: [host] }, good)).toEqual([
    'the daemon of host1 does not run',
  ])
})

test('a device that is gone is detected', () => {
  const { device: _, ...host } = hostOf(1)
  const bad = { ...good, hosts: [host, ...good.hosts.slice(1)] }
  expect(SETTLED['kernel equals etcd'](bad, good)).toEqual(['the device of host1 is gone'])
  expect(SETTLED['one MAC per key'](bad, good)).toEqual([expect.stringMatching(/does not exist/)])
})

test('each invariant has a picture on which it fails', () => {
  expect(new Set(BAD.map(([name]) => name))).toEqual(new Set(Object.keys(SETTLED)))
})

test('the difference between kernel and etcd is reported line by line', () => {
  const bad = withKernel({ fdb: [] })
  expect(kernelDifferences(bad.hosts[0] ?? hostOf(1), bad)).toEqual([
    'lacks fdb 02:00:00:00:00:02 192.168.77.12',
    'lacks fdb 02:00:00:00:00:03 192.168.77.13',
  ])
})

describe('invariants of a whole round', () => {
  const round: RoundPicture = {
    pings: [{ pair: 'host5 -> host6', sent: 100, lost: 0 }],
    ends: [],
    logs: [{ host: 'host1', bytes: 2000, starts: 1 }],
  }
  test('hold on a good round', () => {
    expect(brokenInRound(round)).toEqual([])
  })
  test.each<[string, Partial<RoundPicture>, RegExp]>([
    [
      'a lost ping',
      { pings: [{ pair: 'host5 -> host6', sent: 100, lost: 1 }] },
      /host5 -> host6 lost 1 of 100/,
    ],
    ['no ping', { pings: [{ pair: 'host5 -> host6', sent: 0, lost: 0 }] }, /sent no ping/],
    [
      'a daemon that ended',
      { ends: [{ host: 'host1', how: 'exit code 1' }] },
      /the daemon of host1 ended by itself: exit code 1/,
    ],
    ['a flood of log', { logs: [{ host: 'host1', bytes: 1e6, starts: 1 }] }, /host1 wrote 1000000 bytes/],
  ])('fail on %s', (_what, change, message) => {
    expect(brokenInRound({ ...round, ...change })).toEqual([expect.stringMatching(message)])
  })
})

test('findings of the doctor count', () => {
  expect(doctorContent([{ host: 'host1', code: 0, output: '' }])).toEqual([])
  expect(doctorContent([{ host: 'host1', code: 1, output: 'warn x' }])).toEqual([
    expect.stringMatching(/host1.* 1: warn x/),
  ])
})

describe('a status that says healthy over a wrong kernel', () => {
  const wrong = withKernel({ routes: [] })
  test('is reported if it stays wrong for long', () => {
    const lies = liesAfter(liesAfter(new Map(), wrong, 0), wrong, 5000)
    expect(brokenByLies(lies, LONGEST_LIE)).toEqual([])
    expect(brokenByLies(lies, LONGEST_LIE + 1000)).toEqual([
      expect.stringMatching(/host1 has reported healthy for 31 s/),
    ])
  })
  test('is not reported if the status or the kernel is right in between', () => {
    const degraded = { ...withKernel({ routes: [] }) }
    const honest: Picture = {
      ...degraded,
      hosts: degraded.hosts.map((host) => ({
        ...host,
        status: { ...statusOf(1), state: 'degraded' as const },
      })),
    }
    expect(liesAfter(new Map(), honest, 0).size).toBe(0)
    const again = liesAfter(liesAfter(liesAfter(new Map(), wrong, 0), good, 1000), wrong, 2000)
    expect([...again]).toEqual([['host1', 2000]])
  })
})
