/**
 * Invariants of a lab some time after the last fault. Each invariant is a pure function of observations. It
 * returns one line per violation, so an empty list if it holds.
 */
import type { Status } from '../../src/api/status'
import { expectedObjects, type KernelView } from '../lab/kernel-view'
import {
  type DoctorPicture,
  type HostPicture,
  type ObjectsPicture,
  type Picture,
  type RoundPicture,
  subnetOfEnv,
} from './picture'

/** @param before the same lab before the first fault. @returns the violations */
export type Invariant = (now: Picture, before: Picture) => readonly string[]

/** Most KiB of resident memory of a daemon: three times as much as after its start. */
export const MOST_RSS = 300 * 1024
/** How many more descriptors than after its first start a daemon may have: connections being closed. */
export const MORE_DESCRIPTORS = 16
/** How many more threads than after its first start a daemon may have: libuv's thread pool. */
export const MORE_THREADS = 6
/**
 * How many etcd leases may exist beyond one per host. The lease of a deleted or overwritten key exists for
 * another day, and so does a lease whose grant was not answered. A leak would add several per second.
 */
export const MORE_LEASES = 200
/** Bytes a daemon may log in a round: LOG_PER_ROUND, and LOG_PER_START for each of its starts. */
export const LOG_PER_START = 8 * 1024
export const LOG_PER_ROUND = 64 * 1024

/** @returns each value that occurs more than once */
const repeated = (values: readonly string[]): string[] => [
  ...new Set(values.filter((value, index) => values.indexOf(value) !== index)),
]

/** `10.5.0.0-16` -> first and last address as numbers; `undefined` for other names. */
function rangeOf(name: string): readonly [number, number] | undefined {
  const match = /^(\d+)\.(\d+)\.(\d+)\.(\d+)-(\d+)$/.exec(name)
  if (match === null) return undefined
  const [a = 0, b = 0, c = 0, d = 0, length = 0] = match.slice(1).map(Number)
  const first = ((a * 256 + b) * 256 + c) * 256 + d
  return [first, first + 2 ** (32 - length) - 1]
}

const oneOwnerPerSubnet: Invariant = ({ hosts, etcd }) => [
  ...repeated(hosts.map(({ subnetEnv }) => subnetEnv).filter((subnet) => subnet !== '')).map(
    (subnet) => `several hosts have ${subnet} in subnet.env`,
  ),
  ...etcd.keys.flatMap(({ name }, index) => {
    const range = rangeOf(name)
    if (range === undefined) return [`${name} under subnets/ is not a subnet`]
    return etcd.keys.slice(index + 1).flatMap((other) => {
      const otherRange = rangeOf(other.name)
      const overlap = otherRange && range[0] <= otherRange[1] && otherRange[0] <= range[1]
      return overlap ? [`${name} and ${other.name} overlap`] : []
    })
  }),
]

const oneKeyPerHost: Invariant = ({ hosts, etcd }) => [
  ...hosts.flatMap(({ name, address }) => {
    const keys = etcd.keys.filter(({ owner }) => owner?.publicIp === address)
    return keys.length === 1
      ? []
      : [`${name} (${address}) has ${keys.length} keys in etcd: ${keys.map((key) => key.name).join(' ')}`]
  }),
  ...etcd.keys
    .filter(({ owner }) => !hosts.some(({ address }) => address === owner?.publicIp))
    .map(({ name, owner }) => `${name} is not the key of a host: ${owner?.publicIp ?? 'not a lease'}`),
]

const oneMacPerKey: Invariant = ({ hosts, etcd }) => [
  ...repeated(etcd.keys.flatMap(({ owner }) => (owner === undefined ? [] : [owner.mac]))).map(
    (mac) => `several keys have the MAC ${mac}`,
  ),
  ...hosts.flatMap(({ name, address, device }) => {
    const key = etcd.keys.find(({ owner }) => owner?.publicIp === address)
    return key?.owner === undefined || key.owner.mac === device?.mac
      ? []
      : [`the key of ${name} has the MAC ${key.owner.mac}, its device ${device?.mac ?? 'does not exist'}`]
  }),
]

/** A host's key, subnet.env and status have the same subnet, and an etcd lease of the key exists. */
const oneSubnetPerHost: Invariant = ({ hosts, etcd }) =>
  hosts.flatMap((host) => {
    const key = etcd.keys.find(({ owner }) => owner?.publicIp === host.address)
    if (key === undefined) return []
    const status = typeof host.status === 'string' ? undefined : host.status.lease?.subnet?.replace('/', '-')
    return [
      ...(subnetOfEnv(host) === key.name
        ? []
        : [`${host.name} has ${host.subnetEnv || 'nothing'} in subnet.env and the key ${key.name}`]),
      ...(status === key.name
        ? []
        : [`the status of ${host.name} has ${status ?? 'no subnet'}, the key is ${key.name}`]),
      ...(key.etcdLease !== '0' && !etcd.leases.includes(key.etcdLease)
        ? [`the key ${key.name} of ${host.name} is bound to an etcd lease that does not exist`]
        : []),
    ]
  })

const allReach: Invariant = ({ unreached }) => unreached.map((pair) => `${pair}: no answer`)

const KINDS = ['routes', 'neighbours', 'fdb', 'nexthops'] as const satisfies readonly (keyof KernelView)[]

/** Differences between a host's kernel and the peers in etcd, one line each: missing, extra or duplicate. */
export function kernelDifferences(host: HostPicture, { etcd }: Picture): string[] {
  const peers = etcd.keys.flatMap(({ name, owner }) =>
    owner === undefined || owner.publicIp === host.address
      ? []
      : [expectedObjects({ subnet: name, publicIp: owner.publicIp, mac: owner.mac })],
  )
  const wanted: KernelView = {
    routes: peers.map(({ route }) => route),
    neighbours: peers.map(({ neighbour }) => neighbour),
    fdb: peers.map(({ fdb }) => fdb),
    nexthops: peers.map(({ nexthop }) => nexthop),
  }
  return KINDS.flatMap((kind) => [
    ...wanted[kind]
      .filter((line) => !host.kernel[kind].includes(line))
      .map((line) => `lacks ${kind} ${line}`),
    ...host.kernel[kind].filter((line) => !wanted[kind].includes(line)).map((line) => `has ${kind} ${line}`),
    ...repeated(host.kernel[kind]).map((line) => `has twice ${kind} ${line}`),
  ])
}

const kernelIsEtcd: Invariant = (now) => [
  ...now.hosts.flatMap((host) =>
    kernelDifferences(host, now).map((difference) => `the kernel of ${host.name} ${difference}`),
  ),
  ...now.hosts
    .filter(({ device }) => device?.up !== true)
    .map(({ name, device }) => `the device of ${name} is ${device === undefined ? 'gone' : 'down'}`),
  ...now.hosts
    .filter(({ forwarding }) => forwarding.some((value) => value !== '1'))
    .map(({ name, forwarding }) => `forwarding on ${name} is ${forwarding.join(' ')}`),
]

const OBJECTS = [
  'links',
  'nexthops',
  'rules',
  'firewall',
  'files',
  'sockets',
] as const satisfies readonly (keyof ObjectsPicture)[]

/**
 * A host has the same objects as before the first fault, and etcd has no pile of leases. A nexthop's line
 * contains the peer's subnet, which never changes.
 */
const nothingLeft: Invariant = (now, before) => [
  ...now.hosts.flatMap((host) => {
    const earlier = before.hosts.find(({ name }) => name === host.name)
    if (earlier === undefined) return []
    return OBJECTS.flatMap((kind) => [
      ...host.objects[kind]
        .filter((line) => !earlier.objects[kind].includes(line))
        .map((line) => `${host.name} has more ${kind}: ${line}`),
      ...earlier.objects[kind]
        .filter((line) => !host.objects[kind].includes(line))
        .map((line) => `${host.name} has lost ${kind}: ${line}`),
      ...repeated(host.objects[kind])
        .filter((line) => !repeated(earlier.objects[kind]).includes(line))
        .map((line) => `${host.name} has duplicate ${kind}: ${line}`),
    ])
  }),
  ...(now.etcd.leases.length > now.hosts.length + MORE_LEASES
    ? [`etcd has ${now.etcd.leases.length} leases for ${now.hosts.length} hosts`]
    : []),
]

/** Statements of a status that are false once all other invariants hold. */
function untrue({ state, problems, daemon, lease, etcd, convergence, stateFile, peers }: Status): string[] {
  return [
    ...(state === 'healthy' ? [] : [`is ${state}`]),
    ...problems.map((problem) => `has the problem ${JSON.stringify(problem)}`),
    ...(daemon.phase === 'running' ? [] : [`is ${daemon.phase}`]),
    ...('waiting' in daemon && daemon.waiting !== undefined ? ['waits'] : []),
    ...(lease?.state === 'held' ? [] : [`has its lease ${lease?.state ?? 'not at all'}`]),
    ...(lease?.reason === undefined ? [] : [`has a reason at its lease: ${lease.reason}`]),
    ...(etcd.connected ? [] : ['is not connected to etcd']),
    ...(etcd.error === undefined ? [] : [`has the etcd error ${JSON.stringify(etcd.error)}`]),
    ...(convergence.converged ? [] : ['has not converged']),
    ...(convergence.failing === 0 ? [] : [`has ${convergence.failing} operations failing`]),
    ...(convergence.lastError === undefined
      ? []
      : [`has the last error ${JSON.stringify(convergence.lastError)}`]),
    ...(stateFile?.problem === undefined ? [] : [`has a problem with its state file: ${stateFile.problem}`]),
    ...(stateFile?.inUse === true ? ['runs on its state file'] : []),
    ...peers
      .filter((peer) => peer.state !== 'ok' || peer.reason !== undefined)
      .map((peer) => `has the peer ${peer.subnet} ${peer.state} (${peer.reason ?? 'no reason'})`),
  ]
}

/** Every host reports itself healthy, and every peer `ok`. */
const statusTrue: Invariant = ({ hosts }) =>
  hosts.flatMap(({ name, status }) => {
    if (typeof status === 'string') return [`${name} has no status: ${status}`]
    return [
      ...untrue(status).map((what) => `the status of ${name} ${what}`),
      ...(status.peers.length === hosts.length - 1
        ? []
        : [`the status of ${name} has ${status.peers.length} peers`]),
    ]
  })

const ready: Invariant = ({ hosts }) =>
  hosts
    .filter(({ readyz }) => readyz.code !== 200)
    .map(({ name, readyz }) => `/readyz of ${name} answers ${readyz.code}: ${readyz.body}`)

const processesBounded: Invariant = ({ hosts }, before) =>
  hosts.flatMap(({ name, process }) => {
    const earlier = before.hosts.find((host) => host.name === name)?.process
    if (process === undefined) return [`the daemon of ${name} does not run`]
    const bounds = [
      ['KiB of memory', process.rss, MOST_RSS],
      ['descriptors', process.descriptors, (earlier?.descriptors ?? 0) + MORE_DESCRIPTORS],
      ['threads', process.threads, (earlier?.threads ?? 0) + MORE_THREADS],
    ] as const
    return bounds
      .filter(([, value, most]) => value > most)
      .map(([what, value, most]) => `the daemon of ${name} has ${value} ${what}, allowed: ${most}`)
  })

/** Only an operator can move a host to another subnet, and no fault of the nemesis does that. */
const subnetsKept: Invariant = ({ hosts }, before) =>
  hosts.flatMap(({ name, subnetEnv }) => {
    const earlier = before.hosts.find((host) => host.name === name)?.subnetEnv
    return earlier === undefined || earlier === subnetEnv
      ? []
      : [`${name} moved from ${earlier} to ${subnetEnv || 'nowhere'}`]
  })

/** Invariants that have to hold again some time after the last fault was undone. */
export const SETTLED = {
  'one owner per subnet': oneOwnerPerSubnet,
  'one key per host': oneKeyPerHost,
  'one MAC per key': oneMacPerKey,
  'one subnet per host': oneSubnetPerHost,
  'all pairs reach each other': allReach,
  'kernel equals etcd': kernelIsEtcd,
  'nothing is left over': nothingLeft,
  'status is true': statusTrue,
  ready: ready,
  'processes are bounded': processesBounded,
  'subnets are kept': subnetsKept,
} as const satisfies Readonly<Record<string, Invariant>>

/** Violations, as `invariant: violation`. */
export const brokenBy = (now: Picture, before: Picture): string[] =>
  Object.entries<Invariant>(SETTLED).flatMap(([name, invariant]) =>
    invariant(now, before).map((what) => `${name}: ${what}`),
  )

/** Invariant: the doctor finds nothing on any host once all other invariants hold. */
export const doctorContent = (doctors: readonly DoctorPicture[]): string[] =>
  doctors
    .filter(({ code }) => code !== 0)
    .map(
      ({ host, code, output }) => `the doctor finds nothing: on ${host} its exit code is ${code}: ${output}`,
    )

/** Violations of the invariants of a whole round. */
export const brokenInRound = ({ pings, ends, logs }: RoundPicture): string[] => [
  ...pings
    .filter(({ lost }) => lost > 0)
    .map(({ pair, sent, lost }) => `untouched hosts lose nothing: ${pair} lost ${lost} of ${sent} pings`),
  ...pings
    .filter(({ sent }) => sent === 0)
    .map(({ pair }) => `untouched hosts lose nothing: ${pair} sent no ping`),
  ...ends.map(({ host, how }) => `daemons keep running: the daemon of ${host} ended by itself: ${how}`),
  ...logs
    .filter(({ bytes, starts }) => bytes > LOG_PER_ROUND + starts * LOG_PER_START)
    .map(({ host, bytes }) => `logs are bounded: ${host} wrote ${bytes} bytes`),
]

/** Host -> since when (milliseconds) it has reported itself healthy while its kernel differed from etcd. */
export type Lies = ReadonlyMap<string, number>

/** The lies after another picture, taken at `at` (milliseconds). */
export function liesAfter(lies: Lies, now: Picture, at: number): Lies {
  const lying = now.hosts.filter(
    (host) =>
      typeof host.status !== 'string' &&
      host.status.state === 'healthy' &&
      kernelDifferences(host, now).length > 0,
  )
  return new Map(lying.map(({ name }) => [name, lies.get(name) ?? at]))
}

/** Most milliseconds a status may be out of date: the daemon notices a cut connection within 20 s. */
export const LONGEST_LIE = 30_000

export const brokenByLies = (lies: Lies, at: number, longest = LONGEST_LIE): string[] =>
  [...lies]
    .filter(([, since]) => at - since > longest)
    .map(
      ([host, since]) =>
        `status is true: ${host} has reported healthy for ${(at - since) / 1000} s with a wrong kernel`,
    )
