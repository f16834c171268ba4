/** Addresses of interfaces (linux/if_addr.h). */
import type { Family, Prefix } from '../../model/address'
import type { HostAddress, InterfaceAddress } from '../../model/kernel/link'
import type { MessageWriter } from '../netlink/bytes'
import type { Question } from '../netlink/client'
import {
  AF_INET6,
  IFA_F_DADFAILED,
  IFA_F_DEPRECATED,
  IFA_F_NODAD,
  IFA_F_PERMANENT,
  IFA_F_TEMPORARY,
  IFA_F_TENTATIVE,
  NLM_F_CREATE,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
  RT_SCOPE_HOST,
  RT_SCOPE_LINK,
  RT_SCOPE_UNIVERSE,
  RTM_DELADDR,
  RTM_GETADDR,
  RTM_NEWADDR,
} from '../netlink/constants'
import { familyNumber, familyNumberOf } from '../netlink/families'
import { addressMessage } from '../netlink/messages'

/** Dump: the addresses of one family, of one link or of all. ENODEV if there is no such link. */
export const listAddresses = (family: Family, linkIndex?: number): Question<HostAddress> => ({
  attempted: 'list interface addresses',
  encode: (writer) =>
    addressMessage.encode(writer, RTM_GETADDR, NLM_F_REQUEST, {
      family: familyNumber(family),
      index: linkIndex ?? 0,
    }),
  decode(view, start, end) {
    const message = addressMessage.decode(view, start, end)
    // On a point-to-point link, IFA_ADDRESS is the address of the other end.
    const address = message.local ?? message.address
    // A kernel without IPv6 answers the request for IPv6 addresses with all addresses it has.
    if (address === undefined || message.family !== familyNumber(family)) return undefined
    return {
      linkIndex: message.index,
      address: { address, length: message.prefixLength },
      scope: scopeName(message.scope),
      permanent: (message.flags & IFA_F_PERMANENT) !== 0,
      temporary: message.family === AF_INET6 && (message.flags & IFA_F_TEMPORARY) !== 0,
      deprecated: (message.flags & IFA_F_DEPRECATED) !== 0,
      tentative: (message.flags & IFA_F_TENTATIVE) !== 0,
      duplicate: (message.flags & IFA_F_DADFAILED) !== 0,
    }
  },
})

/**
 * Appends the message that adds an address of global scope to a link. The address is usable at once, without
 * duplicate address detection (RFC 4862): a VXLAN device that floods nothing cannot ask other hosts.
 */
export function encodeAddAddress(writer: MessageWriter, index: number, { address, length }: Prefix): void {
  addressMessage.encode(writer, RTM_NEWADDR, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE, {
    family: familyNumberOf(address),
    prefixLength: length,
    flags: typeof address === 'bigint' ? IFA_F_NODAD : 0,
    scope: RT_SCOPE_UNIVERSE,
    index,
    local: address,
    address,
  })
}

/** Appends the message that removes an address from a link; EADDRNOTAVAIL if the link does not have it. */
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
