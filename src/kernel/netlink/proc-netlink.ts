/**
 * Facts from /proc about our sockets: their descriptors, which the library hides, and how many datagrams they
 * lost, which no socket option reports.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { NETLINK_ROUTE } from './constants'

/** One line of /proc/net/netlink. */
export interface NetlinkRow {
  readonly inode: string
  readonly drops: number
}

/**
 * The row of the netlink socket with that protocol and port id, in the text of /proc/net/netlink. Columns:
 * sk, Eth (the protocol), Pid (the port id), Groups, Rmem, Wmem, Dump, Locks, Drops, Inode
 * (net/netlink/af_netlink.c).
 */
export function findNetlinkRow(
  table: string,
  portId: number,
  wanted = NETLINK_ROUTE,
): NetlinkRow | undefined {
  for (const line of table.split('\n')) {
    const [, protocol, port, , , , , , drops, inode] = line.trim().split(/\s+/)
    if (Number(protocol) !== wanted || Number(port) !== portId) continue
    if (drops !== undefined && inode !== undefined) return { inode, drops: Number(drops) }
  }
  return undefined
}

/** Reads the row of a netlink socket of this network namespace. Takes a few hundred microseconds. */
export function readNetlinkRow(portId: number, protocol = NETLINK_ROUTE): NetlinkRow | undefined {
  return findNetlinkRow(readFileSync('/proc/net/netlink', 'latin1'), portId, protocol)
}

/** The descriptor of the socket with that inode in this process. */
export function findDescriptor(inode: string): number | undefined {
  const wanted = `socket:[${inode}]`
  for (const descriptor of readdirSync('/proc/self/fd')) {
    if (linkTarget(descriptor) === wanted) return Number(descriptor)
  }
  return undefined
}

function linkTarget(descriptor: string): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`)
  } catch {
    // Closed since the directory was read. This is always so for the listing's own descriptor.
    return undefined
  }
}
