import { RepairLog } from '../../../../src/daemon/overlay/log-repairs'
import { OverlayError } from '../../../../src/model/errors'
import type { LinkOperation } from '../../../../src/model/kernel/link'
import type { OperationFailure } from '../../../../src/model/kernel/objects'
import type { Peer } from '../../../../src/model/lease'
import { Contests } from '../../../../src/plan/reconcile/contests'
import { remove, set } from '../../../support/operations'
import { hw, ip, net } from '../../plan/support'

const peer: Peer = {
  key: 'peer',
  subnet: net('10.5.2.0/24'),
  publicIp: ip('192.168.77.2'),
  mac: hw('02:00:00:00:00:02'),
}
const neighbour = set('neighbour', peer.subnet.address, peer.mac)
const strange = remove('neighbour', ip('10.5.99.0'), peer.mac)
const up: LinkOperation = { kind: 'set-link-up', index: 9, name: 'flannel.1' }

/** Lines by level, and what was logged with them. */
function logged() {
  const lines: unknown[] = []
  const note =
    (level: string) =>
    (text: string, what?: object): void =>
      void lines.push([level, text, what])
  const [info, warn, error, debug, silly] = ['info', 'warn', 'error', 'debug', 'silly'].map(note)
  const log = { info, warn, error, debug, silly, log: () => undefined } as never
  const peers = {
    peerAt: (address: unknown) => (address === peer.subnet.address ? peer : undefined),
    peerWithMac: (mac: unknown) => (mac === peer.mac ? peer : undefined),
  }
  return { lines, repairs: new RepairLog(log, peers, new Contests(() => 1)) }
}

test('repairs are one line, with a count by kind and the peers that they are of', () => {
  const { lines, repairs } = logged()
  repairs.repaired([neighbour, { ...neighbour, do: 'delete' }, strange, up], 0)
  expect(lines).toEqual([
    [
      'info',
      'kernel: put right what someone else changed: the neighbour 10.5.2.0 and 2 more',
      {
        kind: 'kernel-repair',
        about: ['10.5.2.0/24', 'the neighbour 10.5.2.0', 'the neighbour 10.5.99.0', 'the device flannel.1'],
        tally: { neighbour: 2, device: 1 },
      },
    ],
  ])
})

test('nothing is logged of no repairs', () => {
  const { lines, repairs } = logged()
  repairs.repaired([], 0)
  expect(lines).toEqual([])
})

test('a contest is logged when it begins and when it is over', () => {
  const { lines, repairs } = logged()
  for (let round = 0; round < 20; round += 1) repairs.repaired([neighbour], round * 100)
  expect(lines.at(-1)).toEqual([
    'warn',
    expect.stringMatching(
      /^kernel: another program changes the neighbour 10.5.2.0 again and again: put right 20 times in 2 s; .*less often/,
    ),
    { kind: 'kernel-contest', about: ['the neighbour 10.5.2.0'] },
  ])
  repairs.repaired([], 31_901)
  expect(lines.at(-1)).toEqual([
    'info',
    'kernel: nobody changes the neighbour 10.5.2.0 any more; it was put right 20 times',
    { kind: 'kernel-contest', about: ['the neighbour 10.5.2.0'] },
  ])
})

test('a setting is repaired by a line of its own', () => {
  const { lines, repairs } = logged()
  repairs.settingRepaired('forwarding of IPv4', 'flannel.1', 0)
  expect(lines).toEqual([
    [
      'warn',
      'settings: forwarding of IPv4 was changed, and is put right',
      { kind: 'forwarding-repair', about: ['flannel.1'] },
    ],
  ])
})

test('refusals are logged each, up to 20, and the last one is the last error', () => {
  const { lines, repairs } = logged()
  const failure = (n: number): OperationFailure => ({
    operation: neighbour,
    error: new OverlayError('x', `refused ${n}`),
    cause: 'refused',
    errno: 'EINVAL',
  })
  repairs.refused(Array.from({ length: 25 }, (_, n) => failure(n)))
  expect(lines).toHaveLength(21)
  expect(lines[0]).toEqual([
    'warn',
    'kernel: refused 0; trying again with backoff, all others go on',
    { kind: 'kernel-refusal', about: ['10.5.2.0/24', 'the neighbour 10.5.2.0'], errno: 'EINVAL' },
  ])
  expect(lines[20]).toEqual(['warn', expect.stringMatching(/^kernel: 5 more changes fail/), undefined])
  expect(repairs.lastError?.text).toBe('refused 24')
  repairs.refusedAgain([{ ...failure(1), attempts: 3, dueAt: 2500 }], 1000)
  expect(lines.at(-1)).toEqual([
    'debug',
    'kernel: refused 1; refused 3 times, again in 1.5 s',
    { kind: 'kernel-retry', about: ['10.5.2.0/24', 'the neighbour 10.5.2.0'], errno: 'EINVAL' },
  ])
})

test('of passes that fail one after another the first is logged, and the last is the last error', () => {
  const { lines, repairs } = logged()
  repairs.failed(new OverlayError('x', 'first'), true)
  repairs.failed(new OverlayError('x', 'second'), false)
  expect(lines).toEqual([
    ['error', 'kernel: first; trying again', { kind: 'device-problem', errno: undefined }],
  ])
  expect(repairs.lastError?.text).toBe('second')
})
