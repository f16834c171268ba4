/** Leases of hosts that do not exist, written to etcd byte for byte as flannel writes them. */
import type { Etcd3 } from 'etcd3'

/** A lease: its key and its value. */
export interface FakePeer {
  /** As in a key: `10.5.77.0-24`. */
  readonly subnet: string
  readonly publicIp: string
  readonly mac: string
  /** The IPv6 part of a dual-stack lease, its subnet as in a key: `fd00:5:0:4d::-64`. */
  readonly six?: Omit<FakePeer, 'six'>
}

/** One day, as flannel's leases. */
const TTL_SECONDS = 86_400
/** Most operations in one transaction: etcd's default of `--max-txn-ops`. */
const TXN_OPERATIONS = 128
/** Concurrent LeaseGrant calls. */
const GRANTS_AT_ONCE = 64

export const leaseKey = (prefix: string, subnet: string): string => `${prefix}/subnets/${subnet}`

/** The last part of a peer's key. */
export const subnetName = ({ subnet, six }: Pick<FakePeer, 'subnet' | 'six'>): string =>
  six === undefined ? subnet : `${subnet}&${six.subnet}`

export function leaseValue({ publicIp, mac, six }: FakePeer): string {
  return JSON.stringify({
    PublicIP: publicIp,
    PublicIPv6: six?.publicIp ?? null,
    BackendType: 'vxlan',
    BackendData: { VNI: 1, VtepMAC: mac },
    BackendV6Data: six && { VNI: 1, VtepMAC: six.mac },
  })
}

/** A peer in a subnet that no real host of the lab gets. @param number 0 to 99 */
export function fakePeer(number: number): FakePeer {
  const octet = number.toString(16).padStart(2, '0')
  return {
    subnet: `10.5.${150 + number}.0-24`,
    publicIp: `172.16.0.${number + 1}`,
    mac: `02:fa:4e:00:00:${octet}`,
  }
}

/** As {@link fakePeer}, with IPv6. */
export function dualPeer(number: number): FakePeer {
  const peer = fakePeer(number)
  const six = {
    subnet: `fd00:5:0:${(0x1000 + number).toString(16)}::-64`,
    publicIp: `fd77:1::${(number + 1).toString(16)}`,
    mac: peer.mac.replace('4e:00', '4e:06'),
  }
  return { ...peer, six }
}

/** Writes peers to etcd, each bound to its own etcd lease. */
export async function putPeers(client: Etcd3, prefix: string, peers: readonly FakePeer[]): Promise<void> {
  for (const some of chunks(peers, TXN_OPERATIONS)) {
    const grants: string[] = []
    for (const together of chunks(some, GRANTS_AT_ONCE)) {
      grants.push(...(await Promise.all(together.map(() => grantLease(client)))))
    }
    await client.kv.txn({
      success: some.map((peer, index) => ({
        request_put: {
          key: Buffer.from(leaseKey(prefix, subnetName(peer))),
          value: Buffer.from(leaseValue(peer)),
          lease: grants[index] ?? '0',
        },
      })),
    })
  }
}

async function grantLease(client: Etcd3): Promise<string> {
  return (await client.leaseClient.leaseGrant({ TTL: TTL_SECONDS })).ID
}

/**
 * `count` peers: /24 subnets from `firstSubnet` upwards, addresses from 172.16.0.1 and MACs from
 * 02:00:00:00:00:01 upwards.
 * @param firstSubnet an IPv4 address as a number; default 10.128.0.0
 */
export function manyPeers(count: number, firstSubnet = 0x0a80_0000): FakePeer[] {
  return Array.from({ length: count }, (_, index) => ({
    subnet: `${dotted(firstSubnet + index * 256)}-24`,
    publicIp: dotted(0xac10_0001 + index),
    mac: `02:00:${(index + 1)
      .toString(16)
      .padStart(8, '0')
      .replace(/(..)(?=.)/g, '$1:')}`,
  }))
}

const dotted = (bits: number): string => [24, 16, 8, 0].map((shift) => (bits >>> shift) & 255).join('.')

function chunks<T>(items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, index) =>
    items.slice(index * size, (index + 1) * size),
  )
}
