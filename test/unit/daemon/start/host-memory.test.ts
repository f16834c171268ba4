import { reasonAgainst, recall, remember } from '../../../../src/daemon/start/host-memory'
import { keysUnder } from '../../../../src/etcd/codec/keys'
import { encodeLeaseValue } from '../../../../src/etcd/codec/lease-codec'
import type { SavedState } from '../../../../src/host/state-file'
import {
  type EtcdLeaseId,
  type Lease,
  NO_ETCD_LEASE,
  type Peer,
  type Revision,
} from '../../../../src/model/lease'
import type { PrefixClaim } from '../../../../src/model/prefixes'
import { dualLease, hw, ip, ip6, lease, net, net6 } from '../../plan/support'

const PREFIX = '/coreos.com/network'
const KEYS = keysUnder(PREFIX)
const at = { bootId: 'b', uptimeSeconds: 100, wallSeconds: 1000 }
const own: Lease = lease('10.5.1.0/24', { publicIp: '192.168.77.11', mac: '02:00:00:00:00:01' })
const dual = dualLease('10.5.2.0/24', 'fd00:5:0:2::/64')
const half4: Peer = {
  key: dual.key,
  subnet: net('10.5.2.0/24'),
  publicIp: ip('192.168.77.12'),
  mac: hw('02:00:00:00:00:02'),
}
const half6: Peer = {
  key: dual.key,
  subnet: net6('fd00:5:0:2::/64'),
  publicIp: ip6('fd77::12'),
  mac: hw('02:00:00:00:06:02'),
}

const present = {
  prefix: PREFIX,
  host: { machine: 'm' },
  config: { text: '{}', revision: 4n as Revision },
  revision: 12345678901234567890n as Revision,
  own,
  ownState: 'held',
  renewal: { at, ttlSeconds: 86_400 },
  vni: 1,
  peers: { ipv4: [half4], ipv6: [half6] },
} as const

async function roundTrip(fields: Partial<Parameters<typeof remember>[0]> = {}) {
  const saved = await remember({ ...present, ...fields })
  const memory = recall(JSON.parse(JSON.stringify(saved)), PREFIX, KEYS)
  if (typeof memory === 'string') throw new Error(memory)
  return memory
}

test('a saved state is the same after reading', async () => {
  const memory = await roundTrip()
  expect(memory).toMatchObject({
    own,
    ownState: 'held',
    renewal: present.renewal,
    host: { machine: 'm' },
    macs: { ipv4: hw('02:00:00:00:00:01'), ipv6: undefined },
    snapshot: { revision: present.revision, config: '{}', configRevision: 4n, unreadable: [] },
  })
  const [first, second] = memory.snapshot.leases
  expect(first).toEqual(own)
  // The peers of both families become one lease again.
  expect(second).toMatchObject({ key: dual.key, subnet: dual.subnet, value: dual.value })
})

test('so are the serials that were seen, and a file of before has none', async () => {
  const seenSerials = [{ subnet: '10.5.2.0/24', identity: 'x', serial: 7 }]
  expect((await roundTrip({ seenSerials })).seenSerials).toEqual(seenSerials)
  expect((await roundTrip()).seenSerials).toEqual([])
  expect(await remember(present)).not.toHaveProperty('seen')
})

test('so is what hosts announce, and a file of before has none', async () => {
  const claims = ['10.5.240.7/32', '192.0.2.0/25'].map((prefix, at): PrefixClaim => {
    return {
      name: `10.5.2.0-24&fd00:5:0:2::-64/${prefix.replace('/', '-')}`,
      host: '10.5.2.0-24&fd00:5:0:2::-64',
      announcement: {
        prefix: net(prefix),
        priority: 100 + at,
        until: at === 0 ? undefined : Date.UTC(2026, 10, 30),
        via: at === 0 ? undefined : { kind: 'gateway', address: ip('10.5.2.9') },
        ...(at === 0 ? { share: 9 } : { further: true }),
      },
      claimedAt: BigInt(7 + at) as Revision,
      etcdLease: '77' as EtcdLeaseId,
      modRevision: 9n as Revision,
    }
  })
  const { snapshot } = await roundTrip({ prefixes: claims })
  // The lease of a key and its last change are etcd's to tell.
  const unknown = { etcdLease: '0', modRevision: present.revision }
  expect(snapshot.prefixes).toEqual(claims.map((claim) => ({ ...claim, ...unknown })))
  expect((await roundTrip()).snapshot.prefixes).toBeUndefined()
  expect(await remember(present)).not.toHaveProperty('prefixes')
})

test('so is the multicast VNI of a peer', async () => {
  const { snapshot } = await roundTrip({ peers: { ipv4: [{ ...half4, multicast: 7 }], ipv6: [half6] } })
  expect(snapshot.leases[1]?.value).toMatchObject({ vtep: { multicast: 7 }, vtep6: dual.value.vtep6 })
})

test('a family in which a host is no peer is absent from its lease', async () => {
  const { snapshot } = await roundTrip({ peers: { ipv4: [], ipv6: [half6] } })
  expect(snapshot.leases[1]?.value).toMatchObject({ publicIp: 0, vtep: undefined, vtep6: dual.value.vtep6 })
})

test('ten thousand peers are saved, in order', async () => {
  const peers = Array.from({ length: 10_000 }, (_, i): Peer => {
    const subnet = `10.${6 + (i >> 8)}.${i & 255}.0`
    return {
      key: `${KEYS.subnets}${subnet}-24`,
      subnet: net(`${subnet}/24`),
      publicIp: ip('192.0.2.1'),
      mac: hw('02:00:00:00:00:02'),
    }
  })
  const { snapshot } = await roundTrip({ peers: { ipv4: peers, ipv6: [] } })
  expect(snapshot.leases.slice(1).map(({ key }) => key)).toEqual(peers.map(({ key }) => key))
})

describe('the state is not used if it', () => {
  const saved = async (change: (state: SavedState) => SavedState) =>
    recall(change(await remember(present)), PREFIX, KEYS)

  test('is of another network', async () => {
    expect(await saved((state) => ({ ...state, prefix: '/other' }))).toMatch(/network at \/other/)
  })

  test('has an unreadable own lease', async () => {
    expect(await saved((state) => ({ ...state, own: { ...state.own, value: '[]' } }))).toMatch(
      /cannot be read/,
    )
    expect(await saved((state) => ({ ...state, own: { ...state.own, key: '/elsewhere' } }))).toMatch(
      /cannot be read/,
    )
  })

  test('has an unreadable peer, which alone is left out', async () => {
    const memory = await saved((state) => ({ ...state, peers: [['/x', '{}'], ...state.peers] }))
    expect(typeof memory === 'string' ? memory : memory.snapshot.leases.map(({ key }) => key)).toEqual([
      own.key,
      dual.key,
    ])
  })
})

describe('a start from the state file alone', () => {
  const now = { ...at, uptimeSeconds: 200 }
  const against = async (fields: Parameters<typeof roundTrip>[0]) =>
    reasonAgainst(await roundTrip(fields), now)

  test('is allowed while the lease lives, and always with a reservation', async () => {
    expect(await against({})).toBeUndefined()
    expect(await against({ own: { ...own, etcdLease: NO_ETCD_LEASE }, renewal: undefined })).toBeUndefined()
  })

  test('is refused without a held lease, and if the lease may have ended', async () => {
    expect(await against({ ownState: 'conflict' })).toMatch(/not held then \(conflict\)/)
    expect(await against({ ownState: 'lost' })).toMatch(/not held/)
    expect(await against({ renewal: undefined })).toMatch(/never renewed/)
    expect(await against({ renewal: { at, ttlSeconds: 100 } })).toMatch(/may have ended/)
    expect(await against({ own: { ...own, etcdLease: NO_ETCD_LEASE }, ownState: 'conflict' })).toMatch(
      /not held/,
    )
  })
})

test('lease values are saved byte for byte as flannel writes them', async () => {
  const saved = await remember(present)
  expect(saved.own.value).toBe(encodeLeaseValue(own.value))
  expect(saved.peers).toEqual([[dual.key, encodeLeaseValue(dual.value)]])
})
