/** Which lease is this host's. The strongest evidence decides alone. */
import { type OwnEvidence, ownLease } from '../../../../src/plan/lease/find-own'
import { dualLease, hw, lease, net, net6 } from '../support'

const MAC = '02:00:00:00:00:07'
const SEVEN = lease('10.5.7.0/24')
const DUAL = dualLease('10.5.8.0/24', 'fd00:5:0:8::/64', { mac6: MAC })
const OURS_BY_MAC = lease('10.5.9.0/24', { mac: MAC })
const LEASES = [SEVEN, DUAL, OURS_BY_MAC]

const seven = { ipv4: net('10.5.7.0/24') }
const eight = { ipv4: net('10.5.1.0/24'), ipv6: net6('fd00:5:0:8::/64') }
const nobodys = { ipv4: net('10.5.99.0/24') }
const devices = { IPv4: hw(MAC) }

test.each<[string, OwnEvidence, string | undefined]>([
  ['nothing is known', {}, undefined],
  ['the daemon holds a subnet', { daemon: seven, subnetFile: eight, devices }, SEVEN.key],
  ['subnet.env has a subnet', { subnetFile: seven, devices }, SEVEN.key],
  ['one family of subnet.env matches', { subnetFile: eight }, DUAL.key],
  ['there is only a device', { devices }, OURS_BY_MAC.key],
  ['there is only a device of the other family', { devices: { IPv6: hw(MAC) } }, DUAL.key],
  ['no lease has the subnet of the daemon', { daemon: nobodys, subnetFile: seven, devices }, undefined],
  [
    'no lease has the subnet in subnet.env, although one has our MAC',
    { subnetFile: nobodys, devices },
    undefined,
  ],
  ['the daemon has no lease', { daemon: {}, subnetFile: {}, devices }, OURS_BY_MAC.key],
])('if %s', (_, evidence, key) => {
  expect(ownLease(LEASES, evidence)?.key).toBe(key)
})
