/** Short ways to write addresses, leases and configs in tests. */
import {
  type Ipv4,
  type Ipv4Prefix,
  type MacAddress,
  parseIpv4,
  parseIpv4Prefix,
  parseMac,
} from '../../../src/model/address'
import type { EtcdLeaseId, Lease, Revision } from '../../../src/model/lease'
import { type NetworkConfig, parseNetworkConfig } from '../../../src/model/network-config'

export const ip = (text: string): Ipv4 => must(parseIpv4(text), text)
export const net = (text: string): Ipv4Prefix => must(parseIpv4Prefix(text), text)
export const hw = (text: string): MacAddress => must(parseMac(text), text)

export const config = (fields: object = { Network: '10.5.0.0/16' }): NetworkConfig =>
  parseNetworkConfig(JSON.stringify({ Backend: { Type: 'vxlan' }, ...fields }))

export interface LeaseFields {
  readonly publicIp?: string
  readonly mac?: string
  readonly vni?: number
  readonly backendType?: string
  readonly revision?: number
  readonly key?: string
}

/** A lease as another host would write it. */
export function lease(subnet: string, fields: LeaseFields = {}): Lease {
  const { publicIp = '192.168.77.12', mac = '02:00:00:00:00:02', vni = 1, revision = 1 } = fields
  return {
    key: fields.key ?? `/coreos.com/network/subnets/${subnet.replace('/', '-')}`,
    subnet: { ipv4: net(subnet), ipv6: undefined },
    value: {
      publicIp: ip(publicIp),
      publicIpv6: undefined,
      backendType: fields.backendType ?? 'vxlan',
      vtep: { vni, mac: hw(mac) },
      vtep6: undefined,
    },
    etcdLease: '7' as EtcdLeaseId,
    modRevision: BigInt(revision) as Revision,
  }
}

function must<T>(value: T | undefined, text: string): T {
  if (value === undefined) throw new Error(`not an address: ${text}`)
  return value
}
