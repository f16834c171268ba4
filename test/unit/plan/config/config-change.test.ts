import fc from 'fast-check'
import type { LeaseSubnet } from '../../../../src/model/lease'
import { planConfigChange } from '../../../../src/plan/config/config-change'
import { config, dualConfig, net, net6 } from '../support'

const own: LeaseSubnet = { ipv4: net('10.5.7.0/24'), ipv6: undefined }
const dual: LeaseSubnet = { ipv4: net('10.5.7.0/24'), ipv6: net6('fd00:5:0:7::/64') }
const before = config({ Network: '10.5.0.0/16' })
const backend = (fields: object) => config({ Network: '10.5.0.0/16', Backend: { Type: 'vxlan', ...fields } })

test('a text with the same meaning is no change', () => {
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
    ['multicast with VNI 8388609 instead of off', 'multicast limit 50 packets/s instead of none'],
  ],
  ['encryption', backend({ Encryption: 'prefer' }), ['encryption prefer instead of off']],
  [
    'encryption on other ports',
    backend({ Encryption: 'required', EncryptionPort: 7000 }),
    ['encryption required instead of off'],
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

test('other ports of encryption are a change of their own, while encryption stays on', () => {
  const prefer = backend({ Encryption: 'prefer' })
  expect(planConfigChange(prefer, backend({ Encryption: 'prefer', EncryptionPort: 7000 }), own)).toEqual({
    kind: 'apply',
    changes: ["encryption's UDP ports 7000 and 7001 instead of 51820 and 51821"],
  })
  expect(planConfigChange(prefer, backend({ Encryption: 'required', EncryptionPort: 7000 }), own)).toEqual({
    kind: 'apply',
    changes: [
      'encryption required instead of prefer',
      "encryption's UDP ports 7000 and 7001 instead of 51820 and 51821",
    ],
  })
  // Nothing that runs depends on the port where encryption is off.
  expect(planConfigChange(before, backend({ EncryptionPort: 7000 }), own)).toEqual({ kind: 'nothing' })
})

test('several changes are applied together', () => {
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
  ['another subnet length', config({ Network: '10.5.0.0/16', SubnetLen: 25 }), /become \/25 instead of \/24/],
  ['another family', dualConfig(), /IPv6 is switched on/],
])('%s needs a new subnet, whatever else changes', (_, after, reason) => {
  for (const nftables of [false, true]) {
    expect(planConfigChange(before, { ...after, nftables }, own)).toEqual({
      kind: 'needs-new-subnet',
      reason: expect.stringMatching(reason),
    })
  }
})

test('the loss of a family needs a new subnet, and so does another IPv6 network', () => {
  expect(planConfigChange(dualConfig(), before, dual)).toMatchObject({ reason: 'IPv6 is switched off' })
  expect(planConfigChange(dualConfig(), dualConfig({ IPv6Network: 'fd00:6::/48' }), dual)).toMatchObject({
    kind: 'needs-new-subnet',
  })
  expect(planConfigChange(dualConfig(), dualConfig(), dual)).toEqual({ kind: 'nothing' })
})

test('without a given subnet the result is that for all hosts', () => {
  expect(planConfigChange(before, config({ Network: '10.6.0.0/16' }), undefined).kind).toBe('apply')
  expect(planConfigChange(before, config({ Network: '10.5.0.0/16', SubnetLen: 25 }), undefined).kind).toBe(
    'needs-new-subnet',
  )
})

test('after a change is applied there is no difference, and the change can be reverted', () => {
  const fields = fc.record({
    Network: fc.constantFrom('10.5.0.0/16', '10.4.0.0/15', '10.0.0.0/8', '10.5.0.0/20'),
    EnableNFTables: fc.boolean(),
    Backend: fc.record({
      Type: fc.constant('vxlan'),
      VNI: fc.integer({ min: 0, max: 5 }),
      Port: fc.constantFrom(0, 4789),
      MTU: fc.constantFrom(1400, 1500),
      Encryption: fc.constantFrom('off', 'prefer', 'required'),
      EncryptionPort: fc.constantFrom(51_820, 7000),
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
