/** Permanent neighbours: address of a peer's gateway -> link-layer address (linux/neighbour.h). */
import { type Family, formatIp, type IpAddress, type MacAddress } from '../../model/address'
import type { AskedNeighbour } from '../../model/kernel/neighbour'
import type { Notification } from '../events/notification'
import type { Question, RequestFormat } from '../netlink/client'
import {
  NLM_F_CREATE,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
  NTF_USE,
  NUD_FAILED,
  NUD_INCOMPLETE,
  NUD_KNOWN,
  NUD_PERMANENT,
  RTM_DELNEIGH,
  RTM_GETNEIGH,
  RTM_NEWNEIGH,
  RTNLGRP_NEIGH,
} from '../netlink/constants'
import { familyNumber, familyNumberOf } from '../netlink/families'
import { neighbourMessage } from '../netlink/messages'
import type { KernelKind } from './kind'

export interface Neighbour {
  readonly address: IpAddress
  readonly mac: MacAddress
}

/**
 * Dump of the neighbours of one family on one link.
 * @param states only neighbours in one of these states (NUD_*); permanent ones were set by a program
 */
export const listNeighbours = (
  wanted: Family,
  linkIndex: number,
  states = NUD_PERMANENT,
): Question<Neighbour> => ({
  attempted: 'list neighbours',
  encode: (writer) =>
    neighbourMessage.encode(writer, RTM_GETNEIGH, NLM_F_REQUEST, {
      family: familyNumber(wanted),
      link: linkIndex,
    }),
  decode(view, start, end) {
    const { family, index, state, destination, linkAddress } = neighbourMessage.decode(view, start, end)
    if (family !== familyNumber(wanted) || index !== linkIndex || (state & states) === 0) return undefined
    if (destination === undefined || linkAddress === undefined) return undefined
    return { address: destination, mac: linkAddress }
  },
})

/** Dump of the neighbours of one family on one link that the kernel has asked. */
export const listAsked = (wanted: Family, linkIndex: number): Question<AskedNeighbour> => ({
  attempted: 'list neighbours',
  encode: listNeighbours(wanted, linkIndex).encode,
  decode(view, start, end) {
    const { family, index, state, destination } = neighbourMessage.decode(view, start, end)
    if (family !== familyNumber(wanted) || index !== linkIndex || destination === undefined) return undefined
    const asked = askedStateOf(state)
    return asked && { address: destination, state: asked }
  },
})

function askedStateOf(state: number): AskedNeighbour['state'] | undefined {
  if ((state & NUD_KNOWN) !== 0) return 'answered'
  if ((state & NUD_FAILED) !== 0) return 'failed'
  return (state & NUD_INCOMPLETE) === 0 ? undefined : 'asking'
}

/**
 * Has the kernel ask a neighbour again. The kernel drops entries of neighbours that have not answered from
 * 128 entries of all namespaces on (net/core/neighbour.c: neigh_periodic_work), so the entry may be new.
 */
export const ASK_AGAIN: RequestFormat<{ readonly address: IpAddress; readonly link: number }> = {
  encode: (writer, { address, link }) =>
    neighbourMessage.encode(writer, RTM_NEWNEIGH, NLM_F_REQUEST | NLM_F_CREATE, {
      family: familyNumberOf(address),
      index: link,
      flags: NTF_USE,
      destination: address,
    }),
  describe: ({ address }) => `ask the neighbour ${formatIp(address)} again`,
}

/** The kernel notifies neighbours and forwarding entries with the same messages. */
export const NEIGHBOUR_NOTIFICATION: Notification = {
  made: RTM_NEWNEIGH,
  deleted: RTM_DELNEIGH,
  groups: [RTNLGRP_NEIGH],
  // ndm_ifindex
  index: { at: 4 },
  namesSender: false,
}

/** The kernel refuses to delete a neighbour that is not there (ENOENT). */
export const neighbour: KernelKind<'neighbour'> = {
  async read({ dump, family, link }) {
    const neighbours = new Map<IpAddress, MacAddress>()
    for (const { address, mac } of await dump(listNeighbours(family, link))) neighbours.set(address, mac)
    return neighbours
  },
  encode(writer, link, { do: verb, key, value }) {
    const family = familyNumberOf(key)
    if (verb === 'delete') {
      neighbourMessage.encode(writer, RTM_DELNEIGH, NLM_F_REQUEST, { family, index: link, destination: key })
      return
    }
    neighbourMessage.encode(writer, RTM_NEWNEIGH, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE, {
      family,
      index: link,
      state: NUD_PERMANENT,
      destination: key,
      linkAddress: value,
    })
  },
  notification: NEIGHBOUR_NOTIFICATION,
}
