/** The hosts that can be reached encrypted, by the leases of the peers of both families. */
import { type Family, familyOf, type IpAddress, isUnicast } from '../../model/address'
import type { WireguardKey } from '../../model/kernel/wireguard'
import { type Peer, sameKeys, type WireguardAnnouncement } from '../../model/lease'

/** A host that announces keys. A host with several leases that say the same is one. */
export interface TunnelHost {
  /** Keys of its leases in etcd. */
  readonly leases: readonly string[]
  readonly announced: WireguardAnnouncement
  /** Where its VXLAN packets come from and go to inside of the tunnel: one address of each family. */
  readonly addresses: ReadonlyMap<Family, IpAddress>
  /** Where its WireGuard listens: an address of the first family. */
  readonly endpoint: IpAddress
  /** Whether it announces another address than its VXLAN packets come from. */
  readonly isBehindNat: boolean
}

/**
 * Why a host's announcement is not used. `own-key`: a key of this host. `key-twin`, `address-twin`: an older
 * lease has the key, or the address that its packets come from. `source`: an address of no host, or of
 * another family. `differs`: its families announce different keys.
 */
export type TunnelRefusal = 'own-key' | 'key-twin' | 'address-twin' | 'source' | 'differs'

const REFUSALS: Readonly<Record<TunnelRefusal, string>> = {
  'own-key': 'it announces a key of this host',
  'key-twin': 'an older lease announces the same key',
  'address-twin': 'packets of an older lease come from the same address',
  source: 'the Source that it announces is no address of a host, or of another family',
  differs: 'its two families announce different keys',
}

export const describeRefusal = (refusal: TunnelRefusal): string => REFUSALS[refusal]

export interface TunnelHosts {
  readonly hosts: readonly TunnelHost[]
  /** key of a lease in etcd -> why its announcement is not used */
  readonly refused: ReadonlyMap<string, TunnelRefusal>
}

interface Draft {
  readonly leases: string[]
  readonly announced: WireguardAnnouncement
  readonly addresses: Map<Family, IpAddress>
  readonly endpoint: IpAddress
  isBehindNat: boolean
}

/**
 * WireGuard knows a host by its key, and delivers by the address inside of the tunnel: both must belong to
 * one host. The older lease prevails.
 * @param families the peers of each family of the network, the oldest claim first
 */
export function tunnelHosts(families: readonly Iterable<Peer>[], own: readonly WireguardKey[]): TunnelHosts {
  const refused = new Map<string, TunnelRefusal>()
  const drafts = draftHosts(families, refused)
  const byKey = new Map<WireguardKey, Draft>()
  const byAddress = new Map<IpAddress, Draft>()
  const hosts = new Set<Draft>()
  for (const [lease, draft] of drafts) {
    if (refused.has(lease)) continue
    const { keys } = draft.announced
    const twin = byKey.get(keys[0]) ?? byKey.get(keys[1])
    const neighbour = [...draft.addresses.values()].map((address) => byAddress.get(address)).find(Boolean)
    if (keys.some((key) => own.includes(key))) refused.set(lease, 'own-key')
    else if (twin !== undefined && isSameHost(twin, draft)) twin.leases.push(lease)
    else if (twin !== undefined) refused.set(lease, 'key-twin')
    else if (neighbour !== undefined) refused.set(lease, 'address-twin')
    else {
      hosts.add(draft)
      for (const key of keys) byKey.set(key, draft)
      for (const address of draft.addresses.values()) byAddress.set(address, draft)
    }
  }
  return { hosts: [...hosts], refused }
}

function draftHosts(
  families: readonly Iterable<Peer>[],
  refused: Map<string, TunnelRefusal>,
): ReadonlyMap<string, Draft> {
  const drafts = new Map<string, Draft>()
  for (const peers of families) {
    for (const { key, publicIp, wireguard } of peers) {
      if (wireguard === undefined) continue
      const family = familyOf(publicIp)
      const source = wireguard.source ?? publicIp
      const draft = drafts.get(key)
      if (familyOf(source) !== family || !isUnicast(source)) refused.set(key, 'source')
      else if (draft === undefined) {
        const isBehindNat = source !== publicIp
        const addresses = new Map([[family, source]])
        drafts.set(key, { leases: [key], announced: wireguard, addresses, endpoint: publicIp, isBehindNat })
      } else if (!sameKeys(draft.announced, wireguard)) refused.set(key, 'differs')
      else {
        draft.addresses.set(family, source)
        draft.isBehindNat ||= source !== publicIp
      }
    }
  }
  return drafts
}

const isSameHost = (a: Draft, b: Draft): boolean =>
  sameKeys(a.announced, b.announced) &&
  a.endpoint === b.endpoint &&
  a.addresses.size === b.addresses.size &&
  [...a.addresses].every(([family, address]) => b.addresses.get(family) === address)
