/** What of a bridge, and of a device's counters, matters for multicast (linux/if_link.h). Apart from `links.ts`, for few hosts need it. */
import type { LinkCounters, ObservedBridge } from '../model/multicast'
import { HOST_LITTLE_ENDIAN, type MessageWriter } from './netlink/bytes'
import type { Question } from './netlink/client'
import { messageCodec, nested } from './netlink/codec'
import {
  IFLA_BR_MCAST_ROUTER,
  IFLA_EXT_MASK,
  IFLA_IFNAME,
  IFLA_INFO_DATA,
  IFLA_INFO_KIND,
  IFLA_LINKINFO,
  IFLA_STATS64,
  NLM_F_REQUEST,
  RTEXT_FILTER_SKIP_STATS,
  RTM_GETLINK,
  RTM_NEWLINK,
} from './netlink/constants'
import { type Payload, s32, text, u8, u32 } from './netlink/layout'

/** Offsets in struct rtnl_link_stats64. */
const RX_PACKETS = 0
const TX_PACKETS = 8
const RX_BYTES = 16
const TX_BYTES = 24
const TX_DROPPED = 56
const STATS_READ = TX_DROPPED + 8

const counters: Payload<LinkCounters> = {
  write() {
    throw new TypeError('counters are only read')
  },
  read(view, at, length) {
    if (length < STATS_READ) return undefined
    const read = (offset: number): number => Number(view.getBigUint64(at + offset, HOST_LITTLE_ENDIAN))
    return {
      received: { packets: read(RX_PACKETS), bytes: read(RX_BYTES) },
      sent: { packets: read(TX_PACKETS), bytes: read(TX_BYTES), dropped: read(TX_DROPPED) },
    }
  },
}

const bridgeMessage = messageCodec(
  { size: 16, fields: { family: [0, u8], index: [4, s32], flags: [8, u32], change: [12, u32] } },
  {
    name: [IFLA_IFNAME, text],
    extensionMask: [IFLA_EXT_MASK, u32],
    counters: [IFLA_STATS64, counters],
    info: [
      IFLA_LINKINFO,
      nested({
        kind: [IFLA_INFO_KIND, text],
        bridge: [
          IFLA_INFO_DATA,
          nested({ multicastRouter: [IFLA_BR_MCAST_ROUTER, u8] }),
          { sibling: 'kind', is: 'bridge' },
        ],
      }),
    ],
  },
)

/** All bridges; as a dump. */
export const listBridges: Question<ObservedBridge> = {
  attempted: 'list bridges',
  encode: (writer) =>
    bridgeMessage.encode(writer, RTM_GETLINK, NLM_F_REQUEST, { extensionMask: RTEXT_FILTER_SKIP_STATS }),
  decode(view, start, end) {
    const { index, name = '', info } = bridgeMessage.decode(view, start, end)
    if (info?.kind !== 'bridge') return undefined
    // A kernel without IGMP snooping tells nothing: its bridges pass everything on.
    return { index, name, multicastRouter: info.bridge?.multicastRouter }
  },
}

/** What went through a link; ENODEV when there is none. */
export const readCounters = (index: number): Question<LinkCounters> => ({
  attempted: `read the counters of interface ${index}`,
  encode: (writer) => bridgeMessage.encode(writer, RTM_GETLINK, NLM_F_REQUEST, { index }),
  decode: (view, start, end) => bridgeMessage.decode(view, start, end).counters,
})

/** Appends the message that says whether a bridge takes itself for a router's port. */
export function encodeMulticastRouter(writer: MessageWriter, index: number, multicastRouter: number): void {
  bridgeMessage.encode(writer, RTM_NEWLINK, NLM_F_REQUEST, {
    index,
    info: { kind: 'bridge', bridge: { multicastRouter } },
  })
}
