/**
 * The attributes of bridges, and the counters of links, that multicast needs (linux/if_link.h). Few hosts
 * need them, so they are not in `links.ts`.
 */
import { FAMILIES } from '../../model/address'
import type { BridgeSnooping, LinkCounters, ObservedBridge } from '../../model/multicast'
import { HOST_LITTLE_ENDIAN, type MessageWriter } from '../netlink/bytes'
import type { Question } from '../netlink/client'
import { type MessageOf, messageCodec, nested } from '../netlink/codec'
import {
  BRIDGE_QUERIER_IP_ADDRESS,
  BRIDGE_QUERIER_IPV6_ADDRESS,
  IFLA_BR_MCAST_QUERIER_STATE,
  IFLA_BR_MCAST_QUERY_RESPONSE_INTVL,
  IFLA_BR_MCAST_ROUTER,
  IFLA_BR_MCAST_SNOOPING,
  IFLA_BR_MCAST_STARTUP_QUERY_CNT,
  IFLA_BR_MCAST_STARTUP_QUERY_INTVL,
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
} from '../netlink/constants'
import { bool, type Payload, present, s32, text, u8, u32, u64 } from '../netlink/layout'

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
          nested({
            multicastRouter: [IFLA_BR_MCAST_ROUTER, u8],
            snooping: [IFLA_BR_MCAST_SNOOPING, bool],
            startupQueries: [IFLA_BR_MCAST_STARTUP_QUERY_CNT, u32],
            startupInterval: [IFLA_BR_MCAST_STARTUP_QUERY_INTVL, u64],
            responseInterval: [IFLA_BR_MCAST_QUERY_RESPONSE_INTVL, u64],
            queriers: [
              IFLA_BR_MCAST_QUERIER_STATE,
              nested({
                IPv4: [BRIDGE_QUERIER_IP_ADDRESS, present],
                IPv6: [BRIDGE_QUERIER_IPV6_ADDRESS, present],
              }),
            ],
          }),
          { sibling: 'kind', is: 'bridge' },
        ],
      }),
    ],
  },
)

/** All bridges, as a dump. */
export const listBridges: Question<ObservedBridge> = {
  attempted: 'list bridges',
  encode: (writer) =>
    bridgeMessage.encode(writer, RTM_GETLINK, NLM_F_REQUEST, { extensionMask: RTEXT_FILTER_SKIP_STATS }),
  decode: decodeBridge,
}

/** One link, if it is a bridge. ENODEV when there is no such link. */
export const readBridge = (index: number): Question<ObservedBridge> => ({
  attempted: `look at the bridge with index ${index}`,
  encode: (writer) =>
    bridgeMessage.encode(writer, RTM_GETLINK, NLM_F_REQUEST, {
      index,
      extensionMask: RTEXT_FILTER_SKIP_STATS,
    }),
  decode: decodeBridge,
})

function decodeBridge(view: DataView, start: number, end: number): ObservedBridge | undefined {
  const { index, name = '', info } = bridgeMessage.decode(view, start, end)
  if (info?.kind !== 'bridge') return undefined
  const snooping = snoopingOf(info.bridge)
  // A kernel without IGMP snooping leaves the attributes out: its bridges flood multicast.
  return { index, name, multicastRouter: info.bridge?.multicastRouter, ...(snooping && { snooping }) }
}

/** The times of a bridge are in hundredths of a second (USER_HZ). */
const MS_PER_TICK = 10

type BridgeInfo = NonNullable<MessageOf<typeof bridgeMessage>['info']>['bridge']

/** Without a querier the kernel leaves its address out. Kernels before 5.15 never show it. */
function snoopingOf(bridge: BridgeInfo): BridgeSnooping | undefined {
  const { snooping, queriers, startupQueries, startupInterval, responseInterval } = bridge ?? {}
  if (snooping !== true || startupQueries === undefined) return undefined
  if (startupInterval === undefined || responseInterval === undefined) return undefined
  return {
    queriers: FAMILIES.filter((family) => queriers?.[family] === true),
    answeredWithin: (startupQueries * startupInterval + responseInterval) * MS_PER_TICK,
  }
}

/** The packets and bytes through a link. ENODEV when there is no such link. */
export const readCounters = (index: number): Question<LinkCounters> => ({
  attempted: `read the counters of interface ${index}`,
  encode: (writer) => bridgeMessage.encode(writer, RTM_GETLINK, NLM_F_REQUEST, { index }),
  decode: (view, start, end) => bridgeMessage.decode(view, start, end).counters,
})

/** Appends the message that sets mcast_router of a bridge. */
export function encodeMulticastRouter(writer: MessageWriter, index: number, multicastRouter: number): void {
  bridgeMessage.encode(writer, RTM_NEWLINK, NLM_F_REQUEST, {
    index,
    info: { kind: 'bridge', bridge: { multicastRouter } },
  })
}
