/**
 * Proxy neighbours: addresses that this host answers for on a link (NTF_PROXY, linux/neighbour.h). The kernel
 * announces no change of them. Since Linux 5.0 it remembers whose they are.
 */
import { type Family, prefixContains } from '../../model/address'
import { type ProxyEntry, type ProxyKey, proxyKey } from '../../model/kernel/objects'
import { ROUTE_PROTOCOL } from '../../model/kernel/route'
import type { Question } from '../netlink/client'
import {
  NLM_F_CREATE,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
  NTF_PROXY,
  RTM_DELNEIGH,
  RTM_GETNEIGH,
  RTM_NEWNEIGH,
} from '../netlink/constants'
import { familyNumber, familyNumberOf } from '../netlink/families'
import { neighbourMessage } from '../netlink/messages'
import type { KernelKind } from './kind'
import { NEIGHBOUR_NOTIFICATION } from './neighbours'

/** Dump of the proxy neighbours of our protocol, of one family on all links. */
export const listProxies = (wanted: Family): Question<ProxyEntry> => ({
  attempted: 'list proxy neighbours',
  encode: (writer) =>
    neighbourMessage.encode(writer, RTM_GETNEIGH, NLM_F_REQUEST, {
      family: familyNumber(wanted),
      flags: NTF_PROXY,
    }),
  decode(view, start, end) {
    const { family, index, flags, destination, protocol } = neighbourMessage.decode(view, start, end)
    if (family !== familyNumber(wanted) || (flags & NTF_PROXY) === 0) return undefined
    if (destination === undefined || protocol !== ROUTE_PROTOCOL) return undefined
    return { address: destination, link: index }
  },
})

/** The kernel refuses to delete one that is not there (ENOENT), and takes one that is there again. */
export const proxy: KernelKind<'proxy'> = {
  async read({ dump, family, elsewhere: { network, allowed = [], proxies = false } }) {
    const found = new Map<ProxyKey, ProxyEntry>()
    if (!proxies || network === undefined) return found
    const ranges = [network, ...allowed]
    for (const entry of await dump(listProxies(family)))
      if (ranges.some((range) => prefixContains(range, entry.address))) found.set(proxyKey(entry), entry)
    return found
  },
  encode(writer, _, { do: verb, value: { address, link } }) {
    const entry = { family: familyNumberOf(address), index: link, flags: NTF_PROXY, destination: address }
    if (verb === 'delete') neighbourMessage.encode(writer, RTM_DELNEIGH, NLM_F_REQUEST, entry)
    else
      neighbourMessage.encode(writer, RTM_NEWNEIGH, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE, {
        ...entry,
        protocol: ROUTE_PROTOCOL,
      })
  },
  notification: NEIGHBOUR_NOTIFICATION,
}
