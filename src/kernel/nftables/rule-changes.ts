/**
 * Notifications of the kernel about rules of nf_tables, of any program: nft, iptables in its nf_tables
 * variant, firewalld. They are hints: a receive queue that is full loses some.
 */
import { OverlayError } from '../../model/errors'
import { MessageCursor } from '../netlink/bytes'
import { attributesIn } from '../netlink/codec'
import * as k from '../netlink/constants'
import { text } from '../netlink/layout'
import { openRawSocket } from '../netlink/raw-socket'
import { familyWord, NFGENMSG_SIZE } from './netfilter'

/**
 * @param changed called for each datagram, when rules, chains, tables or sets may have changed. `places` are
 *   the chains of its rules, such as `ip nat POSTROUTING `; it is a call, because most listeners need none
 * @param report called with errors that belong to no call
 * @returns closes the socket
 * @throws {OverlayError} `netlink-open`, `netlink-option` where the kernel has no netfilter sockets, or the
 *   process may have no more files
 */
export async function followRules(
  changed: (places: () => readonly string[]) => void,
  report: (error: Error) => void,
): Promise<() => void> {
  const socket = await openRawSocket(
    { onDatagram: (datagram) => changed(() => placesIn(datagram)), onError: report },
    { protocol: k.NETLINK_NETFILTER },
  )
  try {
    socket.addMembership(k.NFNLGRP_NFTABLES)
  } catch (cause) {
    socket.close()
    throw new OverlayError('netlink-option', 'cannot follow the rules of nftables', undefined, { cause })
  }
  return () => socket.close()
}

const NEW_RULE = (k.NFNL_SUBSYS_NFTABLES << 8) | k.NFT_MSG_NEWRULE
const DELETED_RULE = (k.NFNL_SUBSYS_NFTABLES << 8) | k.NFT_MSG_DELRULE

/**
 * The chains of the rules in a datagram.
 * @throws {MalformedMessageError}
 */
export function placesIn(datagram: Uint8Array): readonly string[] {
  const places: string[] = []
  for (const cursor = new MessageCursor(datagram); cursor.next(); ) {
    const { view, start, end, type } = cursor
    if (type !== NEW_RULE && type !== DELETED_RULE) continue
    let [table, chain] = ['', '']
    for (const [attribute, at, stop] of attributesIn(view, start + NFGENMSG_SIZE, end)) {
      if (attribute === k.NFTA_RULE_TABLE) table = text.read(view, at, stop - at, 'table') ?? ''
      if (attribute === k.NFTA_RULE_CHAIN) chain = text.read(view, at, stop - at, 'chain') ?? ''
    }
    places.push(`${familyWord(view.getUint8(start))} ${table} ${chain} `)
  }
  return places
}
