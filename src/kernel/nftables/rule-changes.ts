/**
 * Notifications of the kernel about rules of nf_tables, of any program: nft, iptables in its nf_tables
 * variant, firewalld. They are hints only, and are not decoded.
 */
import { NETLINK_NETFILTER, NFNLGRP_NFTABLES } from '../netlink/constants'
import { openRawSocket } from '../netlink/raw-socket'

/**
 * @param changed called when rules may have changed
 * @param report called with errors that belong to no call
 * @returns closes the socket
 * @throws {OverlayError} `netlink-open`, `netlink-option` where the kernel has no netfilter sockets
 */
export async function followRules(changed: () => void, report: (error: Error) => void): Promise<() => void> {
  const socket = await openRawSocket(
    { onDatagram: changed, onError: report },
    { protocol: NETLINK_NETFILTER },
  )
  try {
    socket.addMembership(NFNLGRP_NFTABLES)
  } catch (error) {
    socket.close()
    throw error
  }
  return () => socket.close()
}
