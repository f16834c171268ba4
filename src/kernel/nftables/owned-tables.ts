/**
 * Names that one process of a network namespace holds until it ends: tables of nftables with an owner (Linux
 * 5.12, NFT_TABLE_F_OWNER). Making such a table takes CAP_NET_ADMIN. Only its owner can change or delete it,
 * and `nft flush ruleset` skips it. The kernel removes it when the owner's socket is closed, also by a crash.
 * Our tables have no chain, so no packet meets them.
 */
import { readFileSync } from 'node:fs'
import { NetlinkClient, type RequestFormat } from '../netlink/client'
import {
  NETLINK_NETFILTER,
  NFT_MSG_NEWTABLE,
  NFTA_TABLE_NAME,
  NLM_F_CREATE,
  NLM_F_EXCL,
} from '../netlink/constants'
import { NetlinkError } from '../netlink/errors'
import { openRawSocket } from '../netlink/raw-socket'
import { TABLE_TRANSACTION, writeMessage } from './netfilter'

/** linux/netfilter/nf_tables.h */
const NFTA_TABLE_FLAGS = 2
const NFT_TABLE_F_OWNER = 2
/** Bit of CAP_NET_ADMIN (linux/capability.h). */
const CAP_NET_ADMIN = 12n

const FORMAT: RequestFormat<string> = {
  encode: (writer, table) =>
    writeMessage(writer, 'netdev', NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL, [
      [NFTA_TABLE_NAME, table],
      [NFTA_TABLE_FLAGS, NFT_TABLE_F_OWNER],
    ]),
  describe: (table) => `make the nftables table netdev ${table}`,
}
const FRAME = { ...TABLE_TRANSACTION, what: 'lock a device' }

/** `unsupported`: the kernel has no tables with an owner, or this process has no right to make one. */
export type Taking = 'taken' | 'held' | 'unsupported'

export class OwnedTables {
  private constructor(private readonly client: NetlinkClient) {}

  /** @throws {OverlayError} `netlink-open`, `netlink-option` */
  static async open(): Promise<OwnedTables> {
    const connect = (handlers: Parameters<typeof openRawSocket>[0]) =>
      openRawSocket(handlers, { protocol: NETLINK_NETFILTER })
    return new OwnedTables(await NetlinkClient.open(connect, () => undefined))
  }

  /** Takes a name until the process ends. */
  async take(table: string): Promise<Taking> {
    if (!mayChangeNetwork()) return 'unsupported'
    try {
      await this.client.transaction([table], FORMAT, FRAME)
      return 'taken'
    } catch (error) {
      if (!(error instanceof NetlinkError)) throw error
      // EPERM: another process owns the table. EEXIST: a process with the same right made one without an
      // owner.
      return ['EPERM', 'EEXIST', 'EBUSY'].includes(error.errnoName) ? 'held' : 'unsupported'
    }
  }
}

function mayChangeNetwork(): boolean {
  const [, mask = '0'] = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'latin1')) ?? []
  return ((BigInt(`0x${mask}`) >> CAP_NET_ADMIN) & 1n) === 1n
}
