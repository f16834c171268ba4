/**
 * The gateways of a route that leads to several: RTA_MULTIPATH, a list of struct rtnexthop with attributes.
 */
import type { IpAddress } from '../../model/address'
import { align, HOST_LITTLE_ENDIAN } from './bytes'
import { messageCodec } from './codec'
import { RTA_ENCAP_TYPE, RTA_GATEWAY } from './constants'
import { MalformedMessageError } from './errors'
import { ipAddress, type Payload, present, s32, u8, u16 } from './layout'

/** One gateway. */
export interface Hop {
  readonly link: number
  /** `undefined` for the hosts of the link themselves. */
  readonly gateway: IpAddress | undefined
  /** 1 to 256: struct rtnexthop has the number below. */
  readonly weight: number
  /** RTNH_F_* */
  readonly flags: number
  /** Whether packets get a further header; never written. */
  readonly encapsulated?: true
}

/** sizeof(struct rtnexthop) */
const HOP_SIZE = 8

const hop = messageCodec(
  { size: HOP_SIZE, fields: { length: [0, u16], flags: [2, u8], hops: [3, u8], link: [4, s32] } },
  { gateway: [RTA_GATEWAY, ipAddress], encapsulation: [RTA_ENCAP_TYPE, present] },
)

export const hops: Payload<readonly Hop[]> = {
  write(writer, type, values) {
    const payload = writer.attribute(type, 0)
    for (const { link, gateway, weight, flags } of values) {
      const start = writer.reserve(HOP_SIZE)
      if (gateway !== undefined) ipAddress.write(writer, RTA_GATEWAY, gateway)
      writer.view.setUint16(start, writer.length - start, HOST_LITTLE_ENDIAN)
      writer.view.setUint8(start + 2, flags)
      writer.view.setUint8(start + 3, weight - 1)
      writer.view.setInt32(start + 4, link, HOST_LITTLE_ENDIAN)
    }
    writer.closeNest(payload)
  },
  read(view, at, length, name) {
    const found: Hop[] = []
    const end = at + length
    for (let start = at; start < end; ) {
      const size = end - start < HOP_SIZE ? 0 : view.getUint16(start, HOST_LITTLE_ENDIAN)
      if (size < HOP_SIZE || size > end - start)
        throw new MalformedMessageError(`a gateway in ${name} does not end inside it (${size} bytes)`)
      const { link, gateway, hops: more, flags, encapsulation } = hop.decode(view, start, start + size)
      const encapsulated = encapsulation === undefined ? {} : ({ encapsulated: true } as const)
      found.push({ link, gateway, weight: more + 1, flags, ...encapsulated })
      start += align(size)
    }
    return found
  },
  text: (values) => `[${values.map((value) => hopText(value)).join(' ')}]`,
}

const hopText = ({ link, gateway, weight }: Hop): string =>
  `{link=${link} gateway=${gateway === undefined ? '-' : ipAddress.text?.(gateway)} weight=${weight}}`
