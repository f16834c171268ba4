/** Peers of a WireGuard device: changes as messages, and answers of a dump as one device. */
import type { Prefix } from '../../model/address'
import type {
  ObservedWireguard,
  ObservedWireguardPeer,
  WireguardKey,
  WireguardOperation,
} from '../../model/kernel/wireguard'
import { describeWireguardOperation } from '../../model/kernel/wireguard'
import type { MessageWriter } from '../netlink/bytes'
import type { Question, RequestFormat } from '../netlink/client'
import type { MessageOf } from '../netlink/codec'
import {
  NLM_F_REQUEST,
  WG_CMD_GET_DEVICE,
  WG_CMD_SET_DEVICE,
  WG_GENL_VERSION,
  WGPEER_F_REMOVE_ME,
  WGPEER_F_REPLACE_ALLOWEDIPS,
  WGPEER_F_UPDATE_ONLY,
} from '../netlink/constants'
import { deviceMessage, type PeerAttributes } from './messages'

/** A generic netlink family's number: the type of its messages. It differs from boot to boot. */
export type FamilyId = number

/** Changes of peers of one device, in one message. */
export interface PeerChanges {
  readonly index: number
  readonly operations: readonly WireguardOperation[]
}

/**
 * Most operations, and about the most bytes, of one message. The kernel works on a message within the system
 * call, and holds the lock of all network configuration meanwhile; a new peer costs it 0.1 to 0.2 ms, most of
 * it for one multiplication on the curve. Larger messages gain nothing.
 */
const MOST_OPERATIONS = 32
const MOST_BYTES = 30_000

/** Bytes of an operation without its allowed addresses: key, flags, endpoint and keepalive. */
const OPERATION_SIZE = 100
/** Bytes of an allowed address. */
const ALLOWED_SIZE = 44

/** Splits changes of one device so that each part fits into one message. */
export function* inMessages(
  index: number,
  operations: readonly WireguardOperation[],
): Generator<PeerChanges> {
  let part: WireguardOperation[] = []
  let size = 0
  for (const operation of operations) {
    const addresses = operation.kind === 'set-peer' ? (operation.allowedIps?.length ?? 0) : 0
    const more = OPERATION_SIZE + addresses * ALLOWED_SIZE
    if (part.length > 0 && (part.length === MOST_OPERATIONS || size + more > MOST_BYTES)) {
      yield { index, operations: part }
      part = []
      size = 0
    }
    part.push(operation)
    size += more
  }
  if (part.length > 0) yield { index, operations: part }
}

/**
 * Changes of peers as a message. The kernel makes them in order up to the first that it refuses
 * (wg_set_device in drivers/net/wireguard/netlink.c).
 */
export const peerFormat = (family: FamilyId): RequestFormat<PeerChanges> => ({
  encode(writer: MessageWriter, { index, operations }) {
    deviceMessage.encode(writer, family, NLM_F_REQUEST, {
      command: WG_CMD_SET_DEVICE,
      version: WG_GENL_VERSION,
      index,
      peers: operations.map(attributesOf),
    })
  },
  describe({ operations: [first, ...others] }) {
    if (first === undefined) return 'change no WireGuard peer'
    return others.length === 0
      ? describeWireguardOperation(first)
      : `change ${others.length + 1} WireGuard peers`
  },
})

function attributesOf(operation: WireguardOperation): PeerAttributes {
  const { publicKey } = operation
  if (operation.kind === 'remove-peer') return { publicKey, flags: WGPEER_F_REMOVE_ME }
  const { endpoint, keepalive, allowedIps, updateOnly } = operation
  const flags =
    (allowedIps === undefined ? 0 : WGPEER_F_REPLACE_ALLOWEDIPS) |
    (updateOnly === true ? WGPEER_F_UPDATE_ONLY : 0)
  return { publicKey, flags: flags === 0 ? undefined : flags, endpoint, keepalive, allowedIps }
}

type DevicePart = MessageOf<typeof deviceMessage>

/** Dump: one device, in many parts, which {@link joinParts} joins. */
export const readParts = (family: FamilyId, index: number): Question<DevicePart> => ({
  attempted: `read the WireGuard device ${index}`,
  encode(writer) {
    const request = { command: WG_CMD_GET_DEVICE, version: WG_GENL_VERSION, index }
    deviceMessage.encode(writer, family, NLM_F_REQUEST, request)
  },
  decode: (view, start, end) => deviceMessage.decode(view, start, end),
})

/**
 * Joins the parts of a dump. The first names the device. A peer whose allowed addresses do not fit into one
 * part is in the next one again, with its key and further addresses alone.
 * @returns undefined if no part names a device
 */
export function joinParts(parts: readonly DevicePart[]): ObservedWireguard | undefined {
  const [first] = parts
  if (first?.index === undefined) return undefined
  const peers = new Map<WireguardKey, JoinedPeer>()
  for (const part of parts) for (const peer of part.peers ?? []) addPeer(peers, peer)
  const { index, name = '', publicKey, port = 0 } = first
  return { index, name, publicKey, port, peers }
}

type JoinedPeer = ObservedWireguardPeer & { readonly allowedIps: Prefix[] }

function addPeer(peers: Map<WireguardKey, JoinedPeer>, attributes: PeerAttributes): void {
  const { publicKey, endpoint, keepalive = 0, lastHandshake, received = 0n, sent = 0n } = attributes
  if (publicKey === undefined) return
  const known = peers.get(publicKey)
  if (known !== undefined) {
    known.allowedIps.push(...(attributes.allowedIps ?? []))
    return
  }
  peers.set(publicKey, {
    publicKey,
    endpoint,
    allowedIps: [...(attributes.allowedIps ?? [])],
    keepalive,
    lastHandshake: lastHandshake === 0 ? undefined : lastHandshake,
    received,
    sent,
  })
}
