/** Short constructors of addresses, leases and configs for tests. */
import {
  type Ipv4,
  type Ipv4Prefix,
  type Ipv6,
  type Ipv6Prefix,
  type MacAddress,
  parseIpv4,
  parseIpv4Prefix,
  parseIpv6,
  parseIpv6Prefix,
  parseMac,
} from '../../../src/model/address'
import {
  type NetworkConfig,
  parseNetworkConfig,
  type SubnetRange,
} from '../../../src/model/config/network-config'
import { type KernelObjects, type ObjectMemory, objectsOf } from '../../../src/model/kernel/objects'
import type { EtcdLeaseId, Lease, Revision } from '../../../src/model/lease'

export const ip = (text: string): Ipv4 => must(parseIpv4(text), text)
export const net = (text: string): Ipv4Prefix => must(parseIpv4Prefix(text), text)
export const ip6 = (text: string): Ipv6 => must(parseIpv6(text), text)
export const net6 = (text: string): Ipv6Prefix => must(parseIpv6Prefix(text), text)
export const hw = (text: string): MacAddress => must(parseMac(text), text)

export const config = (fields: object = { Network: '10.5.0.0/16' }): NetworkConfig =>
  parseNetworkConfig(JSON.stringify({ Backend: { Type: 'vxlan' }, ...fields }))

/** The IPv4 range of a config. */
export const ipv4Range = (fields?: object): SubnetRange<Ipv4> => must(config(fields).ipv4, 'no IPv4')
export const ipv6Range = (fields: object): SubnetRange<Ipv6> =>
  must(config({ EnableIPv4: false, EnableIPv6: true, ...fields }).ipv6, 'no IPv6')

/** A dual-stack config. */
export const dualConfig = (fields: object = {}): NetworkConfig =>
  config({ Network: '10.5.0.0/16', EnableIPv6: true, IPv6Network: 'fd00:5::/48', ...fields })

export interface LeaseFields {
  readonly publicIp?: string
  readonly mac?: string
  readonly vni?: number
  readonly multicast?: number
  readonly backendType?: string
  readonly revision?: number
  readonly key?: string
}

/** A lease of another host. */
export function lease(subnet: string, fields: LeaseFields = {}): Lease {
  const { publicIp = '192.168.77.12', mac = '02:00:00:00:00:02', vni = 1, revision = 1, multicast } = fields
  return {
    key: fields.key ?? `/coreos.com/network/subnets/${subnet.replace('/', '-')}`,
    subnet: { ipv4: net(subnet), ipv6: undefined },
    value: {
      publicIp: ip(publicIp),
      publicIpv6: undefined,
      backendType: fields.backendType ?? 'vxlan',
      vtep: { vni, mac: hw(mac), ...(multicast !== undefined && { multicast }) },
      vtep6: undefined,
    },
    etcdLease: '7' as EtcdLeaseId,
    modRevision: BigInt(revision) as Revision,
  }
}

/** A dual-stack lease. */
export function dualLease(subnet: string, subnet6: string, fields: LeaseFields & Dual = {}): Lease {
  const { publicIpv6 = 'fd77::12', mac6 = '02:00:00:00:06:02', ...ipv4 } = fields
  const base = lease(subnet, ipv4)
  return {
    ...base,
    key: fields.key ?? `${base.key}&${subnet6.replace('/', '-')}`,
    subnet: { ...base.subnet, ipv6: net6(subnet6) },
    value: {
      ...base.value,
      publicIpv6: publicIpv6 === '' ? undefined : ip6(publicIpv6),
      vtep6: mac6 === '' ? undefined : { vni: fields.vni ?? 1, mac: hw(mac6) },
    },
  }
}

export interface Dual {
  /** Empty for none. */
  readonly publicIpv6?: string
  readonly mac6?: string
}

function must<T>(value: T | undefined, text: string): T {
  if (value === undefined) throw new Error(`not an address: ${text}`)
  return value
}

/** A mutable copy. */
export const remember = (objects: KernelObjects): ObjectMemory => objectsOf((kind) => new Map(objects[kind]))
