/** Leases whose PublicIP and MAC change from generation to generation. */
import { ipv4, mac } from '../../src/model/address'
import type { EtcdLeaseId, Lease, Revision } from '../../src/model/lease'

/** @param firstSubnet IPv4 address, as a number, of the /24 of peer 0 */
export const changingLease = (number: number, generation: number, firstSubnet: number): Lease => ({
  key: `peer${number}`,
  subnet: { ipv4: { address: ipv4(firstSubnet + number * 256), length: 24 }, ipv6: undefined },
  value: {
    publicIp: ipv4(0xac100000 + number * 16 + (generation % 3)),
    publicIpv6: undefined,
    backendType: 'vxlan',
    vtep: { vni: 1, mac: mac(0x020200000000 + number * 16 + (generation % 2)) },
    vtep6: undefined,
  },
  etcdLease: '7' as EtcdLeaseId,
  modRevision: BigInt(generation + 1) as Revision,
})
