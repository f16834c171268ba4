import type { PingDocument } from '../../../../src/api/documents'
import { PING_PARTS, type PingPart } from '../../../../src/api/words'
import { type Announced, behindOf, type Whereabouts } from '../../../../src/cli/ask/whereabouts'
import { renderPing } from '../../../../src/cli/show/render-ping'
import { demandTarget, failingPart, findPeer, tasksFor } from '../../../../src/cli/verbs/ping'
import { formatIp, parseIp } from '../../../../src/model/address'
import { STATUS } from '../fixtures'

const probes = (received: Partial<Record<PingPart, number>>): PingDocument['probes'] =>
  PING_PARTS.map((part) => ({ part, address: '10.5.1.0', size: 84, sent: 5, received: received[part] ?? 5 }))

test.each<[Partial<Record<PingPart, number>>, PingPart | undefined]>([
  [{}, undefined],
  [{ underlay: 0 }, undefined],
  [{ underlay: 0, overlay: 0, 'full-size': 0, container: 0 }, 'underlay'],
  [{ overlay: 0, 'full-size': 0, container: 0 }, 'overlay'],
  [{ overlay: 4 }, 'overlay'],
  [{ 'full-size': 0 }, 'full-size'],
  [{ container: 3 }, 'container'],
])('of the answers %j the part that fails is %s', (received, fails) => {
  expect(failingPart(probes(received))).toBe(fails)
})

const peers = [
  { subnet: '10.5.1.0/24', publicIp: '192.0.2.1', mac: '-', state: 'ok' as const },
  { subnet: 'fd00:5::/64', publicIp: '2001:db8::1', mac: '-', state: 'ok' as const },
  { key: 'x', subnet: 'x', publicIp: '-', mac: '-', state: 'rejected' as const },
]
const known = { ...STATUS, peers }

/** As {@link findBehind}, for what hosts announce. */
const among = (announced: Announced) => async (): Promise<Whereabouts> => {
  const address = parseIp('10.5.240.7')
  const behind = address && behindOf(announced, address)
  return behind === undefined ? {} : { behind }
}

const unasked = (): never => {
  throw new Error('what hosts announce is read for nothing')
}

test.each([
  ['192.0.2.1', '10.5.1.0/24', ['192.0.2.1', '10.5.1.0', '10.5.1.0']],
  ['10.5.1.0/24', '10.5.1.0/24', ['192.0.2.1', '10.5.1.0', '10.5.1.0']],
  ['10.5.1.0', '10.5.1.0/24', ['192.0.2.1', '10.5.1.0', '10.5.1.0']],
  ['10.5.1.7', '10.5.1.0/24', ['192.0.2.1', '10.5.1.0', '10.5.1.0', '10.5.1.7']],
  ['fd00:5::7', 'fd00:5::/64', ['2001:db8::1', 'fd00:5::', 'fd00:5::', 'fd00:5::7']],
])('%s is found at %s', async (target, subnet, addresses) => {
  const { peer } = await findPeer(known, target, unasked)
  expect(peer.subnet).toBe(subnet)
  expect(tasksFor(known, peer, target).map(({ address }) => formatIp(address))).toEqual(addresses)
})

test.each(['10.5.1.7', '10.5.1.0/24', 'fd00:5::7', 'fd00:5::/64'])('%s may name a host', (target) => {
  expect(() => demandTarget(target)).not.toThrow()
})

test.each(['10.5.x.1', 'x', '', '10.5.1.0-24', '10.5.1'])('%j names no host', (target) => {
  expect(() => demandTarget(target)).toThrow(`${JSON.stringify(target)} is no address and no subnet`)
})

test.each(['10.5.2.7', '192.0.2.9'])('%j is no other host, and the error says so', async (target) => {
  await expect(findPeer(known, target, among([]))).rejects.toThrow('no other host has')
})

describe('an address in no subnet', () => {
  const claim = { host: '10.5.1.0-24', own: false, priority: 100, state: 'wins' as const }
  const other = { subnet: '10.5.2.0/24', publicIp: '192.0.2.2', mac: '-', state: 'ok' as const }
  const both = { ...known, peers: [...peers, other] }

  test.each<[string, Announced, string]>([
    ['the host that announces it', [{ ...claim, prefix: '10.5.240.7/32' }], '10.5.1.0/24'],
    [
      'the host with the longest prefix',
      [
        { ...claim, prefix: '10.5.240.0/24' },
        { ...claim, host: '10.5.2.0-24', prefix: '10.5.240.0/28' },
      ],
      '10.5.2.0/24',
    ],
    [
      'the host that wins, and not the one that waits',
      [
        { ...claim, prefix: '10.5.240.7/32', state: 'waits' },
        { ...claim, host: '10.5.2.0-24', prefix: '10.5.240.7/32' },
      ],
      '10.5.2.0/24',
    ],
    [
      'the first of those that share it',
      [
        { ...claim, prefix: '10.5.240.7/32', state: 'shares' },
        { ...claim, host: '10.5.2.0-24', prefix: '10.5.240.7/32', state: 'shares' },
      ],
      '10.5.1.0/24',
    ],
    [
      'the IPv4 half of a host',
      [{ ...claim, host: '10.5.1.0-24&fd00:5::-64', prefix: '10.5.240.7/32' }],
      '10.5.1.0/24',
    ],
  ])('is looked for at %s', async (_, announced, subnet) => {
    const { peer, behind } = await findPeer(both, '10.5.240.7', among(announced))
    expect(peer.subnet).toBe(subnet)
    expect(behind?.prefix).toMatch(/^10\.5\.240\./)
    expect(tasksFor(both, peer, '10.5.240.7').at(-1)).toMatchObject({ part: 'container' })
  })

  test.each<[string, Announced]>([
    ['nobody announces', [{ ...claim, prefix: '10.5.241.0/24' }]],
    ['only a host without a lease announces', [{ ...claim, host: '10.5.9.0-24', prefix: '10.5.240.7/32' }]],
    ['has an unreadable key', [{ own: false, prefix: '10.5.240.7/32', state: 'unreadable' }]],
  ])('that %s is at no host', async (_, announced) => {
    await expect(findPeer(both, '10.5.240.7', among(announced))).rejects.toThrow('no other host has')
  })

  test('of this host is said to be of this host', async () => {
    const announced = [{ ...claim, own: true, prefix: '10.5.240.0/28' }]
    await expect(findPeer(both, '10.5.240.7', among(announced))).rejects.toThrow(
      '10.5.240.7 is in 10.5.240.0/28, which this host itself announces',
    )
  })
})

test('an address that nobody may have, because the daemon does not say what hosts announce', async () => {
  const answer = findPeer(known, '10.5.240.7', async () => ({ unknown: 'overlayd does not run' }))
  await expect(answer).rejects.toThrow('10.5.240.7 besides its subnet is not known: overlayd does not run')
})

test('what people see of an address behind an announced prefix', () => {
  const document: PingDocument = {
    schema: 1,
    target: '10.5.240.7',
    host: { subnet: '10.5.1.0/24', publicIp: '192.0.2.1' },
    behind: { prefix: '10.5.240.7/32', hosts: [{ host: '10.5.1.0-24', own: false, via: 'br-moving' }] },
    probes: probes({}),
  }
  expect(renderPing(document, { width: 100, colour: false }).split('\n').slice(0, 2)).toEqual([
    '10.5.240.7: the host with 10.5.1.0/24 at 192.0.2.1',
    '10.5.240.7 is in the announced prefix 10.5.240.7/32 of 10.5.1.0/24 (via br-moving)',
  ])
})

test('what people see of a container behind a path that loses large packets', () => {
  const document: PingDocument = {
    schema: 1,
    target: '10.5.1.7',
    host: { subnet: '10.5.1.0/24', publicIp: '192.0.2.1' },
    encryption: 'encrypted',
    probes: probes({ 'full-size': 0 }).map((probe) => ({
      ...probe,
      ...(probe.received > 0 && { rttMs: 0.25 }),
    })),
    fails: 'full-size',
  }
  expect(renderPing(document, { width: 80, colour: false })).toBe(
    [
      '10.5.1.7: the host with 10.5.1.0/24 at 192.0.2.1, encrypted',
      '',
      'WAY        ADDRESS   BYTES  RTT      LOSS',
      'underlay   10.5.1.0  84     0.25 ms  0 %',
      'overlay    10.5.1.0  84     0.25 ms  0 %',
      'full-size  10.5.1.0  84              100 %',
      'container  10.5.1.0  84     0.25 ms  0 %',
      '',
      'packets of full size are lost, and small ones are not: a part of the path',
      'carries less than its MTU; overlayctl doctor searches the size',
      '',
    ].join('\n'),
  )
})
