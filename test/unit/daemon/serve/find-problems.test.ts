/** Problems as values, and the texts that the status document makes of them. */
import { problemText } from '../../../../src/api/problems'
import { findProblems, leaseTrouble, prefixProblems } from '../../../../src/daemon/serve/find-problems'
import type { DaemonView } from '../../../../src/daemon/serve/view'
import { EtcdError } from '../../../../src/etcd/client/errors'
import type { ObservedLink } from '../../../../src/model/kernel/link'
import { parseOptions } from '../../../../src/options/schema'
import { ip, lease, net } from '../../plan/support'

const FOLLOWING = { endpoints: [], connected: true }
const LOST = { endpoints: [], connected: false, error: 'no way there' }

const view = (fields: Partial<DaemonView> = {}): DaemonView => ({
  options: parseOptions({}, {}),
  version: '1.2.3',
  phase: 'starting',
  node: undefined,
  multicast: undefined,
  mesh: undefined,
  link: { kind: 'connecting' },
  waiting: undefined,
  obstacle: undefined,
  stateFile: { inUse: false },
  subnetFileProblem: undefined,
  ...fields,
})

const lost = view({
  link: { kind: 'lost', error: new EtcdError('etcd-timeout', 'no way there'), known: undefined },
})
const waiting = { part: 'config', code: 'no-config', reason: 'there is none', fix: 'put one' } as const

describe('a daemon that has not started', () => {
  test.each<[string, DaemonView, boolean, string[], string[]]>([
    ['has not started yet, without an obstacle', view(), true, ['not-started'], ['not started yet']],
    ['has the error of etcd', lost, false, ['etcd-timeout'], ['etcd: no way there']],
    [
      'has the reason that it waits for, with its fix',
      view({ waiting }),
      true,
      ['no-config'],
      ['config: there is none; put one'],
    ],
    [
      'runs from its state file, and cannot write it',
      view({ stateFile: { inUse: true, savedAt: 'noon', problem: 'the disk is full' } }),
      true,
      ['state-in-use', 'state-file'],
      [
        'state: running from what was known at noon, because etcd has not answered since the start',
        'state: the disk is full',
      ],
    ],
  ])('%s', (_, shown, isConnected, codes, texts) => {
    const found = findProblems(shown, isConnected ? FOLLOWING : LOST)
    expect(found.map(({ code }) => code)).toEqual(codes)
    expect(found.map(problemText)).toEqual(texts)
  })
})

describe('a lease', () => {
  const own = lease('10.5.7.0/24')
  const HELD = { kind: 'held', lease: own, renewal: undefined } as const
  type Keeper = Parameters<typeof leaseTrouble>[0]
  const trouble = (state: Keeper['state'], problem?: string) => {
    const found = leaseTrouble({ state, problem, own } as Keeper)
    return found && [found.code, problemText(found)]
  }

  test('that is held has a problem only if it is not renewed', () => {
    expect(trouble(HELD)).toBeUndefined()
    expect(trouble(HELD, 'timeout')).toEqual([
      'lease-renewal',
      'lease: etcd does not take its renewal: timeout',
    ])
  })

  test('that another host has is a conflict', () => {
    expect(trouble({ kind: 'conflict', reason: '192.0.2.9 has it' })).toEqual([
      'lease-conflict',
      'lease: conflict: 192.0.2.9 has it; to get it back, stop the other host, then here: ' +
        'overlayctl evict 10.5.7.0/24; or restart overlayd here to take another subnet',
    ])
  })

  test('that was given back, with the present owner of its key', () => {
    const back = 'take it again: overlayctl drain --undo'
    const sent = 'lease: drained: other hosts send nothing here'
    expect(trouble({ kind: 'drained', found: undefined })).toEqual(['lease-drained', `${sent}; ${back}`])
    const other = { ...own, subnet: { ipv4: net('10.5.7.0/24'), ipv6: undefined } }
    expect(trouble({ kind: 'drained', found: other })?.[1]).toBe(
      `${sent}, and the key ${own.key} is 192.168.77.12's now; ${back}`,
    )
  })
})

test('announcements without a way are problems, the first few by name', () => {
  const waiting = [7, 8, 9, 10, 11].map((last) => ({
    announcement: {
      prefix: net(`10.5.240.${last}/32`),
      priority: 100,
      until: undefined,
      via: { kind: 'link', name: 'br-x' } as const,
    },
    obstacle: { kind: 'waits', reason: 'there is no link br-x', fix: 'make it' } as const,
  }))
  const found = (count: number, problem?: string) =>
    prefixProblems({
      announcer: { problem: undefined },
      deliverer: { problem, waiting: waiting.slice(0, count), silent: [] },
    }).map(problemText)
  expect(found(0)).toEqual([])
  expect(found(1, 'cannot write proxy_ndp')).toEqual([
    'prefixes: cannot write proxy_ndp',
    'prefixes: 10.5.240.7/32 is not announced: there is no link br-x; make it',
  ])
  expect(found(3)).toHaveLength(3)
  expect(found(5).at(-1)).toBe('prefixes: neither are 2 more: overlayctl prefixes')
})

test('gateways that do not answer are problems, the first few by name', () => {
  const link = { name: 'br-x' } as ObservedLink
  const silent = [2, 3, 4, 5].map((third) => ({
    announcement: { prefix: net(`192.0.${third}.0/24`), priority: 100, until: undefined, via: undefined },
    address: ip('10.5.240.9'),
    link,
  }))
  const found = (count: number) =>
    prefixProblems({
      announcer: { problem: undefined },
      deliverer: { problem: undefined, waiting: [], silent: silent.slice(0, count) },
    })
  expect(found(1).map(problemText)).toEqual([
    'prefixes: 192.0.2.0/24: the gateway 10.5.240.9 on br-x does not answer; ' +
      'put the gateway right, announce it with another --via, or withdraw it',
  ])
  expect(found(3)).toHaveLength(3)
  expect(found(4).map(problemText).at(-1)).toBe(
    'prefixes: gateways of 1 more do not answer: overlayctl prefixes',
  )
})
