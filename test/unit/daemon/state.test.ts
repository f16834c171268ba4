/** Transitions between the phases of the daemon. */
import type { EtcdLink } from '../../../src/daemon/etcd-link'
import { isLossNews, knowledgeOf, linkAfter } from '../../../src/daemon/etcd-link'
import { sortUpdate } from '../../../src/daemon/node/sort-update'
import type { HostMemory } from '../../../src/daemon/start/host-memory'
import { type Obstacle, obstacleOf } from '../../../src/daemon/start/obstacle'
import {
  beginAttempt,
  confirmed,
  type DaemonState,
  meet,
  memoryOf,
  memoryProblem,
  metOf,
  phaseOf,
  type Remembered,
  waitingOf,
  withoutProblem,
} from '../../../src/daemon/state'
import { EtcdError } from '../../../src/etcd/client/errors'
import { OverlayError } from '../../../src/model/errors'
import type { Revision } from '../../../src/model/lease'

const met = (code: string, text = 'x'): Obstacle => {
  const obstacle = obstacleOf(new OverlayError(code, text), true)
  if (obstacle === undefined) throw new Error(`${code} is no obstacle`)
  return obstacle
}
const noConfig = met('no-config', 'there is no network config')
const noSubnet = met('out-of-subnets', 'no /24 is free')
const START: DaemonState = { kind: 'starting' }
const node = {} as Extract<DaemonState, { kind: 'joined' }>['node']
const ENDPOINTS = ['http://127.0.0.1:2379']
const revision = (value: bigint): Revision => value as Revision
const following: EtcdLink = {
  kind: 'following',
  known: { revision: revision(7n), clusterId: 'c', config: undefined },
}

describe('an attempt that meets an obstacle', () => {
  test('is news once, and further attempts that meet the same are counted', () => {
    const first = meet(START, noConfig)
    expect(first).toEqual({
      isNews: true,
      state: { kind: 'waiting', met: { obstacle: noConfig, attempts: 1 } },
    })
    const second = meet(beginAttempt(first.state), noConfig)
    expect(second.isNews).toBe(false)
    expect(metOf(second.state)?.attempts).toBe(2)
    const other = meet(beginAttempt(second.state), noSubnet)
    expect(other.isNews).toBe(true)
    expect(metOf(other.state)).toEqual({ obstacle: noSubnet, attempts: 1 })
  })

  test('drops the obstacle before', () => {
    const { state } = meet(meet(START, noConfig).state, noSubnet)
    expect(phaseOf(state)).toBe('waiting-for-subnet')
    expect(waitingOf(state, following, ENDPOINTS)).toEqual(noSubnet.waiting)
    expect(JSON.stringify(state)).not.toContain('network config')
  })
})

test.each<[string, DaemonState, ReturnType<typeof phaseOf>]>([
  ['before the first attempt', START, 'starting'],
  ['without a config', meet(START, noConfig).state, 'waiting-for-config'],
  ['without a subnet', meet(START, noSubnet).state, 'waiting-for-subnet'],
  ['during the next attempt', beginAttempt(meet(START, noConfig).state), 'starting'],
  ['with a lease', { kind: 'joined', node, fromState: undefined }, 'starting'],
  ['once the subnet file is written', { kind: 'running', node, fromState: undefined }, 'running'],
])('the phase %s', (_, state, phase) => expect(phaseOf(state)).toBe(phase))

describe('what a host waits for', () => {
  const waits = { part: 'lease', code: 'asking', reason: 'another host' } as const
  const lost: EtcdLink = { kind: 'lost', error: new EtcdError('etcd-timeout', 'no answer'), known: undefined }
  test.each<[string, DaemonState, EtcdLink, string | undefined]>([
    ['etcd, before its first answer', START, { kind: 'connecting' }, 'etcd-silent'],
    ['etcd that cannot be reached', meet(START, noConfig).state, lost, 'etcd-timeout'],
    ['nothing, while it starts', START, following, undefined],
    ['a config', meet(START, noConfig).state, following, 'no-config'],
    [
      'a config, also while the next attempt is under way',
      beginAttempt(meet(START, noConfig).state),
      following,
      'no-config',
    ],
    ['the reason of the attempt under way', { ...START, waits }, lost, 'asking'],
    ['nothing, once it has a lease', { kind: 'joined', node, fromState: undefined }, lost, undefined],
    ['nothing, once it runs', { kind: 'running', node, fromState: undefined }, lost, undefined],
  ])('%s', (_, state, link, code) => expect(waitingOf(state, link, ENDPOINTS)?.code).toBe(code))
})

test('a host that has joined has no obstacle', () => {
  expect(metOf({ kind: 'joined', node, fromState: undefined })).toBeUndefined()
})

test('an answer of etcd ends the dependence on the state file, and changes nothing else', () => {
  const state: DaemonState = { kind: 'running', node, fromState: '2026-01-01T00:00:00Z' }
  expect(confirmed(state)).toEqual({ kind: 'running', node, fromState: undefined })
  expect(confirmed(START)).toBe(START)
})

test('the state file is used for one start, and its problem is dropped when a start succeeds', () => {
  const memory = {} as HostMemory
  const tried: Remembered = { kind: 'tried', memory, problem: 'too old' }
  expect([memoryOf(tried), memoryProblem(tried)]).toEqual([memory, 'too old'])
  expect(memoryProblem(withoutProblem(tried))).toBeUndefined()
  expect(memoryOf(withoutProblem(tried))).toBe(memory)
  expect(memoryProblem(withoutProblem({ kind: 'none', problem: 'garbage' }))).toBeUndefined()
  expect(memoryOf({ kind: 'spent' })).toBeUndefined()
})

describe('the link to etcd', () => {
  const listing = (at: bigint, config: string | undefined) =>
    sortUpdate({
      kind: 'snapshot',
      snapshot: {
        revision: revision(at),
        clusterId: 'c',
        config,
        configRevision: revision(3n),
        leases: [],
        unreadable: [],
        groups: [],
      },
    })
  const events = (at: bigint, text?: string) =>
    sortUpdate({
      kind: 'events',
      revision: revision(at),
      receivedAt: 0,
      events: text === undefined ? [] : [{ kind: 'config', text, modRevision: revision(at) }],
    })
  const loss = (code: ConstructorParameters<typeof EtcdError>[0]) =>
    sortUpdate({ kind: 'lost', error: new EtcdError(code, 'x') })

  test('keeps the last revision, cluster and config, also while etcd is away', () => {
    const listed = linkAfter({ kind: 'connecting' }, listing(7n, 'a'))
    expect(knowledgeOf(listed)).toEqual({
      revision: 7n,
      clusterId: 'c',
      config: { text: 'a', revision: 3n },
    })
    const later = linkAfter(listed, events(9n))
    expect(knowledgeOf(later)).toEqual({ revision: 9n, clusterId: 'c', config: { text: 'a', revision: 3n } })
    const changed = linkAfter(later, events(11n, 'b'))
    expect(knowledgeOf(changed)?.config).toEqual({ text: 'b', revision: 11n })
    const away = linkAfter(changed, loss('etcd-timeout'))
    expect(away.kind).toBe('lost')
    expect(knowledgeOf(away)).toEqual(knowledgeOf(changed))
    expect(linkAfter(away, events(11n)).kind).toBe('following')
  })

  test.each([
    ['the first loss', following, 'etcd-timeout', true],
    ['a loss before the first answer', { kind: 'connecting' } satisfies EtcdLink, 'etcd-timeout', true],
    ['the same loss again', linkAfter(following, loss('etcd-timeout')), 'etcd-timeout', false],
    ['a refusal while etcd is away', linkAfter(following, loss('etcd-timeout')), 'etcd-refused', true],
    ['the same refusal again', linkAfter(following, loss('etcd-refused')), 'etcd-refused', false],
  ] as const)('%s is logged or not', (_, link, code, isNews) =>
    expect(isLossNews(link, new EtcdError(code, 'x'))).toBe(isNews),
  )
})
