/**
 * Messages of generic netlink for WireGuard, as tables. The names on the right are the kernel's.
 */
import { addressBits, familyOf, type Prefix } from '../../model/address'
import {
  type Endpoint,
  WIREGUARD_KEY_SIZE,
  type WireguardKey,
  wireguardKey,
} from '../../model/kernel/wireguard'
import { HOST_LITTLE_ENDIAN } from '../netlink/bytes'
import { type AttributeValues, list, messageCodec, nested } from '../netlink/codec'
import * as k from '../netlink/constants'
import { MalformedMessageError } from '../netlink/errors'
import { familyNumberOf } from '../netlink/families'
import {
  ipAddress,
  ipv4Address,
  ipv6Address,
  type Payload,
  scalar,
  text,
  u8,
  u16,
  u32,
} from '../netlink/layout'

/** struct genlmsghdr (linux/genetlink.h). */
const genericHeader = { size: 4, fields: { command: [0, u8], version: [1, u8] } } as const

/** CTRL_ATTR_* (linux/genetlink.h). */
export const familyMessage = messageCodec(genericHeader, {
  id: [k.CTRL_ATTR_FAMILY_ID, u16],
  name: [k.CTRL_ATTR_FAMILY_NAME, text],
})

const publicKey = scalar<WireguardKey>(
  WIREGUARD_KEY_SIZE,
  (view, at) => wireguardKey(new Uint8Array(view.buffer, view.byteOffset + at, WIREGUARD_KEY_SIZE)),
  (view, at, value) => {
    Buffer.from(view.buffer, view.byteOffset + at, WIREGUARD_KEY_SIZE).write(value, 'base64')
  },
)

/** A private or preshared key. It is written, and never read: what the kernel sent is overwritten. */
const secret: Payload<Uint8Array> = {
  write(writer, type, value) {
    const at = writer.attribute(type, value.length)
    const { buffer, byteOffset } = writer.view
    new Uint8Array(buffer, byteOffset + at, value.length).set(value)
  },
  read(view, at, length) {
    new Uint8Array(view.buffer, view.byteOffset + at, length).fill(0)
    return undefined
  },
  text: () => '(secret)',
}

/** struct sockaddr_in and struct sockaddr_in6 (linux/in.h, linux/in6.h): size, and where the address is. */
const SOCKADDR = { IPv4: { size: 16, address: 4 }, IPv6: { size: 28, address: 8 } } as const

/** A socket address of either family; absent for any other family, or of another size. */
const endpoint: Payload<Endpoint> = {
  write(writer, type, { address, port }) {
    const { size, address: place } = SOCKADDR[familyOf(address)]
    const at = writer.attribute(type, size)
    writer.view.setUint16(at, familyNumberOf(address), HOST_LITTLE_ENDIAN)
    writer.view.setUint16(at + 2, port)
    if (typeof address === 'number') ipv4Address.set(writer.view, at + place, address)
    else ipv6Address.set(writer.view, at + place, address)
  },
  read(view, at, length) {
    const family = length < 2 ? 0 : view.getUint16(at, HOST_LITTLE_ENDIAN)
    if (family === k.AF_INET && length === SOCKADDR.IPv4.size)
      return { address: ipv4Address.get(view, at + SOCKADDR.IPv4.address), port: view.getUint16(at + 2) }
    if (family === k.AF_INET6 && length === SOCKADDR.IPv6.size)
      return { address: ipv6Address.get(view, at + SOCKADDR.IPv6.address), port: view.getUint16(at + 2) }
    return undefined
  },
}

/** A count that a double might not represent exactly. */
const bigU64 = scalar<bigint>(
  8,
  (view, at) => view.getBigUint64(at, HOST_LITTLE_ENDIAN),
  (view, at, value) => view.setBigUint64(at, value, HOST_LITTLE_ENDIAN),
)

/** struct __kernel_timespec (linux/time_types.h) in milliseconds since the epoch; 0 stands for never. */
const timespec = scalar<number>(
  16,
  (view, at) =>
    Number(view.getBigInt64(at, HOST_LITTLE_ENDIAN)) * 1000 +
    Math.floor(Number(view.getBigInt64(at + 8, HOST_LITTLE_ENDIAN)) / 1e6),
  (view, at, value) => {
    view.setBigInt64(at, BigInt(Math.floor(value / 1000)), HOST_LITTLE_ENDIAN)
    view.setBigInt64(at + 8, BigInt((value % 1000) * 1e6), HOST_LITTLE_ENDIAN)
  },
)

/** WGALLOWEDIP_A_* */
const allowedIpAttributes = nested({
  family: [k.WGALLOWEDIP_A_FAMILY, u16],
  address: [k.WGALLOWEDIP_A_IPADDR, ipAddress],
  length: [k.WGALLOWEDIP_A_CIDR_MASK, u8],
})

/** An allowed address; absent without address or length. */
const allowedIp: Payload<Prefix> = {
  write: (writer, type, { address, length }) =>
    allowedIpAttributes.write(writer, type, { family: familyNumberOf(address), address, length }),
  read(view, at, size, name) {
    const { address, length } = allowedIpAttributes.read(view, at, size, name) ?? {}
    if (address === undefined || length === undefined) return undefined
    if (length > addressBits(familyOf(address)))
      throw new MalformedMessageError(`an allowed address with ${length} bits`)
    return { address, length }
  },
}

/** WGPEER_A_* */
const peerTable = {
  publicKey: [k.WGPEER_A_PUBLIC_KEY, publicKey],
  presharedKey: [k.WGPEER_A_PRESHARED_KEY, secret],
  flags: [k.WGPEER_A_FLAGS, u32],
  endpoint: [k.WGPEER_A_ENDPOINT, endpoint],
  keepalive: [k.WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, u16],
  lastHandshake: [k.WGPEER_A_LAST_HANDSHAKE_TIME, timespec],
  received: [k.WGPEER_A_RX_BYTES, bigU64],
  sent: [k.WGPEER_A_TX_BYTES, bigU64],
  allowedIps: [k.WGPEER_A_ALLOWEDIPS | k.NLA_F_NESTED, list(allowedIp)],
} as const

/** The attributes of one peer in one message. */
export type PeerAttributes = AttributeValues<typeof peerTable>

/** WGDEVICE_A_* (linux/wireguard.h). The kernel refuses nested attributes without their flag. */
export const deviceMessage = messageCodec(genericHeader, {
  index: [k.WGDEVICE_A_IFINDEX, u32],
  name: [k.WGDEVICE_A_IFNAME, text],
  privateKey: [k.WGDEVICE_A_PRIVATE_KEY, secret],
  publicKey: [k.WGDEVICE_A_PUBLIC_KEY, publicKey],
  port: [k.WGDEVICE_A_LISTEN_PORT, u16],
  peers: [k.WGDEVICE_A_PEERS | k.NLA_F_NESTED, list(nested(peerTable))],
})
