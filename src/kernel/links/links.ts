/**
 * Network interfaces: finds links, and creates, changes and removes devices of VXLAN and WireGuard
 * (linux/rtnetlink.h, linux/if_link.h).
 */
import { type IpAddress, mac } from '../../model/address'
import {
  KERNEL_VXLAN_PORT,
  type LinkOperation,
  type LinkSpec,
  type ObservedLink,
  type ObservedVxlan,
} from '../../model/kernel/link'
import type { WireguardLink } from '../../model/kernel/wireguard'
import type { MessageWriter } from '../netlink/bytes'
import type { Question } from '../netlink/client'
import type { MessageOf } from '../netlink/codec'
import {
  IFF_LOOPBACK,
  IFF_RUNNING,
  IFF_UP,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REQUEST,
  RTEXT_FILTER_SKIP_STATS,
  RTM_DELLINK,
  RTM_GETLINK,
  RTM_GETNSID,
  RTM_NEWLINK,
} from '../netlink/constants'
import { linkMessage, namespaceMessage } from '../netlink/messages'

type LinkMessage = MessageOf<typeof linkMessage>

/** IFLA_INFO_KIND of a WireGuard device. */
export const WIREGUARD = 'wireguard'

/** Dump: all links. */
export const listLinks: Question<ObservedLink> = {
  attempted: 'list network interfaces',
  encode: (writer) =>
    linkMessage.encode(writer, RTM_GETLINK, NLM_F_REQUEST, { extensionMask: RTEXT_FILTER_SKIP_STATS }),
  decode: decodeLink,
}

/** Dump: the links of another network namespace, named by the id it has in ours. */
export const listLinksIn = (targetNamespace: number): Question<ObservedLink> => ({
  attempted: 'list the network interfaces of another namespace',
  encode: (writer) =>
    linkMessage.encode(writer, RTM_GETLINK, NLM_F_REQUEST, {
      extensionMask: RTEXT_FILTER_SKIP_STATS,
      targetNamespace,
    }),
  decode: decodeLink,
})

/** Dump: the ids of the network namespaces that have one in ours. */
export const listNamespaces: Question<number> = {
  attempted: 'list network namespaces',
  encode: (writer) => namespaceMessage.encode(writer, RTM_GETNSID, NLM_F_REQUEST, {}),
  decode: (view, start, end) => namespaceMessage.decode(view, start, end).id,
}

/** The link with that name; ENODEV if there is none. */
export const findLink = (name: string): Question<ObservedLink> => ({
  attempted: `read network interface ${name}`,
  encode: (writer) =>
    linkMessage.encode(writer, RTM_GETLINK, NLM_F_REQUEST, { name, extensionMask: RTEXT_FILTER_SKIP_STATS }),
  decode: decodeLink,
})

/** Appends the message that creates a device; EEXIST if its name, or its VNI and port, are taken. */
export function encodeCreateLink(writer: MessageWriter, link: LinkSpec): void {
  linkMessage.encode(writer, RTM_NEWLINK, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL, {
    name: link.name,
    mtu: link.mtu,
    queueLength: 0,
    address: link.mac,
    info: {
      kind: 'vxlan',
      vxlan: {
        id: link.vni,
        link: link.parent,
        ...localAddress(link.local),
        ttl: 0,
        tos: 0,
        learning: link.learning,
        proxy: false,
        rsc: false,
        l2miss: false,
        l3miss: false,
        port: link.port,
        zeroCsum6Tx: false,
        zeroCsum6Rx: false,
        gbp: link.gbp,
      },
    },
  })
}

/** Appends the message that creates a WireGuard device, without key and port; EEXIST if its name is taken. */
export function encodeCreateWireguard(writer: MessageWriter, { name, mtu }: WireguardLink): void {
  linkMessage.encode(writer, RTM_NEWLINK, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL, {
    name,
    mtu,
    info: { kind: WIREGUARD },
  })
}

/** Appends the message that removes a device, in another namespace if one is named. */
export function encodeDeleteLink(writer: MessageWriter, index: number, targetNamespace?: number): void {
  linkMessage.encode(writer, RTM_DELLINK, NLM_F_REQUEST, { index, targetNamespace })
}

/** Appends the message that changes a device in place; attributes that are not given stay. */
export function encodeChangeLink(
  writer: MessageWriter,
  { index, mac: address, mtu, detach, ...change }: Extract<LinkOperation, { kind: 'change-link' }>,
): void {
  const vxlan = { learning: change.learning, link: change.parent, ...localAddress(change.local) }
  const info = hasVxlanPart(change) ? { kind: 'vxlan', vxlan } : undefined
  const master = detach ? 0 : undefined
  linkMessage.encode(writer, RTM_NEWLINK, NLM_F_REQUEST, { index, address, mtu, master, info })
}

/** Appends the message that renames a device; EBUSY before Linux 5.17 if it is up. */
export function encodeRenameLink(writer: MessageWriter, index: number, name: string): void {
  linkMessage.encode(writer, RTM_NEWLINK, NLM_F_REQUEST, { index, name })
}

/** Appends the message that sets a device down. */
export function encodeLinkDown(writer: MessageWriter, index: number): void {
  linkMessage.encode(writer, RTM_NEWLINK, NLM_F_REQUEST, { index, flags: 0, change: IFF_UP })
}

/** Appends the message that sets a device up. */
export function encodeLinkUp(writer: MessageWriter, index: number): void {
  linkMessage.encode(writer, RTM_NEWLINK, NLM_F_REQUEST, { index, flags: IFF_UP, change: IFF_UP })
}

/** Whether a change contains attributes that only VXLAN devices have. */
export const hasVxlanPart = ({
  learning,
  local,
  parent,
}: Pick<Extract<LinkOperation, { kind: 'change-link' }>, 'learning' | 'local' | 'parent'>): boolean =>
  learning !== undefined || local !== undefined || parent !== undefined

const localAddress = (address: IpAddress | undefined) =>
  typeof address === 'bigint' ? { local6: address } : { local: address }

function decodeLink(view: DataView, start: number, end: number): ObservedLink {
  const message = linkMessage.decode(view, start, end)
  return {
    index: message.index,
    name: message.name ?? '',
    mac: message.address ?? mac(0),
    mtu: message.mtu ?? 0,
    master: message.master || undefined,
    up: (message.flags & IFF_UP) !== 0,
    kind: message.info?.kind,
    ...((message.flags & IFF_LOOPBACK) !== 0 && { loopback: true as const }),
    ...((message.flags & (IFF_UP | IFF_RUNNING)) === IFF_UP && { noCarrier: true as const }),
    vxlan: observedVxlan(message.info?.vxlan),
  }
}

function observedVxlan(vxlan: NonNullable<LinkMessage['info']>['vxlan']): ObservedVxlan | undefined {
  if (vxlan === undefined) return undefined
  return {
    vni: vxlan.id ?? 0,
    port: vxlan.port ?? KERNEL_VXLAN_PORT,
    local: nonNull(vxlan.local) ?? nonNull(vxlan.local6),
    parent: vxlan.link === 0 ? undefined : vxlan.link,
    group: nonNull(vxlan.group) ?? nonNull(vxlan.group6),
    learning: vxlan.learning ?? false,
    gbp: vxlan.gbp ?? false,
    l2miss: vxlan.l2miss ?? false,
  }
}

/** The null address means no address. */
const nonNull = (address: IpAddress | undefined): IpAddress | undefined => address || undefined
