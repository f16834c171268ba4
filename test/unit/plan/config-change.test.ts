import fc from 'fast-check'
import type { LeaseSubnet } from '../../../src/model/lease'
import { planConfigChange } from '../../../src/plan/config-change'
import { config, dualConfig, net, net6 } from './support'

const own: LeaseSubnet = { ipv4: net('10.5.7.0/24'), ipv6: undefined }
const dual: LeaseSubnet = { ipv4: net('10.5.7.0/24'), ipv6: net6('fd00:5:0:7::/64') }
const before = config({ Network: '10.5.0.0/16' })
const backend = (fields: object) => config({ Network: '10.5.0.0/16', Backend: { Type: 'vxlan', ...fields } })

test('the same in other words is nothing', () => {
  const words = config({
    Network: '10.5.0.0/16',
    SubnetLen: 24,
    SubnetMin: '10.5.1.0',
    EnableIPv4: true,
    Backend: { VNI: 1, Type: 'VXLAN', GBP: false },
  })
  expect(planConfigChange(before, words, own)).toEqual({ kind: 'nothing' })
})

test.each<[string, ReturnType<typeof config>, string[]]>([
  ['a port', backend({ Port: 4789 }), ["port 4789 instead of the kernel's"]],
  ['an MTU', backend({ MTU: 1400 }), ["MTU 1400 instead of the underlay's"]],
  ['a VNI', backend({ VNI: 2 }), ['VNI 2 instead of 1']],
  ['learning', backend({ Learning: true }), ['learning on instead of off']],
  ['GBP', backend({ GBP: true }), ['GBP on instead of off']],
  ['multicast', backend({ Multicast: true }), ['multicast with VNI 8388609 instead of off']],
  [
    'limited multicast',
    backend({ Multicast: true, MulticastLimit: 50 }),
    ['multicast with VNI 8388609 and up to 50 packets/s instead of off'],
  ],
  ['direct routing', backend({ DirectRouting: true }), ['direct routing on instead of off']],
  [
    'the firewall',
    config({ Network: '10.5.0.0/16', EnableNFTables: true }),
    ['firewall nftables instead of iptables'],
  ],
  [
    'a larger network',
    config({ Network: '10.4.0.0/15' }),
    [
      'network 10.4.0.0/15 instead of 10.5.0.0/16',
      'subnets /24 from 10.4.1.0 to 10.5.255.0 instead of /24 from 10.5.1.0 to 10.5.255.0',
    ],
  ],
  [
    'other bounds around our subnet',
    config({ Network: '10.5.0.0/16', SubnetMin: '10.5.7.0', SubnetMax: '10.5.7.0' }),
    ['subnets /24 from 10.5.7.0 to 10.5.7.0 instead of /24 from 10.5.1.0 to 10.5.255.0'],
  ],
])('%s is applied', (_, after, changes) => {
  expect(planConfigChange(before, after, own)).toEqual({ kind: 'apply', changes })
})

test('several are applied together', () => {
  const plan = planConfigChange(before, backend({ VNI: 7, Port: 4789, MTU: 1400 }), own)
  expect(plan.kind === 'apply' && plan.changes).toHaveLength(3)
})

test.each<[string, ReturnType<typeof config>, RegExp]>([
  ['another network', config({ Network: '10.6.0.0/16' }), /10\.5\.7\.0\/24 is not among those of 10\.6/],
  [
    'bounds without our subnet',
    config({ Network: '10.5.0.0/16', SubnetMin: '10.5.8.0' }),
    /from 10\.5\.8\.0/,
  ],
  ['another subnet length', config({ Network: '10.5.0.0/16', SubnetLen: 25 }), /to be \/25 and not \/24/],
  ['a family more', dualConfig(), /IPv6 is switched on/],
])('%s needs a new subnet, whatever else has changed', (_, after, reason) => {
  for (const nftables of [false, true]) {
    expect(planConfigChange(before, { ...after, nftables }, own)).toEqual({
      kind: 'needs-new-subnet',
      reason: expect.stringMatching(reason),
    })
  }
})

test('a family less needs a new subnet, and so does another IPv6 network', () => {
  expect(planConfigChange(dualConfig(), before, dual)).toMatchObject({ reason: 'IPv6 is switched off' })
  expect(planConfigChange(dualConfig(), dualConfig({ IPv6Network: 'fd00:6::/48' }), dual)).toMatchObject({
    kind: 'needs-new-subnet',
  })
  expect(planConfigChange(dualConfig(), dualConfig(), dual)).toEqual({ kind: 'nothing' })
})

test('without a subnet of a host it is told what holds for all of them', () => {
  expect(planConfigChange(before, config({ Network: '10.6.0.0/16' }), undefined).kind).toBe('apply')
  expect(planConfigChange(before, config({ Network: '10.5.0.0/16', SubnetLen: 25 }), undefined).kind).toBe(
    'needs-new-subnet',
  )
})

test('what is applied leaves nothing to apply, and can be taken back', () => {
  const fields = fc.record({
    Network: fc.constantFrom('10.5.0.0/16', '10.4.0.0/15', '10.0.0.0/8', '10.5.0.0/20'),
    EnableNFTables: fc.boolean(),
    Backend: fc.record({
      Type: fc.constant('vxlan'),
      VNI: fc.integer({ min: 0, max: 5 }),
      Port: fc.constantFrom(0, 4789),
      MTU: fc.constantFrom(1400, 1500),
      DirectRouting: fc.boolean(),
    }),
  })
  fc.assert(
    fc.property(fields, fields, (one, other) => {
      const [a, b] = [config(one), config(other)]
      const [there, back] = [planConfigChange(a, b, own), planConfigChange(b, a, own)]
      expect(planConfigChange(b, b, own)).toEqual({ kind: 'nothing' })
      expect(there.kind).toBe(back.kind)
      if (there.kind === 'apply' && back.kind === 'apply') {
        expect(there.changes).toHaveLength(back.changes.length)
      }
    }),
  )
})
