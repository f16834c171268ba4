/** Without a daemon, `status` and `doctor` name the same lease as this host's. */
import fc from 'fast-check'
import { ownLease as ownOfDoctor } from '../../../../src/judge/overlay'
import { formatMac } from '../../../../src/model/address'
import { macsOf, ownLease } from '../../../../src/plan/lease/find-own'
import { DEVICE_LINK, ETCD, facts, KERNEL, missing, OWN_MAC, prefix } from '../../judge/support'
import { lease } from '../../plan/support'

const SUBNETS = ['10.5.7.0/24', '10.5.8.0/24', '10.5.9.0/24'] as const
const MACS = [formatMac(OWN_MAC), '02:00:00:00:00:08', '02:00:00:00:00:09'] as const

/** The leases in etcd, the subnet in subnet.env, and whether the device exists. */
const hosts = fc.record({
  macs: fc.array(fc.constantFrom(...MACS), { maxLength: SUBNETS.length }),
  remembered: fc.option(fc.constantFrom(...SUBNETS), { nil: undefined }),
  hasDevice: fc.boolean(),
})

test('the same lease for any memory of the host and any leases in etcd', () => {
  fc.assert(
    fc.property(hosts, ({ macs, remembered, hasDevice }) => {
      const leases = macs.map((mac, at) => lease(SUBNETS[at] ?? SUBNETS[0], { mac }))
      const ipv4 = remembered === undefined ? undefined : prefix(remembered)
      const file = { path: '/x', ipv4, ipv6: undefined, mtu: 1450, writtenAt: 0 }
      const devices = hasDevice ? [{ family: 'IPv4' as const, link: DEVICE_LINK }] : []
      const shown = ownLease(leases, { subnetFile: { ipv4 }, devices: macsOf(devices) })
      const found = ownOfDoctor(
        facts({
          daemon: missing('nobody answers', 'daemon-down'),
          etcd: { ...ETCD, leases },
          kernel: { ...KERNEL, devices: hasDevice ? KERNEL.devices : [] },
          subnetFile: file,
        }),
      )
      expect(shown?.key).toBe(found?.key)
    }),
  )
})
