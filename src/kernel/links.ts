/** Network interfaces: finding them, and making, changing and removing our VXLAN device (linux/rtnetlink.h, linux/if_link.h). */
import { type IpAddress, mac } from '../model/address'
import type { LinkOperation, LinkSpec, ObservedLink, ObservedVxlan } from '../model/kernel'
import type { MessageWriter } from './netlink/bytes'
import type { Question } from './netlink/client'
import type { MessageOf } from './netlink/codec'
import {
  IFF_UP,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REQUEST,
  RTEXT_FILTER_SKIP_STATS,
  RTM_DELLINK,
  RTM_GETLINK,
  RTM_GETNSID,
  RTM_NEWLINK,
} from './netlink/constants'
import { linkMessage, namespaceMessage } from './netlink/messages'

type LinkMessage = MessageOf<typeof linkMessage>

/** The UDP port of a VXLAN device that was made without one (drivers/net/vxlan, module parameter udp_port). */
export const KERNEL_VXLAN_PORT = 8472

/** All links; as a dump. */
export const listLinks: Question<ObservedLink> = {
  attempted: 'list network interfaces',
  encode: (writer) =>
    linkMessage.encode(writer, RTM_GETLINK, NLM_F_REQUEST, { extensionMask: RTEXT_FILTER_SKIP_STATS }),
  decode: decodeLink,
}

/** The links of another network namespace, by the number that ours has for it; as a dump. */
export const listLinksIn = (targetNamespace: number): Question<ObservedLink> => ({
  attempted: 'list the network interfaces of another namespace',
  encode: (writer) =>
    linkMessage.encode(writer, RTM_GETLINK, NLM_F_REQUEST, {
      extensionMask: RTEXT_FILTER_SKIP_STATS,
      targetNamespace,
    }),
  decode: decodeLink,
})

/** The numbers of the network namespaces that ours knows; as a dump. */
export const listNamespaces: Question<number> = {
  attempted: 'list network namespaces',
  encode: (writer) => namespaceMessage.encode(writer, RTM_GETNSID, NLM_F_REQUEST, {}),
  decode: (view, start, end) => namespaceMessage.decode(view, start, end).id,
}

/** The link of that name; ENODEV when there is none. */
export const findLink = (name: string): Question<ObservedLink> => ({
  attempted: `read network interface ${name}`,
  encode: (writer) =>
    linkMessage.encode(writer, RTM_GETLINK, NLM_F_REQUEST, { name, extensionMask: RTEXT_FILTER_SKIP_STATS }),
  decode: decodeLink,
})

/** Appends the message that creates a device; EEXIST when its name or its VNI and port are taken. */
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

/** Appends the message that removes a device, of another namespace where one is named. */
export function encodeDeleteLink(writer: MessageWriter, index: number, targetNamespace?: number): void {
  linkMessage.encode(writer, RTM_DELLINK, NLM_F_REQUEST, { index, targetNamespace })
}

/** Appends the message that changes a device in place; what is not named stays. */
export function encodeChangeLink(
  writer: MessageWriter,
  { index, mac: address, mtu, free, ...change }: Extract<LinkOperation, { kind: 'change-link' }>,
): void {
  const vxlan = { learning: change.learning, link: change.parent, ...localAddress(change.local) }
  const info = hasVxlanPart(change) ? { kind: 'vxlan', vxlan } : undefined
  const master = free ? 0 : undefined
  linkMessage.encode(writer, RTM_NEWLINK, NLM_F_REQUEST, { index, address, mtu, master, info })
}

/** Appends the message that gives a device another name; EBUSY for one that is up, before Linux 5.17. */
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

/** Whether a change concerns what only VXLAN devices have. */
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
    vxlan: observedVxlan(message.info?.vxlan),
  }
}

function observedVxlan(vxlan: NonNullable<LinkMessage['info']>['vxlan']): ObservedVxlan | undefined {
  if (vxlan === undefined) return undefined
  return {
    vni: vxlan.id ?? 0,
    port: vxlan.port ?? KERNEL_VXLAN_PORT,
    local: told(vxlan.local) ?? told(vxlan.local6),
    parent: vxlan.link === 0 ? undefined : vxlan.link,
    group: told(vxlan.group) ?? told(vxlan.group6),
    learning: vxlan.learning ?? false,
    gbp: vxlan.gbp ?? false,
    l2miss: vxlan.l2miss ?? false,
  }
}

/** The null address means that there is none. */
const told = (address: IpAddress | undefined): IpAddress | undefined => address || undefined
