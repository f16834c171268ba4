/**
 * The numbers of the kernel's netlink interface that we use, with the kernel's names, grouped by header. They
 * are part of Linux's stable user-space interface.
 */

// linux/netlink.h
export const NETLINK_ROUTE = 0
export const NETLINK_NETFILTER = 12
export const NETLINK_GENERIC = 16
export const NLMSG_ERROR = 2
export const NLMSG_DONE = 3
/** Types below are control messages of any protocol. */
export const NLMSG_MIN_TYPE = 16
export const NLM_F_REQUEST = 0x1
export const NLM_F_ACK = 0x4
/** The objects changed during a dump: it may lack some or contain some twice. */
export const NLM_F_DUMP_INTR = 0x10
export const NLM_F_DUMP = 0x300
export const NLM_F_REPLACE = 0x100
export const NLM_F_EXCL = 0x200
export const NLM_F_CREATE = 0x400
export const NLM_F_APPEND = 0x800
/** On an error reply: it contains only the header of the request. */
export const NLM_F_CAPPED = 0x100
/** On an error reply: attributes (NLMSGERR_ATTR_*) follow. */
export const NLM_F_ACK_TLVS = 0x200
export const NLMSGERR_ATTR_MSG = 1
/** On the type of an attribute that contains attributes. */
export const NLA_F_NESTED = 0x8000
/** The two high bits of an attribute's type are flags (NLA_F_NESTED, NLA_F_NET_BYTEORDER). */
export const NLA_TYPE_MASK = 0x3fff
export const SOL_NETLINK = 270 // linux/socket.h
export const NETLINK_NO_ENOBUFS = 5
export const NETLINK_CAP_ACK = 10
export const NETLINK_EXT_ACK = 11
export const NETLINK_GET_STRICT_CHK = 12

// asm-generic/socket.h
export const SOL_SOCKET = 1
export const SO_RCVBUF = 8
export const SO_ATTACH_FILTER = 26
export const SO_RCVBUFFORCE = 33

// linux/socket.h
export const AF_INET = 2
export const AF_BRIDGE = 7
export const AF_INET6 = 10

// linux/rtnetlink.h: message types
export const RTM_NEWLINK = 16
export const RTM_DELLINK = 17
export const RTM_GETLINK = 18
export const RTM_NEWADDR = 20
export const RTM_DELADDR = 21
export const RTM_GETADDR = 22
export const RTM_NEWROUTE = 24
export const RTM_DELROUTE = 25
export const RTM_GETROUTE = 26
export const RTM_NEWNEIGH = 28
export const RTM_DELNEIGH = 29
export const RTM_GETNEIGH = 30
export const RTM_NEWRULE = 32
export const RTM_DELRULE = 33
export const RTM_GETRULE = 34
export const RTM_NEWNEXTHOP = 104
export const RTM_DELNEXTHOP = 105
export const RTM_GETNEXTHOP = 106
export const RTM_NEWNETCONF = 80
export const RTM_GETNSID = 90
export const RTM_NEWMDB = 84
export const RTM_DELMDB = 85
export const RTM_GETMDB = 86

// linux/rtnetlink.h: multicast groups
export const RTNLGRP_LINK = 1
export const RTNLGRP_NEIGH = 3
export const RTNLGRP_IPV4_IFADDR = 5
export const RTNLGRP_IPV4_ROUTE = 7
export const RTNLGRP_IPV6_IFADDR = 9
export const RTNLGRP_IPV6_ROUTE = 11
export const RTNLGRP_MDB = 26
export const RTNLGRP_NEXTHOP = 32
export const RTNLGRP_IPV4_NETCONF = 24
export const RTNLGRP_IPV6_NETCONF = 25

// linux/rtnetlink.h: routes
export const RTA_DST = 1
export const RTA_OIF = 4
export const RTA_GATEWAY = 5
export const RTA_PRIORITY = 6
export const RTA_PREFSRC = 7
export const RTA_METRICS = 8
export const RTA_MULTIPATH = 9
export const RTA_TABLE = 15
export const RTA_ENCAP_TYPE = 21
export const RTA_NH_ID = 30
/** In RTA_METRICS. */
export const RTAX_MTU = 2
/** The table is named by an attribute: its number exceeds the 8 bits of the header. */
export const RT_TABLE_UNSPEC = 0
export const RT_TABLE_MAIN = 254
export const RTPROT_KERNEL = 2
export const RT_SCOPE_UNIVERSE = 0
export const RT_SCOPE_LINK = 253
export const RT_SCOPE_HOST = 254
/** In a delete request: matches a route of any scope. */
export const RT_SCOPE_NOWHERE = 255
export const RTN_UNICAST = 1
/** Type of a route to an address of this host. */
export const RTN_LOCAL = 2
export const RTN_BLACKHOLE = 6
export const RTN_UNREACHABLE = 7
/** The gateway is on the link, even if no route says so. */
export const RTNH_F_ONLINK = 0x4
/** A cached exception, not an entry of the table. */
export const RTM_F_CLONED = 0x200

// linux/rtnetlink.h: what a link dump omits
export const RTEXT_FILTER_SKIP_STATS = 0x8

// linux/in.h, linux/in6.h
export const IPPROTO_UDP = 17
export const IPPROTO_FRAGMENT = 44

// linux/if.h
/** Bytes of a link's name, with the null byte at its end. */
export const IFNAMSIZ = 16
export const IFF_UP = 0x1
export const IFF_LOOPBACK = 0x8
export const IFF_RUNNING = 0x40

// linux/if_link.h
export const IFLA_ADDRESS = 1
export const IFLA_IFNAME = 3
export const IFLA_MTU = 4
export const IFLA_MASTER = 10
export const IFLA_TXQLEN = 13
export const IFLA_LINKINFO = 18
export const IFLA_STATS64 = 23
export const IFLA_EXT_MASK = 29
/** Id, in our network namespace, of the namespace that the request is about. */
export const IFLA_TARGET_NETNSID = 46
export const IFLA_INFO_KIND = 1
export const IFLA_INFO_DATA = 2
export const IFLA_BR_MCAST_ROUTER = 22
export const IFLA_BR_MCAST_SNOOPING = 23
export const IFLA_BR_MCAST_STARTUP_QUERY_CNT = 29
export const IFLA_BR_MCAST_QUERY_RESPONSE_INTVL = 34
export const IFLA_BR_MCAST_STARTUP_QUERY_INTVL = 35
export const IFLA_BR_MCAST_QUERIER_STATE = 47
export const IFLA_VXLAN_ID = 1
export const IFLA_VXLAN_GROUP = 2
export const IFLA_VXLAN_LINK = 3
export const IFLA_VXLAN_LOCAL = 4
export const IFLA_VXLAN_TTL = 5
export const IFLA_VXLAN_TOS = 6
export const IFLA_VXLAN_LEARNING = 7
export const IFLA_VXLAN_PROXY = 11
export const IFLA_VXLAN_RSC = 12
export const IFLA_VXLAN_L2MISS = 13
export const IFLA_VXLAN_L3MISS = 14
export const IFLA_VXLAN_PORT = 15
export const IFLA_VXLAN_GROUP6 = 16
export const IFLA_VXLAN_LOCAL6 = 17
export const IFLA_VXLAN_UDP_ZERO_CSUM6_TX = 19
export const IFLA_VXLAN_UDP_ZERO_CSUM6_RX = 20
export const IFLA_VXLAN_GBP = 23

// linux/if_addr.h
export const IFA_ADDRESS = 1
export const IFA_LOCAL = 2
export const IFA_F_NODAD = 0x02
/** For IPv6 only (RFC 8981). For an IPv4 address, the same bit means that it is a secondary one. */
export const IFA_F_TEMPORARY = 0x01
/** Another host has the address too. */
export const IFA_F_DADFAILED = 0x08
/** The preferred life time is over. */
export const IFA_F_DEPRECATED = 0x20
/** Duplicate address detection is still running. */
export const IFA_F_TENTATIVE = 0x40
/** The address has no life time. */
export const IFA_F_PERMANENT = 0x80

// linux/neighbour.h
export const NDA_DST = 1
export const NDA_LLADDR = 2
export const NDA_PORT = 6
export const NDA_VNI = 7
export const NDA_IFINDEX = 8
export const NDA_NH_ID = 13
export const NDA_PROTOCOL = 12
export const NUD_INCOMPLETE = 0x01
export const NUD_FAILED = 0x20
export const NUD_PERMANENT = 0x80
/** Reachable, stale, delay, probe and permanent: states of a neighbour that has answered. */
export const NUD_KNOWN = 0x9e
/** The entry belongs to the device itself, as opposed to the bridge that it may be a port of. */
export const NTF_SELF = 0x2
/** The kernel finds the neighbour as it does for a packet to it. */
export const NTF_USE = 0x1
export const NTF_PROXY = 0x8

// linux/netfilter.h, linux/netfilter/nfnetlink.h
export const NFPROTO_INET = 1
export const NFPROTO_IPV4 = 2
export const NFPROTO_ARP = 3
export const NFPROTO_NETDEV = 5
export const NFPROTO_BRIDGE = 7
export const NFPROTO_IPV6 = 10
export const NF_INET_LOCAL_IN = 1
export const NF_INET_LOCAL_OUT = 3
export const NF_INET_POST_ROUTING = 4
export const NF_NETDEV_INGRESS = 0
export const NF_DROP = 0
export const NF_ACCEPT = 1
export const NFNL_SUBSYS_NFTABLES = 10
export const NFNL_MSG_BATCH_BEGIN = 0x10
export const NFNL_MSG_BATCH_END = 0x11
export const NFNLGRP_NFTABLES = 7

// linux/netfilter/nf_tables.h: message types, below those of the subsystem
export const NFT_MSG_NEWTABLE = 0
export const NFT_MSG_GETTABLE = 1
export const NFT_MSG_DELTABLE = 2
export const NFT_MSG_NEWCHAIN = 3
export const NFT_MSG_GETCHAIN = 4
export const NFT_MSG_NEWRULE = 6
export const NFT_MSG_GETRULE = 7
export const NFT_MSG_DELRULE = 8
export const NFT_MSG_NEWSET = 9
export const NFT_MSG_NEWSETELEM = 12
export const NFT_MSG_GETSETELEM = 13
export const NFT_MSG_DELSETELEM = 14
export const NFT_MSG_GETGEN = 16

// linux/netfilter/nf_tables.h: attributes
export const NFTA_TABLE_NAME = 1
export const NFTA_TABLE_FLAGS = 2
export const NFTA_TABLE_USE = 3
export const NFTA_TABLE_HANDLE = 4
export const NFTA_TABLE_PAD = 5
export const NFTA_GEN_ID = 1
export const NFTA_CHAIN_TABLE = 1
export const NFTA_CHAIN_HANDLE = 2
export const NFTA_CHAIN_NAME = 3
export const NFTA_CHAIN_HOOK = 4
export const NFTA_CHAIN_POLICY = 5
export const NFTA_CHAIN_USE = 6
export const NFTA_CHAIN_TYPE = 7
export const NFTA_CHAIN_PAD = 9
export const NFTA_CHAIN_FLAGS = 10
export const NFTA_HOOK_HOOKNUM = 1
export const NFTA_HOOK_PRIORITY = 2
export const NFTA_HOOK_DEV = 3
export const NFTA_HOOK_DEVS = 4
export const NFTA_RULE_TABLE = 1
export const NFTA_RULE_CHAIN = 2
export const NFTA_RULE_HANDLE = 3
export const NFTA_RULE_EXPRESSIONS = 4
export const NFTA_RULE_POSITION = 6
export const NFTA_RULE_PAD = 8
export const NFTA_LIST_ELEM = 1
export const NFTA_EXPR_NAME = 1
export const NFTA_EXPR_DATA = 2
export const NFTA_DATA_VALUE = 1
export const NFTA_DATA_VERDICT = 2
export const NFTA_VERDICT_CODE = 1
export const NFTA_VERDICT_CHAIN = 2
export const NFTA_META_DREG = 1
export const NFTA_META_KEY = 2
export const NFTA_PAYLOAD_DREG = 1
export const NFTA_PAYLOAD_BASE = 2
export const NFTA_PAYLOAD_OFFSET = 3
export const NFTA_PAYLOAD_LEN = 4
export const NFTA_BITWISE_SREG = 1
export const NFTA_BITWISE_DREG = 2
export const NFTA_BITWISE_LEN = 3
export const NFTA_BITWISE_MASK = 4
export const NFTA_BITWISE_XOR = 5
export const NFTA_BITWISE_OP = 6
export const NFTA_EXTHDR_DREG = 1
export const NFTA_EXTHDR_TYPE = 2
export const NFTA_EXTHDR_OFFSET = 3
export const NFTA_EXTHDR_LEN = 4
export const NFTA_EXTHDR_FLAGS = 5
export const NFTA_EXTHDR_OP = 6
export const NFTA_FIB_DREG = 1
export const NFTA_FIB_RESULT = 2
export const NFTA_FIB_FLAGS = 3
export const NFTA_CMP_SREG = 1
export const NFTA_CMP_OP = 2
export const NFTA_CMP_DATA = 3
export const NFTA_SET_TABLE = 1
export const NFTA_SET_NAME = 2
export const NFTA_SET_KEY_TYPE = 4
export const NFTA_SET_KEY_LEN = 5
export const NFTA_SET_ID = 10
export const NFTA_SET_ELEM_LIST_TABLE = 1
export const NFTA_SET_ELEM_LIST_SET = 2
export const NFTA_SET_ELEM_LIST_ELEMENTS = 3
export const NFTA_SET_ELEM_KEY = 1
export const NFTA_LOOKUP_SET = 1
export const NFTA_LOOKUP_SREG = 2
export const NFTA_LOOKUP_FLAGS = 5
export const NFTA_IMMEDIATE_DREG = 1
export const NFTA_IMMEDIATE_DATA = 2
export const NFTA_DUP_SREG_DEV = 2
export const NFTA_FWD_SREG_DEV = 1
export const NFTA_LIMIT_RATE = 1
export const NFTA_LIMIT_UNIT = 2
export const NFTA_LIMIT_BURST = 3
export const NFTA_LIMIT_TYPE = 4
export const NFTA_LIMIT_FLAGS = 5
export const NFTA_LIMIT_PAD = 6
export const NFTA_COUNTER_BYTES = 1
export const NFTA_COUNTER_PACKETS = 2
export const NFTA_COUNTER_PAD = 3

// linux/netfilter/nf_tables.h: values
export const NFT_REG_VERDICT = 0
export const NFT_REG_1 = 1
/** Verdicts are negative numbers, given as unsigned 32 bits. */
export const NFT_JUMP = -3 >>> 0
export const NFT_RETURN = -5 >>> 0
export const NFT_LIMIT_PKTS = 0
export const NFT_META_PROTOCOL = 1
export const NFT_META_IIFNAME = 6
export const NFT_META_OIFNAME = 7
export const NFT_META_NFPROTO = 15
export const NFT_META_L4PROTO = 16
export const NFT_PAYLOAD_LL_HEADER = 0
export const NFT_PAYLOAD_NETWORK_HEADER = 1
export const NFT_PAYLOAD_TRANSPORT_HEADER = 2
export const NFT_CMP_EQ = 0
export const NFT_CMP_NEQ = 1
export const NFT_CMP_GTE = 5
export const NFT_FIB_RESULT_ADDRTYPE = 3
export const NFTA_FIB_F_SADDR = 1

// linux/if_ether.h
export const ETH_P_IP = 0x0800
export const ETH_P_IPV6 = 0x86dd

// linux/if_bridge.h
export const BRIDGE_QUERIER_IP_ADDRESS = 1
export const BRIDGE_QUERIER_IPV6_ADDRESS = 5
export const MDBA_MDB = 1
export const MDBA_ROUTER = 2
export const MDBA_MDB_ENTRY = 1
export const MDBA_MDB_ENTRY_INFO = 1
export const MDBA_ROUTER_PORT = 1

// linux/netconf.h
export const NETCONFA_IFINDEX = 1
/** Stands for the index of all links. */
export const NETCONFA_IFINDEX_ALL = -1

// linux/net_namespace.h
export const NETNSA_NSID = 1

// linux/nexthop.h
export const NHA_ID = 1
export const NHA_OIF = 5
export const NHA_GATEWAY = 6

// linux/fib_rules.h
export const FRA_DST = 1
export const FRA_SRC = 2
export const FRA_IIFNAME = 3
export const FRA_PRIORITY = 6
export const FRA_FWMARK = 10
export const FRA_TABLE = 15
export const FRA_OIFNAME = 17
export const FRA_UID_RANGE = 20
export const FRA_PROTOCOL = 21
export const FRA_IP_PROTO = 22
export const FRA_SPORT_RANGE = 23
export const FRA_DPORT_RANGE = 24
/** Action: look up the table. */
export const FR_ACT_TO_TBL = 1
/** The rule is about packets that do not match. */
export const FIB_RULE_INVERT = 0x2

// linux/genetlink.h
/** Message type of the family that tells of the others. */
export const GENL_ID_CTRL = 0x10
export const CTRL_CMD_GETFAMILY = 3
export const CTRL_ATTR_FAMILY_ID = 1
export const CTRL_ATTR_FAMILY_NAME = 2

// linux/wireguard.h
export const WG_GENL_NAME = 'wireguard'
export const WG_GENL_VERSION = 1
export const WG_CMD_GET_DEVICE = 0
export const WG_CMD_SET_DEVICE = 1
export const WGDEVICE_A_IFINDEX = 1
export const WGDEVICE_A_IFNAME = 2
export const WGDEVICE_A_PRIVATE_KEY = 3
export const WGDEVICE_A_PUBLIC_KEY = 4
export const WGDEVICE_A_LISTEN_PORT = 6
export const WGDEVICE_A_PEERS = 8
export const WGPEER_A_PUBLIC_KEY = 1
export const WGPEER_A_PRESHARED_KEY = 2
export const WGPEER_A_FLAGS = 3
export const WGPEER_A_ENDPOINT = 4
export const WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL = 5
export const WGPEER_A_LAST_HANDSHAKE_TIME = 6
export const WGPEER_A_RX_BYTES = 7
export const WGPEER_A_TX_BYTES = 8
export const WGPEER_A_ALLOWEDIPS = 9
export const WGALLOWEDIP_A_FAMILY = 1
export const WGALLOWEDIP_A_IPADDR = 2
export const WGALLOWEDIP_A_CIDR_MASK = 3
export const WGPEER_F_REMOVE_ME = 0x1
export const WGPEER_F_REPLACE_ALLOWEDIPS = 0x2
export const WGPEER_F_UPDATE_ONLY = 0x4
