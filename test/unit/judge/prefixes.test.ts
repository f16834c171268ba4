/** The doctor's check of announced prefixes. */
import type { PrefixesDocument } from '../../../src/api/documents'
import { diagnose } from '../../../src/judge/diagnose'
import type { LeaseSignature } from '../../../src/model/lease'
import { describeUnaware } from '../../../src/plan/prefixes/awareness'
import {
  address,
  type Changes,
  DAEMON,
  DEVICE,
  ETCD,
  facts,
  ip,
  KERNEL,
  LEASES,
  link,
  missing,
  reporting,
  route,
  UNDERLAY,
} from './support'

type Row = PrefixesDocument['prefixes'][number]

const OWN = '10.5.7.0-24'
const row = (fields: Partial<Row> = {}): Row => ({
  prefix: '10.5.240.7/32',
  host: OWN,
  own: true,
  priority: 100,
  via: 'br-moving',
  state: 'wins',
  ...fields,
})
const BRIDGE = link(9, 'br-moving', { kind: 'bridge' })
const kernelWith = (bridge: Parameters<typeof link>[2] | undefined): Changes => ({
  kernel: {
    ...KERNEL,
    links: [...KERNEL.links, ...(bridge === undefined ? [] : [{ ...BRIDGE, ...bridge }])],
    addresses: [...KERNEL.addresses, address(9, '10.5.240.1/24')],
  },
})
const check = (rows: readonly Row[], changes: Changes = kernelWith({}), problem?: string) => {
  const prefixes: PrefixesDocument = {
    schema: 1,
    allowed: ['10.5.240.0/20'],
    prefixes: [...rows],
    ...(problem !== undefined && { problem }),
  }
  const [result] = diagnose(facts({ ...changes, prefixes }), ['prefixes'])
  if (result === undefined) throw new Error('no result')
  return result
}
const codes = (...given: Parameters<typeof check>): string[] =>
  check(...given).findings.map(({ code }) => code)

test('without prefixes, and with those that are right, nothing is wrong', () => {
  expect(diagnose(facts(), ['prefixes'])).toMatchObject([
    { state: 'ok', summary: 'the network config allows none' },
  ])
  expect(check([])).toMatchObject({ state: 'ok', summary: 'no host announces one' })
  expect(check([row()])).toMatchObject({ state: 'ok' })
  expect(check([row({ via: undefined })], kernelWith(undefined))).toMatchObject({ state: 'ok' })
})

test.each([
  ['is not there', undefined, /no link br-moving/],
  ['is down', { up: false }, /br-moving is down/],
  ['leads nowhere', { noCarrier: true as const }, /nothing is connected/],
])('a prefix whose link %s', (_, bridge, reason) => {
  const { state, findings } = check([row({ state: 'waits' })], kernelWith(bridge))
  expect(state).toBe('warn')
  expect(findings.map(({ code }) => code)).toEqual(['prefix-no-way'])
  expect(findings[0]?.evidence.join()).toMatch(reason)
})

test('forwarding that is off counts for what this host gets packets of', () => {
  const off = { ...kernelWith({}), forwarding: { ipv4: false, ipv6: true } }
  expect(codes([row()], off)).toEqual(['prefix-not-forwarded'])
  expect(codes([row({ state: 'waits' }), row({ own: false, host: '10.5.42.0-24' })], off)).toEqual([])
  expect(codes([row({ prefix: 'fd00:9::7/128' })], off)).toEqual([])
})

test.each([
  ['nowhere', undefined, 'there is no route to it'],
  [
    'by the default route',
    { linkIndex: UNDERLAY, source: ip('192.0.2.11') },
    'they leave by the default route',
  ],
  ['back', { linkIndex: DEVICE, source: ip('10.5.7.0') }, 'they go back into the overlay, by flannel.1'],
])('without --via, the routes of the host have to lead to the prefix, and not %s', (_, way, reason) => {
  const behind = row({ prefix: '198.51.100.0/24', via: undefined })
  const ways = new Map([[ip('198.51.100.1'), way]])
  const { state, findings } = check([behind], { ...kernelWith({}), ways })
  expect(state).toBe('warn')
  expect(findings).toMatchObject([{ code: 'prefix-led-astray', evidence: [`198.51.100.0/24: ${reason}`] }])
  expect(codes([{ ...behind, state: 'waits' }], { ...kernelWith({}), ways })).toEqual([])
  expect(codes([{ ...behind, via: 'br-moving' }], { ...kernelWith({}), ways })).toEqual([])
})

test('without --via, a route of the host or an address of its own is a way', () => {
  const behind = row({ prefix: '198.51.100.0/24', via: undefined })
  const by = (linkIndex: number) => new Map([[ip('198.51.100.1'), { linkIndex, source: undefined }]])
  const routed = { kernel: { ...KERNEL, routes: [...KERNEL.routes, route('198.51.0.0/16', UNDERLAY, true)] } }
  expect(codes([behind], { ...routed, ways: by(UNDERLAY) })).toEqual([])
  expect(codes([behind], { ...kernelWith({}), ways: by(1) })).toEqual([])
  // Nobody has looked.
  expect(codes([behind], { ...kernelWith({}), ways: new Map() })).toEqual([])
  const single = row({ prefix: '198.51.100.7/32', via: undefined })
  const ways = new Map([[ip('198.51.100.7'), undefined]])
  expect(codes([single], { ...kernelWith({}), ways })).toEqual(['prefix-led-astray'])
})

test('a strict filter matters where the way back is another one', () => {
  const strict = (on: string): Changes => ({ ...kernelWith({}), rpFilter: new Map([[on, 1]]) })
  const behind = row({ prefix: '192.0.2.128/25', via: '10.5.240.9' })
  expect(codes([row()], strict('br-moving'))).toEqual([])
  expect(codes([row({ state: 'waits' })], strict('br-moving'))).toEqual(['prefix-rp-filter'])
  expect(codes([row({ state: 'waits' })], strict('eth0'))).toEqual([])
  expect(codes([behind], strict('all'))).toEqual(['prefix-rp-filter'])
  expect(
    codes([behind], {
      ...kernelWith({}),
      rpFilter: new Map([
        ['all', 1],
        ['br-moving', 2],
      ]),
    }),
  ).toEqual([])
})

test('what is refused, what cannot be read and what is not in etcd is told', () => {
  const amiss = [row({ state: 'refused', reason: 'in no range' }), row({ state: 'unreadable', reason: 'x' })]
  expect(check(amiss).findings).toMatchObject([
    { code: 'prefix-refused', evidence: [`10.5.240.7/32 of ${OWN}: in no range`, expect.any(String)] },
  ])
  expect(codes([row()], kernelWith({}), 'etcd is away')).toEqual(['prefix-not-announced'])
})

test('gateways that do not answer are named, of this host alone', () => {
  const silence = 'the gateway 10.5.240.9 on br-moving does not answer'
  const found = check([row({ via: '10.5.240.9', prefix: '192.0.2.0/24', silence })])
  expect(found.findings).toMatchObject([
    { code: 'prefix-gateway-silent', evidence: [`192.0.2.0/24: ${silence}`] },
  ])
  expect(codes([row({ own: false, host: '10.5.42.0-24', silence })])).toEqual([])
})

test('a claim that waits for a better one is no fault, and its reason is told', () => {
  const { state, summary } = check([
    row({ own: false, host: '10.5.42.0-24', priority: 200 }),
    row({ state: 'waits', reason: '10.5.42.0-24 announces it with priority 200' }),
  ])
  expect(state).toBe('ok')
  expect(summary).toContain('1 of these waiting: 10.5.240.7/32: 10.5.42.0-24 announces it with priority 200')
})

test('who may run flannel is told, and of whom etcd tells that it does not', () => {
  const unsure = 'of 1 of 1 other hosts etcd does not tell whether they run flannel or overlayd: 10.5.42.0/24'
  expect(check([row()]).summary).toContain(unsure)
  expect(check([row(), row({ own: false, host: '10.5.42.0-24' })]).summary).not.toContain('flannel')
  const [own, other] = LEASES
  if (own === undefined || other === undefined) throw new Error('two leases are expected')
  const signed = { ...other, value: { ...other.value, signature: 'x' as LeaseSignature } }
  const etcd = { ...ETCD, leases: [own, signed] }
  expect(check([row()], { ...kernelWith({}), etcd }).summary).not.toContain('flannel')
  expect(describeUnaware(['a', 'b', 'c', 'd', 'e'], 7)).toMatch(/of 5 of 7 other hosts .*: a, b, c, 2 more$/)
})

test('a daemon that does not answer is another check’s matter', () => {
  const prefixes = missing('overlayd does not answer', 'needless')
  expect(diagnose(facts({ prefixes }), ['prefixes'])).toMatchObject([{ state: 'skip' }])
})

test('a problem of the daemon is named by the check that looks at it', () => {
  const said = reporting({ part: 'prefixes', code: 'via-missing', text: '10.5.240.7/32 is not announced' })
  const prefixes = { schema: 1 as const, allowed: [], prefixes: [row({ state: 'waits' })] }
  const results = diagnose(facts({ ...kernelWith(undefined), daemon: { ...DAEMON, ...said }, prefixes }))
  expect(results.find(({ name }) => name === 'status')).toMatchObject({ state: 'ok' })
  expect(results.filter(({ state }) => state !== 'ok' && state !== 'skip').map(({ name }) => name)).toEqual([
    'prefixes',
  ])
})
