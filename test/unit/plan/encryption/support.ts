/** Hosts with keys, for tests of encryption. */
import type { IpAddress, Prefix } from '../../../../src/model/address'
import {
  type ObservedWireguard,
  type ObservedWireguardPeer,
  parseWireguardKey,
  type WireguardKey,
  type WireguardOperation,
} from '../../../../src/model/kernel/wireguard'
import type { Peer, WireguardAnnouncement } from '../../../../src/model/lease'
import { hw, ip, net } from '../support'

/** A key of its own for each number. */
export function key(number: number): WireguardKey {
  const bytes = Buffer.alloc(32, 7)
  bytes.writeUInt32BE(number)
  const parsed = parseWireguardKey(bytes.toString('base64'))
  if (parsed === undefined) throw new Error(`no key of ${number}`)
  return parsed
}

export const announcement = (
  number: number,
  fields: Partial<WireguardAnnouncement> = {},
): WireguardAnnouncement => ({
  turn: 0,
  port: 51_820,
  keys: [key(number * 2), key(number * 2 + 1)],
  ...fields,
})

/** The peer with the subnet 10.5.N.0/24 at 192.168.77.N. */
export const peer = (
  number: number,
  wireguard?: WireguardAnnouncement,
  fields: Partial<Peer> = {},
): Peer => ({
  key: `/p/subnets/10.5.${number}.0-24`,
  subnet: net(`10.5.${number}.0/24`),
  publicIp: ip(`192.168.77.${number}`),
  mac: hw(`02:00:00:00:00:${number.toString(16).padStart(2, '0')}`),
  ...(wireguard !== undefined && { wireguard }),
  ...fields,
})

export const only = (address: IpAddress): Prefix[] => [
  { address, length: typeof address === 'number' ? 32 : 128 },
]

/** A WireGuard device as the kernel keeps it: allowed-ips belong to the peer that got them last. */
export class Device {
  readonly peers = new Map<WireguardKey, ObservedWireguardPeer>()

  readonly #owners = new Map<IpAddress, WireguardKey>()

  constructor(readonly index: number) {}

  apply(operations: readonly WireguardOperation[]): void {
    for (const operation of operations) {
      const { publicKey } = operation
      const before = this.peers.get(publicKey)
      if (operation.kind === 'remove-peer') {
        this.peers.delete(publicKey)
        continue
      }
      if (before === undefined && operation.updateOnly === true) continue
      const {
        allowedIps = before?.allowedIps ?? [],
        endpoint = before?.endpoint,
        keepalive = before?.keepalive ?? 0,
      } = operation
      for (const { address } of allowedIps) {
        const other = this.#owners.get(address)
        this.#owners.set(address, publicKey)
        const theirs = other === undefined || other === publicKey ? undefined : this.peers.get(other)
        if (other === undefined || theirs === undefined) continue
        const kept = theirs.allowedIps.filter((each) => each.address !== address)
        this.peers.set(other, { ...theirs, allowedIps: kept })
      }
      const { lastHandshake, received = 0n, sent = 0n } = before ?? {}
      this.peers.set(publicKey, { publicKey, endpoint, allowedIps, keepalive, lastHandshake, received, sent })
    }
  }

  change(publicKey: WireguardKey, fields: Partial<ObservedWireguardPeer>): void {
    const before = this.peers.get(publicKey)
    if (before === undefined) throw new Error(`no peer ${publicKey}`)
    this.peers.set(publicKey, { ...before, ...fields })
  }

  observed(): ObservedWireguard {
    return {
      index: this.index,
      name: 'fl-wg.1',
      publicKey: undefined,
      port: 51_820,
      peers: new Map(this.peers),
    }
  }
}
