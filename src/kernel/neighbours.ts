/** Permanent neighbours: which link-layer address a peer's gateway has (linux/neighbour.h). */
import type { Family, IpAddress, MacAddress } from '../model/address'
import { familyNumber, familyNumberOf } from './families'
import type { MessageWriter } from './netlink/bytes'
import type { Question } from './netlink/client'
import {
  NLM_F_CREATE,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
  NUD_PERMANENT,
  RTM_DELNEIGH,
  RTM_GETNEIGH,
  RTM_NEWNEIGH,
} from './netlink/constants'
import { neighbourMessage } from './netlink/messages'

export interface Neighbour {
  readonly address: IpAddress
  readonly mac: MacAddress
}

/**
 * The neighbours of one family on one link; as a dump.
 * @param states those in one of these; the permanent ones are those that someone has set
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

/** Appends the message that adds a neighbour or gives it another link-layer address. */
export function encodeSetNeighbour(writer: MessageWriter, index: number, { address, mac }: Neighbour): void {
  neighbourMessage.encode(writer, RTM_NEWNEIGH, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE, {
    family: familyNumberOf(address),
    index,
    state: NUD_PERMANENT,
    destination: address,
    linkAddress: mac,
  })
}

/** Appends the message that removes a neighbour; ENOENT when there is none. */
export function encodeDeleteNeighbour(writer: MessageWriter, index: number, address: IpAddress): void {
  neighbourMessage.encode(writer, RTM_DELNEIGH, NLM_F_REQUEST, {
    family: familyNumberOf(address),
    index,
    destination: address,
  })
}
