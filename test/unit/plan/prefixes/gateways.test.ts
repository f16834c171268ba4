import type { ObservedLink } from '../../../../src/model/kernel/link'
import type { AskedNeighbour } from '../../../../src/model/kernel/neighbour'
import { type Announcement, parseVia } from '../../../../src/model/prefixes'
import {
  describeSilence,
  gatewaysOf,
  judgeGateways,
  NO_VERDICT,
} from '../../../../src/plan/prefixes/gateways'
import { ip, net } from '../support'

const announce = (prefix: string, via: string | undefined): Announcement => ({
  prefix: net(prefix),
  priority: 100,
  until: undefined,
  via: via === undefined ? undefined : parseVia(via),
})
const link = (index: number, name: string, up = true) => ({ index, name, kind: 'bridge', up }) as ObservedLink
const network = {
  links: [link(7, 'br-x'), link(8, 'br-down', false)],
  addresses: [
    { linkIndex: 7, address: net('10.5.240.1/24') },
    { linkIndex: 8, address: net('10.5.241.1/24') },
  ].map((each) => ({ ...each, address: { ...each.address, address: each.address.address + 1 } })),
} as unknown as Parameters<typeof gatewaysOf>[1]

const gateways = gatewaysOf(
  [
    announce('192.0.2.0/24', '10.5.240.9'),
    announce('192.0.3.0/24', 'br-x'),
    announce('192.0.4.0/24', undefined),
    announce('192.0.5.0/24', '10.5.241.9'),
  ],
  network,
)
const [gateway] = gateways

test('gateways are those of announcements whose way is there', () => {
  expect(gateways).toHaveLength(1)
  expect(gateway && describeSilence(gateway)).toBe('the gateway 10.5.240.9 on br-x does not answer')
})

const look = (
  state: AskedNeighbour['state'] | undefined,
  now: number,
  before = NO_VERDICT,
  at = '10.5.240.9',
) => {
  const neighbours = new Map([[7, state === undefined ? [] : [{ address: ip(at), state }]]])
  return judgeGateways(gateways, neighbours, before, now)
}

test('one that the kernel has asked in vain is silent, and one that it asks for too long', () => {
  const failed = look('failed', 0)
  expect(failed.silent).toEqual(gateways)
  // Packets come again, and the kernel asks again.
  expect(look('asking', 1000, failed).silent).toEqual(gateways)
  const first = look('asking', 0)
  const second = look('asking', 3999, first)
  expect([first.silent, second.silent]).toEqual([[], []])
  expect(look('asking', 4000, second).silent).toEqual(gateways)
})

test('one that has answered meanwhile has time again', () => {
  const answered = look('answered', 3000, look('asking', 0))
  expect([answered.silent, answered.since.size]).toEqual([[], 0])
  expect(look('asking', 5000, answered).silent).toEqual([])
})

test('one that the kernel has forgotten stays silent until it answers', () => {
  const failed = look('failed', 0)
  const forgotten = look(undefined, 1000, failed)
  expect(forgotten.silent).toEqual(gateways)
  expect(look('asking', 2000, look(undefined, 1500, forgotten)).silent).toEqual(gateways)
  expect(look('answered', 2000, forgotten).silent).toEqual([])
})

test('one that the kernel forgets while it asks, and one that it never asked, are not silent', () => {
  const forgotten = look(undefined, 3000, look('asking', 0))
  expect([forgotten.silent, look(undefined, 9000, forgotten).silent]).toEqual([[], []])
})

test('another neighbour, or one of another link, is not meant', () => {
  expect(look('failed', 0, NO_VERDICT, '10.5.240.8').silent).toEqual([])
  const elsewhere = new Map([[8, [{ address: ip('10.5.240.9'), state: 'failed' as const }]]])
  expect(judgeGateways(gateways, elsewhere, NO_VERDICT, 0).silent).toEqual([])
})
