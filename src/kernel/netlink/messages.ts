/** The rtnetlink messages that we use, as tables. The names on the right are the kernel's. */
import { messageCodec, nested } from './codec'
import * as k from './constants'
import { hops } from './hops'
import {
  be16,
  bool,
  flag,
  ifSized,
  ipAddress,
  ipv4Address,
  ipv6Address,
  macAddress,
  present,
  s32,
  text,
  u8,
  u16,
  u32,
} from './layout'

/** IFLA_VXLAN_* (linux/if_link.h). */
const vxlan = nested({
  id: [k.IFLA_VXLAN_ID, u32],
  group: [k.IFLA_VXLAN_GROUP, ipv4Address],
  link: [k.IFLA_VXLAN_LINK, u32],
  local: [k.IFLA_VXLAN_LOCAL, ipv4Address],
  group6: [k.IFLA_VXLAN_GROUP6, ipv6Address],
  local6: [k.IFLA_VXLAN_LOCAL6, ipv6Address],
  ttl: [k.IFLA_VXLAN_TTL, u8],
  tos: [k.IFLA_VXLAN_TOS, u8],
  learning: [k.IFLA_VXLAN_LEARNING, bool],
  proxy: [k.IFLA_VXLAN_PROXY, bool],
  rsc: [k.IFLA_VXLAN_RSC, bool],
  l2miss: [k.IFLA_VXLAN_L2MISS, bool],
  l3miss: [k.IFLA_VXLAN_L3MISS, bool],
  port: [k.IFLA_VXLAN_PORT, be16],
  zeroCsum6Tx: [k.IFLA_VXLAN_UDP_ZERO_CSUM6_TX, bool],
  zeroCsum6Rx: [k.IFLA_VXLAN_UDP_ZERO_CSUM6_RX, bool],
  gbp: [k.IFLA_VXLAN_GBP, flag],
})

/** struct ifinfomsg (linux/rtnetlink.h) and IFLA_* (linux/if_link.h). */
export const linkMessage = messageCodec(
  { size: 16, fields: { family: [0, u8], index: [4, s32], flags: [8, u32], change: [12, u32] } },
  {
    // Six bytes on Ethernet-like links; four on IPv4 tunnels, twenty on InfiniBand.
    address: [k.IFLA_ADDRESS, ifSized(macAddress)],
    name: [k.IFLA_IFNAME, text],
    mtu: [k.IFLA_MTU, u32],
    master: [k.IFLA_MASTER, u32],
    queueLength: [k.IFLA_TXQLEN, u32],
    extensionMask: [k.IFLA_EXT_MASK, u32],
    targetNamespace: [k.IFLA_TARGET_NETNSID, s32],
    info: [
      k.IFLA_LINKINFO,
      nested({
        kind: [k.IFLA_INFO_KIND, text],
        vxlan: [k.IFLA_INFO_DATA, vxlan, { sibling: 'kind', is: 'vxlan' }],
      }),
    ],
  },
)

/** struct ifaddrmsg and IFA_* (linux/if_addr.h). */
export const addressMessage = messageCodec(
  {
    size: 8,
    fields: { family: [0, u8], prefixLength: [1, u8], flags: [2, u8], scope: [3, u8], index: [4, u32] },
  },
  { address: [k.IFA_ADDRESS, ipAddress], local: [k.IFA_LOCAL, ipAddress] },
)

/**
 * struct ndmsg and NDA_* (linux/neighbour.h): neighbours of AF_INET and AF_INET6 and, with AF_BRIDGE,
 * forwarding entries of a link.
 */
export const neighbourMessage = messageCodec(
  {
    size: 12,
    fields: { family: [0, u8], index: [4, s32], state: [8, u16], flags: [10, u8], type: [11, u8] },
  },
  {
    destination: [k.NDA_DST, ipAddress],
    linkAddress: [k.NDA_LLADDR, ifSized(macAddress)],
    port: [k.NDA_PORT, be16],
    vni: [k.NDA_VNI, u32],
    /**
     * In a neighbour request: the link that is queried. In a forwarding entry: the link that its packets must
     * use.
     */
    link: [k.NDA_IFINDEX, u32],
    nexthop: [k.NDA_NH_ID, u32],
    protocol: [k.NDA_PROTOCOL, u8],
  },
)

/** struct rtgenmsg and NETNSA_* (linux/net_namespace.h). */
export const namespaceMessage = messageCodec(
  { size: 4, fields: { family: [0, u8] } },
  { id: [k.NETNSA_NSID, s32] },
)

/** struct nhmsg and NHA_* (linux/nexthop.h). */
export const nexthopMessage = messageCodec(
  { size: 8, fields: { family: [0, u8], scope: [1, u8], protocol: [2, u8], flags: [4, u32] } },
  {
    id: [k.NHA_ID, u32],
    link: [k.NHA_OIF, u32],
    gateway: [k.NHA_GATEWAY, ifSized(ipv4Address)],
  },
)

/** struct rtmsg and RTA_* (linux/rtnetlink.h). */
export const routeMessage = messageCodec(
  {
    size: 12,
    fields: {
      family: [0, u8],
      destinationLength: [1, u8],
      tos: [3, u8],
      table: [4, u8],
      protocol: [5, u8],
      scope: [6, u8],
      type: [7, u8],
      flags: [8, u32],
    },
  },
  {
    destination: [k.RTA_DST, ipAddress],
    gateway: [k.RTA_GATEWAY, ipAddress],
    link: [k.RTA_OIF, u32],
    metric: [k.RTA_PRIORITY, u32],
    preferredSource: [k.RTA_PREFSRC, ipAddress],
    nexthop: [k.RTA_NH_ID, u32],
    multipath: [k.RTA_MULTIPATH, hops],
    encapsulation: [k.RTA_ENCAP_TYPE, present],
    metrics: [k.RTA_METRICS, nested({ mtu: [k.RTAX_MTU, u32] })],
    tableId: [k.RTA_TABLE, u32],
  },
)
