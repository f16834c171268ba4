import { sortEvents } from '../../../../src/daemon/node/sort-update'
import { type Run, Starter } from '../../../../src/daemon/start/starter'
import { phaseOf } from '../../../../src/daemon/state'
import type { Logger } from '../../../../src/daemon/tell/logger'
import type { RegistryEvent } from '../../../../src/etcd/follow/updates'
import { isOverlayError, OverlayError } from '../../../../src/model/errors'
import type { Revision } from '../../../../src/model/lease'
import { parseOptions } from '../../../../src/options/schema'
import { IdentityConflict } from '../../../../src/plan/lease/identity'
import { lease } from '../../plan/support'

beforeEach(() => jest.useFakeTimers())
afterEach(() => jest.useRealTimers())

const CONFIG = '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'
const run: Run = { signal: new AbortController().signal, fail: () => undefined }
const revision = 7n as Revision
const snapshot = (config: string | undefined) => ({
  revision,
  config,
  configRevision: revision,
  leases: [],
  unreadable: [],
})
const rival = lease('10.5.2.0/24')
const conflict = new IdentityConflict(rival, rival.value.publicIp)

/**
 * A starter whose attempts end with the given outcomes: an error, or a lease. What the attempts wait for
 * first.
 */
function starting(...outcomes: (OverlayError | 'joined')[]) {
  const lines: string[] = []
  const log = {
    log: (_: string, text: string) => lines.push(text),
    warn: () => undefined,
  } as unknown as Logger
  const states: string[] = []
  const starter: Starter = new Starter(
    { options: parseOptions({}, {}), log },
    async (_config, _start, waits) => {
      waits({ part: 'lease', code: 'asking', reason: 'another host' })
      waits(undefined)
      const outcome = outcomes.shift()
      if (isOverlayError(outcome)) throw outcome
      if (outcome === 'joined') starter.joined()
    },
    () => {
      const { state } = starter
      states.push(state.kind === 'waiting' ? state.met.obstacle.waiting.code : (state.waits?.code ?? 'none'))
    },
  )
  return { starter, lines, states }
}

const events = (...all: RegistryEvent[]) => sortEvents(all)
const config: RegistryEvent = { kind: 'config', text: CONFIG, modRevision: revision }
const removed = (key: string): RegistryEvent => ({ kind: 'removed', key, modRevision: revision })

test('without a config the host waits, which is logged once, for an event of the config', async () => {
  const { starter, lines } = starting()
  await starter.fromEtcd(snapshot(undefined), run)
  await starter.fromEtcd(snapshot(undefined), run)
  expect(phaseOf(starter.state)).toBe('waiting-for-config')
  expect(lines).toEqual([
    expect.stringMatching(/^config: there is no network config at .*; waiting for a usable/),
  ])
  expect([events(config), events(removed('a')), events()].map((each) => starter.isAwaited(each))).toEqual([
    true,
    false,
    false,
  ])
})

test('a reason to wait is told, and then the obstacle', async () => {
  const { starter, states } = starting(new OverlayError('out-of-subnets', 'no /24 is free'))
  await starter.fromEtcd(snapshot(CONFIG), run)
  expect(states).toEqual(['asking', 'none', 'out-of-subnets'])
  expect(starter.isAwaited(events(removed('a')))).toBe(true)
})

test('a live host with our address is awaited to go or to change, and is asked again later', async () => {
  const { starter } = starting(conflict)
  const listing = starter.beginListing()
  await starter.fromEtcd(snapshot(CONFIG), run)
  const put = (change: Partial<typeof rival.value>): RegistryEvent => ({
    kind: 'lease',
    lease: { ...rival, value: { ...rival.value, ...change } },
  })
  const outcomes = [put({}), put({ backendType: 'other' }), removed(rival.key), removed('another')]
  expect(outcomes.map((event) => starter.isAwaited(events(event)))).toEqual([false, true, true, false])
  expect(listing.aborted).toBe(false)
  jest.advanceTimersByTime(120_000)
  expect(listing.aborted).toBe(true)
})

test('a change of the host ends the listing only while an obstacle depends on the host', async () => {
  const { starter } = starting('joined')
  const listing = starter.beginListing()
  starter.hostChanged({ kind: 'overrun' })
  jest.advanceTimersByTime(10_000)
  expect(listing.aborted).toBe(false)
  await starter.fromEtcd(snapshot(undefined), run)
  starter.hostChanged({ kind: 'overrun' })
  jest.advanceTimersByTime(10_000)
  expect(listing.aborted).toBe(true)
  const next = starter.beginListing()
  await starter.fromEtcd(snapshot(CONFIG), run)
  starter.hostChanged({ kind: 'overrun' })
  jest.advanceTimersByTime(10_000)
  expect([next.aborted, starter.state]).toEqual([false, { kind: 'starting' }])
})

test('an error that is no obstacle ends the daemon', async () => {
  const { starter } = starting(new OverlayError('defect', 'x'))
  await expect(starter.fromEtcd(snapshot(CONFIG), run)).rejects.toThrow('x')
})
