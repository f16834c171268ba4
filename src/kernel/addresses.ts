/** Addresses of interfaces (linux/if_addr.h). */
import type { Family, Prefix } from '../model/address'
import type { InterfaceAddress } from '../model/kernel'
import { familyNumber, familyNumberOf } from './families'
import type { MessageWriter } from './netlink/bytes'
import type { Question } from './netlink/client'
import {
  NLM_F_CREATE,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
  RT_SCOPE_HOST,
  RT_SCOPE_LINK,
  RT_SCOPE_UNIVERSE,
  RTM_DELADDR,
  RTM_GETADDR,
  RTM_NEWADDR,
} from './netlink/constants'
import { addressMessage } from './netlink/messages'

/** The addresses of one family, of one link or of all; as a dump. ENODEV when there is no such link. */
export const listAddresses = (family: Family, linkIndex?: number): Question<InterfaceAddress> => ({
  attempted: 'list interface addresses',
  encode: (writer) =>
    addressMessage.encode(writer, RTM_GETADDR, NLM_F_REQUEST, {
      family: familyNumber(family),
      index: linkIndex ?? 0,
    }),
  decode(view, start, end) {
    const message = addressMessage.decode(view, start, end)
    // On a point-to-point link IFA_ADDRESS is the other end.
    const address = message.local ?? message.address
    if (address === undefined) return undefined
    return {
      linkIndex: message.index,
      address: { address, length: message.prefixLength },
      scope: scopeName(message.scope),
    }
  },
})

/** Appends the message that gives a link an address, of global scope. */
export function encodeAddAddress(writer: MessageWriter, index: number, { address, length }: Prefix): void {
  addressMessage.encode(writer, RTM_NEWADDR, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE, {
    family: familyNumberOf(address),
    prefixLength: length,
    scope: RT_SCOPE_UNIVERSE,
    index,
    local: address,
    address,
  })
}

/** Appends the message that takes an address from a link; EADDRNOTAVAIL when it has not got it. */
export function encodeDeleteAddress(writer: MessageWriter, index: number, { address, length }: Prefix): void {
  addressMessage.encode(writer, RTM_DELADDR, NLM_F_REQUEST, {
    family: familyNumberOf(address),
    prefixLength: length,
    index,
    local: address,
  })
}

function scopeName(scope: number): InterfaceAddress['scope'] {
  if (scope === RT_SCOPE_UNIVERSE) return 'global'
  if (scope === RT_SCOPE_LINK) return 'link'
  if (scope === RT_SCOPE_HOST) return 'host'
  return 'other'
}
